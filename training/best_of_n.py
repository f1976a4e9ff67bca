"""`python -m training best-of-n`: the best of n sampled answers to each prompt, as data that `training sft` and `dpo` take.

    python -m training best-of-n --recipe best-of-n-starter --out runs/best-of-n
    python -m training sft --recipe sft-starter --out runs/rft data.source=runs/best-of-n/demonstrations.jsonl
    python -m training dpo --recipe dpo-starter --out runs/dpo data.source=runs/best-of-n/preferences.jsonl

The second command makes it rejection-sampling fine-tuning (Touvron et al. 2023, section 3.2.3), the baseline of every RLHF method;
the third DPO on the policy's own answers, a reward model having judged them (Guo et al. 2024, arXiv 2402.04792).

    runs/ID/demonstrations.jsonl    {prompt, completion, reward}: each prompt's best answer among those that ended by themselves
    runs/ID/preferences.jsonl       {prompt, chosen, rejected}: of the same answers the best and the worst
    runs/ID/samples.jsonl           {prompt, response, reward}: all answers, as `training ilql` takes them
    runs/ID/best_of_n.json          the record, written last: rewards and the bound on the KL divergence over n

Killed, the same command continues with the next prompts, and what it samples is what it would have sampled. Where the reward
function was changed in between, the answers that are there are scored anew: one function gives all rewards of a file.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.best_of_n_record import DEMONSTRATIONS, PREFERENCES, RECORD, SAMPLES, BestOf, BestOfNRecord
from training.chat import prompt_ids, stop_tokens
from training.command import log
from training.context_length import require_context
from training.counted import counted
from training.data import Prompt, load_prompts
from training.energy import price, spent
from training.errors import UsageError
from training.pretrained import load_policy, resolve_base
from training.progress import Progress
from training.recipe import BestOfNRecipe
from training.records import write_atomically
from training.run_directory import RunDirectory, training_device, with_chosen_dtype
from training.run_record import git_revision, hardware, kept, now, package_versions
from training.scorer import Scorer, mean_and_stderr
from training.special_tokens import words_only

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def kl_bound(n: int) -> float:
    """log n - (n - 1) / n in nats: KL(best of n || policy) is at most that (Beirami et al. 2024, theorem 3.1, arXiv 2401.01879).

    Stiennon et al. 2020 (arXiv 2009.01325, appendix G.3) give it as the divergence itself, which it is only where no two answers
    are the same or score the same.
    """
    return math.log(n) - (n - 1) / n


def expected_best(scores: Sequence[float], n: int) -> float:
    """The expected best of n of these scores, drawn without replacement: sum_i C(i-1, n-1) / C(N, n) s_(i), s sorted upwards.

    Unbiased for the best of n answers of the policy, for every n up to N.
    """
    ways = math.comb(len(scores), n)
    return sum(math.comb(place, n - 1) / ways * score for place, score in enumerate(sorted(scores)))


def best_of_table(scores: Sequence[Sequence[float]]) -> list[BestOf]:
    """One row for n = 1, 2, 4, ... and the number of samples. scores: each prompt's, equally many."""
    most = len(scores[0])
    singles = [expected_best(each, 1) for each in scores]
    table = []
    for n in sorted({*(2**power for power in range(most.bit_length()) if 2**power <= most), most}):
        bests = [expected_best(each, n) for each in scores]
        reward, stderr = mean_and_stderr(bests)
        gain, gain_stderr = mean_and_stderr([best - single for best, single in zip(bests, singles, strict=True)])
        table.append(
            BestOf(n=n, reward=reward, stderr=stderr, gain=gain, gain_stderr=gain_stderr, kl_bound=kl_bound(n))
        )
    return table


def sample_best(recipe: BestOfNRecipe, out: Path) -> BestOfNRecord:
    """Sample, score, choose, record. Where `out` is complete already, nothing is done.

    Raises UsageError where it holds another recipe's answers.
    """
    file = out / RECORD
    if file.is_file():
        record = BestOfNRecord.read(file)
        if recipe.dtype == "auto":
            recipe = recipe.model_copy(update={"dtype": record.recipe["dtype"]})
        if record.recipe != recipe.model_dump(mode="json"):
            raise UsageError(
                "this directory holds the answers of another recipe",
                where=str(out),
                next_step="choose another --out, or remove the directory to begin again",
            )
        return record
    recipe = with_chosen_dtype(recipe, out)
    run = RunDirectory.open(out, recipe)
    started, clock = now(), time.monotonic()
    policy = resolve_base(recipe.policy)
    device = training_device()
    scorer = Scorer.load(recipe.reward_model, recipe.reward_function, recipe.dtype, device)
    data = load_prompts(recipe.prompts, recipe.seed)
    run.hold_inputs([policy.parent, *scorer.parents], [data.source], continues=(run.state / SAMPLES).is_file())
    model, tokenizer = load_policy(policy.checkpoint, recipe.dtype)
    data = words_only(data, tokenizer)
    model.eval().to(device)
    prompts = [row for row in data.train if len(prompt_ids(tokenizer, row.prompt)) <= recipe.max_prompt_length]
    if not prompts:
        raise UsageError(
            f"every prompt is longer than {recipe.max_prompt_length} tokens",
            next_step="raise max_prompt_length in the recipe",
        )
    require_context(
        model.config,
        (len(prompt_ids(tokenizer, row.prompt)) for row in prompts),
        "lower max_prompt_length or generation.max_new_tokens",
        limit=recipe.max_prompt_length,
        sampled=recipe.generation.max_new_tokens,
    )
    rows = _answers(model, tokenizer, scorer, prompts, recipe, run.state / SAMPLES)
    by_prompt = [rows[start : start + recipe.n] for start in range(0, len(rows), recipe.n)]
    chosen = [best for best in map(best_whole_answer, by_prompt) if best is not None]
    if not chosen:
        raise UsageError(
            "no answer ended by itself, so there is nothing whole to learn from",
            found=f"{len(rows)} answers of {recipe.generation.max_new_tokens} tokens",
            next_step="raise generation.max_new_tokens in the recipe, with another --out",
        )
    files = _write_chosen(out, rows, chosen, by_prompt)
    record = BestOfNRecord(
        recipe=recipe.model_dump(mode="json"),
        policy=policy.parent.model_copy(update={"role": "policy"}),
        reward_models=scorer.parents,
        rewards=scorer.sources,
        data=kept(data.source, len(prompts), len(data.train) - len(prompts), recipe.max_prompt_length),
        **files,
        demonstrations=len(chosen),
        prompts_without_a_whole_answer=len(by_prompt) - len(chosen),
        ended=statistics.fmean(row["ended"] for row in rows),
        best_of=best_of_table([[row["reward"] for row in answers] for answers in by_prompt]),
        packages=package_versions(),
        git_revision=git_revision(),
        hardware=hardware(device),
        started=started,
        seconds=round(time.monotonic() - clock, 2),
        energy=spent(),
        price=price(),
    )
    record.write(file)
    shutil.rmtree(run.state)
    return record


def best_whole_answer(answers: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The demonstration of one prompt: its best answer that ended by itself and says something; None where there is none.

    An answer cut off at max_new_tokens would teach to stop in mid-sentence.
    """
    whole = _whole(answers)
    if not whole:
        return None
    best = max(whole, key=_reward)  # of equal ones the first that was sampled
    return {"prompt": best["prompt"], "completion": best["response"], "reward": best["reward"]}


def best_against_worst(answers: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The preference of one prompt: of its answers that ended by themselves the best and the worst; None where they score the same.

    Were the worst one cut off, the pair would say little but that answers should end.
    """
    whole = _whole(answers)
    best, worst = max(whole, key=_reward, default=None), min(whole, key=_reward, default=None)
    if best is None or worst is None or best["reward"] == worst["reward"]:
        return None
    return {"prompt": best["prompt"], "chosen": _turn(best), "rejected": _turn(worst)}


def _whole(answers: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in answers if row["ended"] and row["response"].strip()]


def _reward(answer: dict[str, Any]) -> float:
    return float(answer["reward"])


def _turn(answer: dict[str, Any]) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": answer["response"]}]


def _answers(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    recipe: BestOfNRecipe,
    kept: Path,
) -> list[dict[str, Any]]:
    """n scored answers to each prompt: those that `kept` has of an earlier attempt, then the rest, each batch added to it."""
    rows = _scored_alike(_sampled_before(kept, recipe.n), tokenizer, scorer, recipe.batch_size * recipe.n, kept)
    with Progress("best-of-n", len(prompts), len(rows) // recipe.n) as progress:
        for first in range(len(rows) // recipe.n, len(prompts), recipe.batch_size):
            batch = prompts[first : first + recipe.batch_size]
            found = _sample(model, tokenizer, scorer, batch, first, recipe)
            with kept.open("a", encoding="utf-8") as samples:
                samples.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in found)
            rows += found
            for start in range(0, len(found), recipe.n):
                rewards = [row["reward"] for row in found[start : start + recipe.n]]
                progress.advance(f"best {max(rewards):+.3f} of mean {statistics.fmean(rewards):+.3f}")
    return rows


def _write_chosen(
    out: Path,
    rows: Sequence[dict[str, Any]],
    chosen: Sequence[dict[str, Any]],
    by_prompt: Sequence[Sequence[dict[str, Any]]],
) -> dict[str, Any]:
    """Write samples, demonstrations and preferences; what the record says of the files."""
    pairs = [pair for pair in map(best_against_worst, by_prompt) if pair is not None]
    samples = [{key: row[key] for key in ("prompt", "response", "reward")} for row in rows]
    return {
        "samples_sha256": _write(out / SAMPLES, samples),
        "demonstrations_sha256": _write(out / DEMONSTRATIONS, chosen),
        "preferences_sha256": _write(out / PREFERENCES, pairs),
        "preferences": len(pairs),
    }


def _sample(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    scorer: Scorer,
    prompts: Sequence[Prompt],
    first: int,
    recipe: BestOfNRecipe,
) -> list[dict[str, Any]]:
    """n scored answers to each prompt. Prompt number i has random numbers of its own, whatever batch it is in."""
    import torch

    from training.decoding import Decoding, decode

    longest = recipe.generation.max_new_tokens
    uniforms = torch.cat(
        [
            torch.rand(recipe.n, longest, generator=torch.Generator().manual_seed(recipe.seed * 1_000_003 + number))
            for number in range(first, first + len(prompts))
        ]
    )
    ids = [prompt_ids(tokenizer, row.prompt) for row in prompts]
    decoding = Decoding(longest, recipe.generation.temperature)
    stops = stop_tokens(tokenizer, model.generation_config)
    tokens = decode(model, ids, recipe.n, decoding, uniforms, stops)
    asked = [row.prompt for row in prompts for _ in range(recipe.n)]
    texts = [tokenizer.decode(row, skip_special_tokens=True) for row in tokens]
    scores = scorer.score(tokenizer, list(zip(asked, texts, strict=True)))
    return [
        {
            "prompt": prompt,
            "response": text,
            "reward": score,
            "scored_by": scorer.identity,
            "ended": len(row) < longest,
        }
        for prompt, text, score, row in zip(asked, texts, scores, tokens, strict=True)
    ]


def _sampled_before(file: Path, n: int) -> list[dict[str, Any]]:
    """The answers of an interrupted run, whole prompts only; what is not whole is cut from the file."""
    if not file.is_file():
        return []
    lines = [line for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    lines = lines[: len(lines) // n * n]
    write_atomically(file, b"".join(lines))
    return [json.loads(line) for line in lines]


def _scored_alike(
    rows: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, scorer: Scorer, at_once: int, kept: Path
) -> list[dict[str, Any]]:
    """An earlier attempt's rows with rewards by `scorer`: those that something else gave, or nobody knows what, are replaced."""
    others = sum(row.get("scored_by") != scorer.identity for row in rows)
    if not others:
        return rows
    log(f"what gives the rewards has changed: scoring {counted(others, 'answer')} of before anew")
    scores: list[float] = []
    for start in range(0, len(rows), at_once):
        asked = [(row["prompt"], row["response"]) for row in rows[start : start + at_once]]
        scores += scorer.score(tokenizer, asked)
    again = [{**row, "reward": score, "scored_by": scorer.identity} for row, score in zip(rows, scores, strict=True)]
    write_atomically(kept, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in again).encode())
    return again


def _write(file: Path, rows: Sequence[dict[str, Any]]) -> str:
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    write_atomically(file, content)
    return hashlib.sha256(content).hexdigest()
