"""One whole turn of the flywheel on this machine: answers, votes, a reward model, a better policy, its release and its card.

    python examples/flywheel/turn.py --out runs/flywheel
    python examples/flywheel/turn.py --out runs/flywheel --base runs/demo/base --pairs 40

The real commands, each in a process of its own and shown as it is typed. The votes are cast in a real browser (Debian's Chromium)
by labeller.py: scripts that follow rules, which say so on the page and are never counted as people. Stations that are complete
are passed over, so an interrupted turn continues where it stopped. With people instead of scripts, the same commands are the turn.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from labeller import LABELLERS, cast_votes

from release.demo import Demo, embedded_hub, free_port, stop, wait_for_port
from training.command import log
from training.errors import SlipwayError, UsageError

ROOT = Path(__file__).parents[2]
MODEL = "slipway/smollm2-135m-flywheel"
TAG = "v1.0.0"
INSTRUCTION = "Answer in one short sentence."  # what answers are asked for, judged by and trained to: ppo-starter's own
TOKENS = "40"  # of an answer at most, as in ppo-starter
ITEMS = "24"  # of each task at most, as in the demo
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/flywheel"), help="where everything is kept")
    parser.add_argument("--base", type=Path, help="a run of `training base` (default: made in --out)")
    parser.add_argument("--pairs", type=int, default=40, help="prompts to vote on (%(default)s)")
    parser.add_argument("--episodes", type=int, default=160, help="of PPO (%(default)s)")
    parser.add_argument("--chromium", default="/usr/bin/chromium", metavar="FILE")
    args = parser.parse_args()
    try:
        turn(args)
    except SlipwayError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


def turn(args: argparse.Namespace) -> None:
    """Every station in order. Raises SlipwayError where one fails."""
    out: Path = args.out
    for path in (out, args.base):
        if path is not None and path.is_absolute():
            raise UsageError(
                "this path would stand in the records, and the release would be refused for it at the end",
                expected="--out and --base relative to the folder that you are in",
                found=str(path),
            )
    base = str(args.base or out / "base")
    out.mkdir(parents=True, exist_ok=True)
    with embedded_hub(out) as (endpoint, token):
        hub = {"HF_ENDPOINT": endpoint, "HF_TOKEN": token, "HF_HOME": str((out / "hf").resolve())}
        demo = Demo(out, {**os.environ, **hub})
        if args.base is None:
            demo.command("base model", "training", "base", "smollm2-135m-instruct", "--out", base)
        # Two samples of the base model for each prompt: its votes tell good answers from bad ones of the same model.
        judge(demo, "votes", [base], f"--limit={args.pairs}", args.chromium)
        learn(demo, base, args.episodes)
        # The policy against its base, on prompts that neither votes nor PPO have seen.
        judge(demo, "check", [str(out / "ppo"), base], "--split=heldout", args.chromium)
        release(demo, base)
    say_what_was_made(out)


def judge(demo: Demo, name: str, models: list[str], prompts: str, chromium: str) -> None:
    """Answers of one or two models, the Space in which they are compared, and votes until nothing is left to vote on."""
    pairs = demo.root / name / "pairs.jsonl"
    how = ("--system", INSTRUCTION, "--max-new-tokens", TOKENS, "--temperature", "1.0", "--top-p", "1.0")
    if not pairs.is_file():
        demo.command(f"answers ({name})", "training", "feedback-pairs", *models, *how, prompts, "--out", str(pairs))
    space = f"slipway/feedback-{name}"
    repositories = ("--space", space, "--votes", f"slipway/{name}")
    enough = ("--votes-per-pair", str(len(LABELLERS)), "--seconds-between-pushes", "5")
    demo.command(f"Space ({name})", "release", "feedback-space", "--pairs", str(pairs), *repositories, *enough)
    done = demo.root / name / "voted.json"
    if not done.is_file():
        began = time.monotonic()
        counts = {}
        with feedback_space(demo, space, demo.root / name / "cast") as url:
            for code, rule in LABELLERS.items():
                counts[code] = cast(url, code, rule, chromium)
                log(f"    {counts[code]} votes by the rule-following labeller {code!r}, which is a script")
        done.write_text(json.dumps({"votes": counts, "seconds": round(time.monotonic() - began, 1)}), encoding="utf-8")


@contextmanager
def feedback_space(demo: Demo, space: str, votes: Path) -> Iterator[str]:
    """The published Space, served until the block ends; ending it pushes what is left. Its address."""
    port = free_port(7861)
    serve = [sys.executable, str(ROOT / "spaces" / "serve.py"), space, "--port", str(port)]
    environment = {**demo.environment, "VOTES_DIR": str(votes.resolve())}
    with (demo.root / "space.log").open("a") as output:
        process = subprocess.Popen(serve, env=environment, stdout=output, stderr=output, start_new_session=True)
        try:
            wait_for_port(port, process, seconds=180)
            yield f"http://127.0.0.1:{port}"
        finally:
            stop(process)


def cast(url: str, code: str, rule: object, chromium: str) -> int:
    """One labeller's votes through the page, in a browser that was never there before; how many the page thanked for."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=[*FLAGS, "--disable-sync"])
        page = browser.new_page(viewport={"width": 1280, "height": 860})
        page.set_default_timeout(120_000)
        count = cast_votes(page, url, code, rule)  # type: ignore[arg-type]
        browser.close()
        return count


def learn(demo: Demo, base: str, episodes: int) -> None:
    """Votes become data with its agreement, data a reward model, the reward model a policy."""
    feedback, reward, ppo = (str(demo.root / name) for name in ("feedback", "reward", "ppo"))
    if not (demo.root / "feedback" / "feedback.json").is_file():
        demo.command("agreement and data", "training", "feedback", "slipway/votes", "--out", feedback)
    data = (f"data.source={feedback}/preferences", "data.heldout_split=test", "args.num_train_epochs=4")
    recipe = ("--recipe", "reward-starter", "--out", reward, f"base={base}")
    demo.command("reward model of the votes", "training", "reward", *recipe, *data)
    recipe = ("--recipe", "ppo-starter", "--out", ppo, f"base={base}", f"reward_model={reward}")
    size = (f"ppo.total_episodes={episodes}", "ppo.batch_size=16", "ppo.mini_batch_size=8", "ppo.kl_coef=0.05")
    demo.command("PPO against it", "training", "ppo", *recipe, *size)


def release(demo: Demo, base: str) -> None:
    """Scores, among them the labellers' own comparison with the base model; card, gates, release, verification."""
    out = demo.root
    ppo, parent = str(out / "ppo"), str(out / "parent")
    how = ("--suite", "starter", "--limit", ITEMS, "--judge", f"{out / 'reward'}/checkpoint")
    demo.command("scores of the base model", "evals", "run", f"{base}/checkpoint", *how, "--out", parent)
    against = ("--out", ppo, "--baseline", parent, "--votes", "slipway/check")
    demo.command("scores of the policy", "evals", "run", f"{ppo}/checkpoint", *how, *against)
    demo.command("gates and release", "release", "publish", "--run", ppo, "--repo", MODEL, "--tag", TAG)
    demo.command("verification", "release", "verify", f"{MODEL}@{TAG}", "--receipt", f"{ppo}/receipt.json")


def say_what_was_made(out: Path) -> None:
    """The turn in figures, each read from its record."""
    feedback = json.loads((out / "feedback" / "feedback.json").read_text(encoding="utf-8"))
    reward, ppo = (
        json.loads((out / name / "run.json").read_text(encoding="utf-8"))["metrics"] for name in ("reward", "ppo")
    )
    scores = json.loads((out / "ppo" / "scorecard.json").read_text(encoding="utf-8"))["scores"]
    wins = [score for score in scores if score["metric"] == "script_win_rate"]
    print(
        f"votes     {feedback['votes']} that count, by {len(feedback['labellers'])} scripts; alpha {feedback['alpha']:.3f}"
    )
    print(f"rewards   {json.dumps({name: round(value, 3) for name, value in reward.items() if 'heldout' in name})}")
    print(
        f"PPO       reward {ppo['reward_gain']:+.3f} ± {ppo['reward_gain_stderr']:.3f} from its first fifth to its last"
    )
    for win in wins:
        low, high = win["interval"]["low"], win["interval"]["high"]
        print(
            f"check     the scripts prefer the policy to its base at {win['value']:.3f} ({low:.3f} to {high:.3f}), n {win['n']}"
        )
    print(f"card      python -m release hub --root {out / 'hub'} --port 8484, then http://127.0.0.1:8484/{MODEL}")


if __name__ == "__main__":
    sys.exit(main())
