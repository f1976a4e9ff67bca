"""What a client of the Hub does, by whichever huggingface_hub is installed: does the embedded Hub answer older ones too?

    python -m release hub --root runs/hub --port 8484 --token-file runs/token
    python -m venv old && old/bin/pip install 'huggingface_hub==1.3.*'
    HF_ENDPOINT=http://127.0.0.1:8484 HF_TOKEN=$(cat runs/token) HF_HOME=$(mktemp -d) old/bin/python benchmarks/hub_client.py

Needs nothing but huggingface_hub. Prints a line for each thing that was done and seen; ends with an AssertionError, or the
client's own error, at the first that was not.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import huggingface_hub
from huggingface_hub import CommitOperationAdd, HfApi, HfFileSystem, hf_hub_download, snapshot_download
from huggingface_hub.errors import EntryNotFoundError, RepositoryNotFoundError

LARGE = 24 << 20  # bytes: above every limit from which a file travels as a large one


def main() -> None:
    api = HfApi()
    print(f"huggingface_hub {huggingface_hub.__version__} at {api.endpoint}, as {api.whoami()['name']}")
    repo = f"{api.whoami()['name']}/client-{secrets.token_hex(4)}"
    api.create_repo(repo, private=True)
    print(f"created {repo}")
    try:
        with tempfile.TemporaryDirectory() as place, directory(Path(place)) as folder:
            files(api, repo, folder)
            refs(api, repo)
            pull_request(api, repo)
            lists(api, repo)
    finally:
        api.delete_repo(repo)
    assert not api.repo_exists(repo)
    print("deleted it; nothing is there any more")


@contextmanager
def directory(place: Path) -> Iterator[Path]:
    """A folder to upload: a card, a text in a folder, and a large binary file."""
    (place / "sub").mkdir()
    (place / "README.md").write_text("---\nlicense: mit\n---\n# A model\n", encoding="utf-8")
    (place / "sub" / "notes.txt").write_text("notes\n", encoding="utf-8")
    (place / "large.bin").write_bytes(os.urandom(LARGE))
    yield place


def files(api: HfApi, repo: str, folder: Path) -> None:
    api.upload_folder(repo_id=repo, folder_path=folder, commit_message="Add all")
    with tempfile.TemporaryDirectory() as cache:
        there = Path(snapshot_download(repo, cache_dir=cache))
        for name in ("README.md", "sub/notes.txt", "large.bin"):
            assert digest((there / name).read_bytes()) == digest((folder / name).read_bytes()), name
    print(f"uploaded a folder with {LARGE >> 20} MB in one file (Xet), downloaded it whole, hashes equal")
    content = os.urandom(LARGE)
    api.create_commit(repo, [CommitOperationAdd("bytes.bin", content)], commit_message="Add bytes")
    with tempfile.TemporaryDirectory() as cache:
        assert digest(Path(hf_hub_download(repo, "bytes.bin", cache_dir=cache)).read_bytes()) == digest(content)
    print("uploaded bytes in a commit (LFS), downloaded them, hashes equal")
    api.delete_file("sub/notes.txt", repo)
    try:
        hf_hub_download(repo, "sub/notes.txt", force_download=True)
    except EntryNotFoundError:
        print("deleted a file; EntryNotFoundError after it")
    else:
        raise AssertionError("a deleted file is still there")


def refs(api: HfApi, repo: str) -> None:
    api.create_branch(repo, branch="work")
    api.create_tag(repo, tag="v1")
    found = api.list_repo_refs(repo)
    assert {"main", "work"} <= {branch.name for branch in found.branches}
    assert [tag.name for tag in found.tags] == ["v1"]
    assert len(api.list_repo_commits(repo)) >= 3
    assert HfFileSystem().read_text(f"{repo}@v1/README.md").startswith("---")
    print("made a branch and a tag; listed refs and commits; read a file through HfFileSystem at the tag")


def pull_request(api: HfApi, repo: str) -> None:
    operations = [CommitOperationAdd("more.txt", b"more\n")]
    made = api.create_commit(repo, operations, commit_message="Add more", create_pr=True)
    number = int(str(made.pr_num))
    assert "more.txt" not in api.list_repo_files(repo)
    assert "more.txt" in api.list_repo_files(repo, revision=f"refs/pr/{number}")
    api.comment_discussion(repo, discussion_num=number, comment="Good.")
    assert "more.txt" in (api.get_discussion_details(repo, discussion_num=number).diff or "")
    api.merge_pull_request(repo, discussion_num=number)
    assert "more.txt" in api.list_repo_files(repo)
    assert api.get_discussion_details(repo, discussion_num=number).status == "merged"
    print("opened a pull request, read its diff, commented on it, merged it")


def lists(api: HfApi, repo: str) -> None:
    owner = repo.partition("/")[0]
    assert repo in {model.id for model in api.list_models(author=owner)}
    assert {entry.path for entry in api.list_repo_tree(repo, recursive=True)} >= {"README.md", "large.bin", "bytes.bin"}
    try:
        HfApi(token=False).model_info(repo)
    except RepositoryNotFoundError:
        print("listed models and the tree; without a token the private repository is RepositoryNotFoundError")
    else:
        raise AssertionError("a private repository is visible without a token")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


if __name__ == "__main__":
    main()
