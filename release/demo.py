"""`python -m release demo`: the main job from an empty machine to a released, verified model, with the real commands.

    python -m release demo --out runs/demo

Each station is a command that a user would type, run in a process of its own and shown as it is typed. Stations that
are complete are passed over, so an interrupted demo continues where it stopped, and a second one only checks.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import shorten

from release.local_server import free_port, stop, wait_for_port
from training.command import Parser, Result, log
from training.errors import SlipwayError

ORGANISATION = "slipway"
MODEL = f"{ORGANISATION}/smollm2-135m-ppo-starter"
SPACE = f"{MODEL}-chat"
TAG = "v1.0.0"
QUESTION = "How can I fall asleep more easily?"  # as release/space_boot.py asks it
ANSWER_SHOWN = 160  # characters in the summary
ITEMS = "24"  # of each task at most, a seeded sample, to save time
PORTS = {"hub": 8484, "chat": 7860}

LOAD_SCRIPT = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
repo, tag, question = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(repo, revision=tag)
model = AutoModelForCausalLM.from_pretrained(repo, revision=tag)
inputs = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True,
                                       return_tensors="pt", return_dict=True)
output = model.generate(**inputs, max_new_tokens=32, do_sample=False)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
"""


def add_demo_command(parser: Parser) -> None:
    demo = parser.command("demo", "From a base model to a released and verified one, on this machine alone.", run_demo)
    demo.add_argument(
        "--out", type=Path, default=Path("runs/demo"), help="where everything is kept (default: runs/demo)"
    )


@dataclass
class Demo:
    """The demo's directory, its environment, and how long each station took."""

    root: Path
    environment: dict[str, str]
    seconds: dict[str, float] = field(default_factory=dict)

    def run(
        self, station: str, *words: str, environment: dict[str, str] | None = None, shown: str | None = None
    ) -> str:
        """Run one command, its stderr to the terminal; return its stdout. A failing one ends the demo with its exit code."""
        number = len(self.seconds) + 1
        log(f"\n[{number}] {station}\n    $ {shown or shlex.join(['python', *words])}")
        clock = time.monotonic()
        finished = subprocess.run(
            [sys.executable, *words],
            env={**self.environment, **(environment or {})},
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        self.seconds[station] = round(time.monotonic() - clock, 1)
        if finished.returncode in (130, -signal.SIGINT):
            raise KeyboardInterrupt
        if finished.returncode != 0:
            raise StationFailed(station, finished.returncode)
        log(
            "".join(f"    {line}\n" for line in finished.stdout.strip().splitlines()[:14])
            + f"    ({self.seconds[station]:.0f} s)"
        )
        return finished.stdout

    def command(self, station: str, *words: str) -> None:
        """A command of the project: `python -m ...`."""
        self.run(station, "-m", *words)


class StationFailed(SlipwayError):
    """A station of the demo failed; it has said why. The demo ends with the same exit code."""

    def __init__(self, station: str, code: int) -> None:
        super().__init__(
            f"the demo stopped at: {station}", next_step="see the error above; make demo continues from here"
        )
        self.exit_code = code if code > 0 else 1


def run_demo(args: argparse.Namespace) -> Result:
    root: Path = args.out
    root.mkdir(parents=True, exist_ok=True)
    clock = time.monotonic()
    with embedded_hub(root) as (endpoint, token):
        environment = {
            **os.environ,
            "HF_ENDPOINT": endpoint,
            "HF_TOKEN": token,
            "HF_HOME": str((root / "hf").resolve()),
        }
        demo = Demo(root, environment)
        train_and_score(demo)
        publish(demo)
        check_release(demo)
    answer = chat_answer(root)
    seconds = time.monotonic() - clock
    return {
        "summary": summary(root, answer, seconds),
        "model": MODEL,
        "space": SPACE,
        "tag": TAG,
        "answer": answer,
        "seconds": round(seconds, 1),
        "stations": demo.seconds,
        "hub_root": str(root / "hub"),
        "leaderboard": str(root / "leaderboard" / "index.html"),
    }


def train_and_score(demo: Demo) -> None:
    """Base model, reward model, PPO; the scores of parent and result; the leaderboard."""
    base, reward, ppo = (str(demo.root / name) for name in ("base", "reward", "ppo"))
    demo.command("base model", "training", "base", "smollm2-135m-instruct", "--out", base)
    demo.command("reward model", "training", "reward", "--recipe", "reward-starter", "--out", reward, f"base={base}")
    demo.command(
        "PPO", "training", "ppo", "--recipe", "ppo-starter", "--out", ppo, f"base={base}", f"reward_model={reward}"
    )
    how = ("--suite", "starter", "--limit", ITEMS, "--judge", f"{reward}/checkpoint")
    demo.command("scores of the parent", "evals", "run", f"{base}/checkpoint", *how, "--out", base)
    demo.command("scores of the result", "evals", "run", f"{ppo}/checkpoint", *how, "--out", ppo, "--baseline", base)
    demo.command("paired comparison", "evals", "compare", base, ppo)
    demo.command("evaluated items in the training data", "evals", "contamination", ppo)
    demo.command("leaderboard", "evals", "leaderboard", base, ppo, "--out", str(demo.root / "leaderboard"))


def publish(demo: Demo) -> None:
    """Card, gates, release."""
    ppo = str(demo.root / "ppo")
    demo.command("gates and release", "release", "publish", "--run", ppo, "--repo", MODEL, "--tag", TAG, "--space")


def check_release(demo: Demo) -> None:
    """What a stranger would do: load it by name, verify it."""
    with tempfile.TemporaryDirectory() as empty:
        demo.run(
            "from_pretrained in a fresh process with an empty cache",
            *("-c", LOAD_SCRIPT, MODEL, TAG, QUESTION),
            environment={"HF_HOME": empty},
            shown=f'AutoModelForCausalLM.from_pretrained("{MODEL}", revision="{TAG}")',
        )
    receipt = demo.root / "ppo" / "receipt.json"
    demo.command("verification", "release", "verify", f"{MODEL}@{TAG}", "--receipt", str(receipt))


@contextmanager
def embedded_hub(root: Path) -> Iterator[tuple[str, str]]:
    """The demo's own Hub, as a process: its endpoint, and a token that may write to the demo's organisation."""
    token_file = root / "token"
    hub = str(root / "hub")
    port = free_port(PORTS["hub"])
    words = [
        sys.executable,
        "-m",
        "release",
        "hub",
        "--root",
        hub,
        "--port",
        str(port),
        "--token-file",
        str(token_file),
    ]
    with (root / "hub.log").open("a") as output:
        process = subprocess.Popen(words, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_for_port(port, process, seconds=60)
            yield f"http://127.0.0.1:{port}", token_file.read_text(encoding="utf-8").strip()
        finally:
            stop(process)


def chat_answer(root: Path) -> str:
    """What the chat answered when `release publish` ran it from the Hub, before it showed it."""
    from release.records import Receipt

    receipt = Receipt.read(root / "ppo" / "receipt.json")
    boot = receipt.space.boot if receipt.space else None
    return boot.answer or "" if boot else "not asked: released before 2026-11-28"


def summary(root: Path, answer: str, seconds: float) -> str:
    """What was made, where, and the command that opens each. Every figure is read from its record."""
    metrics: dict[str, float] = json.loads((root / "ppo" / "run.json").read_text(encoding="utf-8"))["metrics"]
    receipt = json.loads((root / "ppo" / "receipt.json").read_text(encoding="utf-8"))
    hub = f"python -m release hub --root {root / 'hub'} --port {PORTS['hub']}"
    client = f"HF_ENDPOINT=http://127.0.0.1:{PORTS['hub']} HF_TOKEN=$(cat {root / 'token'})"
    gain, error = metrics["reward_gain"], metrics["reward_gain_stderr"]
    lines = [
        "",
        "Aligned, measured, released and verified.",
        "",
        f"  reward    {metrics['reward_first_fifth']:+.3f} in the first fifth of {metrics['episodes']:.0f} episodes, "
        f"{metrics['reward_last_fifth']:+.3f} in the last: {gain:+.3f} ± {error:.3f} (standard error)",
        f"  KL        {metrics['kl_last']:.2f} nats a response from the parent in the last update",
        f"  release   {MODEL}@{TAG}, commit {receipt['commit'][:12]}",
        f"  digest    {receipt['checkpoint_digest']}",
        f"  the chat  {QUESTION} {shorten(answer, ANSWER_SHOWN)}",
        f"  time      {seconds:.0f} s",
        "",
        "Open them (with the environment on the path: . .venv/bin/activate):",
        f"  leaderboard  xdg-open {root / 'leaderboard' / 'index.html'}",
        f"  model page   {hub}",
        f"               then http://127.0.0.1:{PORTS['hub']}/{MODEL}",
        f"  chat         with that Hub running: {client} \\",
        f"               python spaces/serve.py {SPACE} --port {PORTS['chat']}",
        f"               then http://127.0.0.1:{PORTS['chat']}",
        f"  verify       {client} \\",
        f"               python -m release verify {MODEL}@{TAG}",
    ]
    return "\n".join(lines)
