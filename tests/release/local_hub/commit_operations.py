"""What tests commit to a Hub."""

from __future__ import annotations

from huggingface_hub import CommitOperationAdd

CARD = b"---\nlicense: mit\ntags: [rlhf]\nbase_model: org/base\n---\n# Demo\n"


def add(path: str, content: bytes) -> CommitOperationAdd:
    return CommitOperationAdd(path_in_repo=path, path_or_fileobj=content)
