"""A chat Space of a tiny checkpoint with a fixed script, and the modules of spaces/chat, which is no package."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from attack import ATTACK

from release.space_bundle import build_space_bundle
from training.checkpoint import Checkpoint

CHAT = Path(__file__).resolve().parents[2] / "spaces" / "chat"


@pytest.fixture(scope="session")
def chat() -> Iterator[Any]:
    """`chat("limits")` is the module spaces/chat/limits.py."""
    before = set(sys.modules)
    sys.path.insert(0, str(CHAT))

    def module(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield module
    sys.path.remove(str(CHAT))
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(str(sys.modules[name].__file__)).parent == CHAT:
            del sys.modules[name]


@pytest.fixture(scope="session")
def scripted_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real Llama checkpoint whose next token depends on the last one only: it says what its script says.

    Embeddings are one-hot, attention and MLP add nothing, and lm_head holds the successor of each token. The chat
    template ends in a token that chooses the script: ATTACK, a text without end, or "Hello there.".
    """
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    scripts = {"<say:attack>": ATTACK, "<say:forever>": [" on", " and"], "<say:hello>": ["Hello", " there."]}
    special = ["<unk>", "<eos>", *scripts]
    words = [*special, *(piece for pieces in scripts.values() for piece in pieces)]
    ids = {word: at for at, word in enumerate(words)}
    size = 64
    config = LlamaConfig(
        vocab_size=len(words),
        hidden_size=size,
        intermediate_size=size,
        num_hidden_layers=24,  # each costs a millisecond or so: the endless script must last long enough to be stopped
        num_attention_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=ids["<eos>"],
        pad_token_id=ids["<eos>"],
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.model.layers.parameters():
            parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(len(words), size))
        model.lm_head.weight.zero_()
        for start, pieces in scripts.items():
            ends = pieces[0] if start == "<say:forever>" else "<eos>"
            for word, successor in zip([start, *pieces], [*pieces, ends], strict=True):
                model.lm_head.weight[ids[successor], ids[word]] = 10.0
    backend = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        unk_token="<unk>",
        eos_token="<eos>",
        pad_token="<eos>",
        clean_up_tokenization_spaces=False,
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(scripts)})
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message['role'] }} {{ message['content'] }}\n{% endfor %}"
        "{% if 'attack' in messages[-1]['content'] %}<say:attack>"
        "{% elif 'repeat' in messages[-1]['content'] and 'attack' in messages[0]['content'] %}<say:attack>"
        "{% elif 'forever' in messages[-1]['content'] %}<say:forever>{% else %}<say:hello>{% endif %}"
    )
    folder = tmp_path_factory.mktemp("scripted") / "checkpoint"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def bundle(scripted_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The published files, except that space.json names a folder, so that no Hub is needed."""
    folder = tmp_path_factory.mktemp("bundle")
    files = build_space_bundle(
        model_id="org/scripted",
        revision="0" * 40,
        tag="v1.0",
        checkpoint_digest=Checkpoint.open(scripted_checkpoint).digest,
        scorecard=None,
        title="Scripted chat",
        license=None,
        verify_command="python -m release verify org/scripted@v1.0",
    )
    for name, content in files.items():
        (folder / name).write_bytes(content)
    space = json.loads(files["space.json"]) | {"model_id": str(scripted_checkpoint), "revision": None}
    (folder / "space.json").write_text(json.dumps(space | {"precision": "float32"}))
    return folder


@dataclass(frozen=True)
class RunningSpace:
    url: str
    process: subprocess.Popen[bytes]
    votes: Path

    @property
    def thumbs(self) -> list[dict[str, Any]]:
        """What stands on the disk."""
        lines = b"".join(file.read_bytes() for file in sorted(self.votes.glob("*.jsonl"))).splitlines()
        return [json.loads(line) for line in lines]

    def health(self) -> tuple[int, dict[str, Any]]:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def processor_seconds(self) -> float:
        """What the process has used of the processor, all its threads together."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def wait_until_it_has_worked(self, seconds: float) -> None:
        """For so many seconds of the processor from now on, however many others share it."""
        goal, deadline = self.processor_seconds() + seconds, time.monotonic() + 60
        while self.processor_seconds() < goal:
            assert time.monotonic() < deadline, "the Space is idle"
            time.sleep(0.05)

    def processor_share(self, seconds: float) -> float:
        """Of one core, over the next seconds."""
        before = self.processor_seconds()
        time.sleep(seconds)
        return (self.processor_seconds() - before) / seconds


@pytest.fixture(scope="session")
def running_space(bundle: Path) -> Iterator[RunningSpace]:
    """The bundle, served as a Space serves it: `python app.py` in its folder, offline."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_ENDPOINT")}
    environment |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "HF_HUB_OFFLINE": "1"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"TRUSTED_PROXIES": "1"}  # so that a test can say where a visitor comes from
    environment |= {"THUMBS_DATASET": "org/thumbs", "VOTES_DIR": str(bundle.parent / f"{bundle.name}-votes")}
    log = bundle.parent / "space.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "app.py"], cwd=bundle, env=environment, stdout=output, stderr=subprocess.STDOUT
        )
    space = RunningSpace(f"http://127.0.0.1:{port}", process, Path(environment["VOTES_DIR"]))
    try:
        _wait_until_up(space, log)
        yield space
    finally:
        process.terminate()
        process.wait(timeout=20)


def _wait_until_up(space: RunningSpace, log: Path) -> None:
    for _ in range(1000):  # a busy machine takes minutes to import torch
        if space.process.poll() is not None:
            break
        try:
            space.health()
            return
        except OSError:
            time.sleep(0.25)
    pytest.fail(f"the Space did not start:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    return path
