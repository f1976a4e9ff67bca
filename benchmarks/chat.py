"""How much of llama.cpp's speed reaches a visitor of the chat page, beside bare transformers and bare llama.cpp, in one run.

    python benchmarks/chat.py runs/base/checkpoint runs/base/gguf/NAME-F16.gguf
    python benchmarks/chat.py runs/base/checkpoint runs/base/gguf/NAME-F16.gguf --tokens 64 --rounds 3

Greedy answers of --tokens tokens to short questions, one at a time and four at once. First token: from the question to the
first text, warm (the fastest round). Tokens a second: all of them over the time from the question to the last text, of the
fastest round, for the page's first text has several tokens in it; of four at once all their tokens over the time to the last
answer. transformers runs four as one padded batch in float32. The page is the cpu flavour's bundle served by
`spaces/serve.py`, asked by gradio_client through the queue and the events of the page.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
QUESTIONS = [
    "Tell me a long story about a lighthouse.",
    "Describe a day at the market in detail.",
    "Explain at length how bread is made.",
    "Write a long letter from a traveller.",
]
Timed = tuple[float, float, int]  # seconds to the first text, to the last, and tokens


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    rows = {
        "transformers, float32": transformers_rows(args.checkpoint, args.tokens, args.rounds),
        f"llama.cpp, {args.gguf.name}": llama_rows(args.checkpoint, args.gguf, args.tokens, args.rounds),
    }
    with page(args.checkpoint, args.gguf) as url:
        rows["the page on the same file"] = page_rows(url, args.tokens, args.rounds)
    print(f"cores {len(os.sched_getaffinity(0))}, load average {os.getloadavg()[0]:.1f}, {args.tokens} tokens")
    print("| | first token, ms | tokens/s | four at once, tokens/s |\n|---|---|---|---|")
    for name, (first, rate, four) in rows.items():
        print(f"| {name} | {1000 * first:.0f} | {rate:.1f} | {four:.1f} |")
    bare, whole = list(rows.values())[1:]
    print(
        f"the page gives {whole[1] / bare[1]:.0%} of bare llama.cpp's tokens a second, alone, and {whole[2] / bare[2]:.0%} of four"
    )


def best(ask: Callable[[str], Timed], rounds: int) -> tuple[float, float]:
    """(seconds to the first text, tokens a second up to the last), each of the fastest round after one to warm up."""
    ask(QUESTIONS[0])
    timed = [ask(QUESTIONS[(at + 1) % len(QUESTIONS)]) for at in range(rounds)]  # llama.cpp keeps what it has read
    return min(first for first, _, _ in timed), max(tokens / last for _, last, tokens in timed)


def at_once(ask: Callable[[str], Timed]) -> float:
    """Tokens a second of all questions together, each asked by a thread of its own."""
    tokens: list[int] = []
    threads = [threading.Thread(target=lambda q=question: tokens.append(ask(q)[2])) for question in QUESTIONS]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(tokens) / (time.monotonic() - began)


def transformers_rows(checkpoint: Path, tokens: int, rounds: int) -> tuple[float, float, float]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.generation.streamers import BaseStreamer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()

    class Clock(BaseStreamer):  # type: ignore[misc]
        def __init__(self) -> None:
            self.at: list[float] = []

        def put(self, value: object) -> None:  # noqa: ARG002 - the time is what counts
            self.at.append(time.monotonic())

        def end(self) -> None:
            pass

    def inputs(questions: list[str]) -> Any:
        texts = [
            tokenizer.apply_chat_template(
                [{"role": "user", "content": question}], add_generation_prompt=True, tokenize=False
            )
            for question in questions
        ]
        return tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)

    def ask(question: str) -> Timed:
        clock, began = Clock(), time.monotonic()
        with torch.inference_mode():
            model.generate(**inputs([question]), max_new_tokens=tokens, do_sample=False, streamer=clock)
        first, last = clock.at[1] - began, clock.at[-1] - began  # the first put is the prompt
        return first, last, len(clock.at) - 1

    first, rate = best(ask, rounds)
    batch = inputs(QUESTIONS)
    began = time.monotonic()
    with torch.inference_mode():
        made = model.generate(**batch, max_new_tokens=tokens, do_sample=False)[:, batch["input_ids"].shape[1] :]
    seconds = time.monotonic() - began
    return first, rate, int((made != tokenizer.pad_token_id).sum()) / seconds


def llama_rows(checkpoint: Path, gguf: Path, tokens: int, rounds: int) -> tuple[float, float, float]:
    import xllamacpp
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    chosen = xllamacpp.CommonParams()
    chosen.model.path = str(gguf)
    chosen.n_parallel, chosen.n_ctx, chosen.verbosity, chosen.port = 4, 4 * 4096, -1, 0
    chosen.cpuparams.n_threads = chosen.cpuparams_batch.n_threads = len(os.sched_getaffinity(0))
    server = xllamacpp.Server(chosen)

    def ask(question: str) -> Timed:
        rendered = tokenizer.apply_chat_template(
            [{"role": "user", "content": question}], add_generation_prompt=True, return_dict=True
        )
        at: list[float] = []
        counts: list[int] = [0]

        def take(chunk: Any) -> bool:
            for part in chunk if isinstance(chunk, list) else [chunk]:
                at.append(time.monotonic())
                counts.append(part["timings"]["predicted_n"])
            return False

        asked = {"prompt": rendered["input_ids"], "max_tokens": tokens, "temperature": 0, "stream": True}
        began = time.monotonic()
        server.handle_completions(asked | {"timings_per_token": True}, take)
        return at[0] - began, at[-1] - began, max(counts)

    first, rate = best(ask, rounds)
    return first, rate, at_once(ask)


def page_rows(url: str, tokens: int, rounds: int) -> tuple[float, float, float]:
    from gradio_client import Client

    clients = {question: Client(url, verbose=False) for question in QUESTIONS}

    def ask(question: str) -> Timed:
        began = time.monotonic()
        job = clients[question].submit(question, "", 0, 1, tokens, api_name="/chat_with_note")
        at: list[float] = []
        note = ""
        for answer, note in job:  # noqa: B007 - the last note counts
            if answer:
                at.append(time.monotonic())
        return at[0] - began, at[-1] - began, int(note.split(" tokens")[0].replace(",", ""))

    first, rate = best(ask, rounds)
    return first, rate, at_once(ask)


@contextmanager
def page(checkpoint: Path, gguf: Path) -> Iterator[str]:
    """The cpu flavour's bundle, with folders in space.json instead of repositories, served until the block ends."""
    sys.path.insert(0, str(ROOT))
    from release.space_bundle import TOKENIZER_FILES, build_space_bundle
    from release.space_flavour import PinnedGguf, SpaceFlavour
    from training.checkpoint import Checkpoint

    checkpoint, gguf = checkpoint.resolve(), gguf.resolve()
    pinned = PinnedGguf(
        repo_id="org/name-GGUF",
        revision="0" * 40,
        path=gguf.name,
        sha256=hashlib.sha256(gguf.read_bytes()).hexdigest(),
        size=gguf.stat().st_size,
        precision=gguf.stem.rpartition("-")[2],
        kl_mean=0.0,
        greedy_agreement=1.0,
    )
    files = build_space_bundle(
        model_id="org/name",
        revision="0" * 40,
        tag="benchmark",
        checkpoint_digest=Checkpoint.open(checkpoint).digest,
        scorecard=None,
        title="Benchmark",
        license=None,
        verify_command="",
        flavour=SpaceFlavour(
            name="cpu", backend="llama.cpp", precision=pinned.precision, hardware=None, memory=None, gguf=pinned
        ),
        files={
            name: hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()
            for name in TOKENIZER_FILES
            if (checkpoint / name).is_file()
        },
    )
    space = json.loads(files["space.json"]) | {"model_id": str(checkpoint), "revision": None}
    space["backend_settings"]["gguf"] |= {"repo_id": str(gguf.parent), "revision": None}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            (Path(scratch) / name).write_bytes(content)
        (Path(scratch) / "space.json").write_text(json.dumps(space))
        command = [sys.executable, str(ROOT / "spaces" / "serve.py"), scratch, "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        began = time.monotonic()
        try:
            url = f"http://127.0.0.1:{port}"
            while True:
                if process.poll() is not None:
                    raise SystemExit("the page did not start")
                try:
                    urllib.request.urlopen(f"{url}/health", timeout=5)
                    break
                except OSError:
                    time.sleep(0.1)
            print(f"the page was ready after {time.monotonic() - began:.1f} s")
            yield url
        finally:
            process.terminate()
            process.wait(20)


if __name__ == "__main__":
    main()
