"""How much faster the prefix tree is than lm-eval's hf backend, and whether both give the same numbers.

    python benchmarks/prefix_tree.py runs/base/checkpoint
    python benchmarks/prefix_tree.py runs/base/checkpoint --data DATA --limit 12 --dtype float32
    python benchmarks/prefix_tree.py runs/base/checkpoint --data DATA --only "toxicity prompts" --hf-batch-size 25 50 100

Both run in this process, one after the other, on the same requests. The hf backend computes equal requests once, as MC1
and MC2 have them, so `tokens` counts those that differ. Without `--data` there are two workloads, made of the
starter suite's words: four long endings of one context (HellaSwag's form), and questions after five fixed shots. With it, a
folder of official data (DATA/datasets/ORG/NAME, as `python -m release hub import` takes), also TruthfulQA MC1+MC2
and CrowS-Pairs with lm-eval's prompts, and RealToxicityPrompts' sampling with 25 samples of 20 tokens. Of several batch sizes
the hf backend's best counts. Sampled texts differ, so for them `tokens` are those that ours wrote.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
STARTER = Path(__file__).parents[1] / "evals" / "tasks" / "data"
CONTEXT_WORDS, ENDING_WORDS = 52, 22  # four endings of 22 words to a context of 52: distinct tokens allow 2.1


def endings(limit: int) -> list[Any]:
    words = " ".join(_questions_and_answers()).split()
    step = CONTEXT_WORDS + 4 * ENDING_WORDS
    found = []
    for item in range(limit):
        start = item * step % (len(words) - step) + item % 7  # the words come round again, at other places
        context = " ".join(words[start : start + CONTEXT_WORDS])
        for choice in range(4):
            at = start + CONTEXT_WORDS + choice * ENDING_WORDS
            found.append(_instance(context, " " + " ".join(words[at : at + ENDING_WORDS])))
    return found


def five_shots(limit: int) -> list[Any]:
    items = _starter_items()
    shots = "".join(
        f"Question: {item['question']}\nAnswer: {item['mc1_targets']['choices'][0]}\n\n" for item in items[:5]
    )
    return [
        _instance(f"{shots}Question: {item['question']}\nAnswer:", f" {choice}")
        for item in items[5 : 5 + limit]
        for choice in item["mc1_targets"]["choices"]
    ]


def truthfulqa(limit: int, data: Path) -> list[Any]:
    file = data / "datasets/truthfulqa/truthful_qa/multiple_choice/validation.jsonl"
    return [
        request for task in ("mc1", "mc2") for request in _official(f"truthfulqa_{task}", "validation", file, limit)
    ]


def crows_pairs(limit: int, data: Path) -> list[Any]:
    file = data / "datasets/jannalu/crows_pairs_multilingual/english/test.jsonl"
    return _official("crows_pairs_english", "test", file, limit)


def toxicity_prompts(limit: int, data: Path) -> list[Any]:
    """25 samples of 20 tokens for each prompt, as RealToxicityPrompts has them."""
    file = data / "datasets/allenai/real-toxicity-prompts/train.jsonl"
    lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line]
    settings = {"until": [], "max_gen_toks": 20, "do_sample": True, "temperature": 1.0, "top_p": 0.9, "top_k": 0}
    step = max(1, len(lines) // limit)  # of all lengths
    prompts = [json.loads(line)["prompt"]["text"] for line in lines[::step][:limit]]
    return [_instance(prompt, settings) for prompt in prompts for _ in range(25)]


def _official(name: str, split: str, file: Path, limit: int) -> list[Any]:
    """The requests of the first items of a task of lm-eval's on local data."""
    from evals.harness import Task, quietly
    from evals.task_definition import official_definition

    with quietly():
        from lm_eval.tasks._factory import TaskFactory
        from lm_eval.tasks._index import TaskIndex

        change = {"dataset_path": "json", "dataset_name": None, "dataset_kwargs": {"data_files": {split: str(file)}}}
        raw = TaskFactory().build(TaskIndex.entry_from_path(official_definition(name)), overrides=change, registry={})
    return [one for request in Task(name, raw).requests(range(limit), None) for one in request.instances]


def _starter_items() -> list[dict[str, Any]]:
    lines = (STARTER / "starter_truthfulness.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _questions_and_answers() -> list[str]:
    return [" ".join([item["question"], *item["mc2_targets"]["choices"]]) for item in _starter_items()]


def _instance(*args: Any) -> Any:
    return SimpleNamespace(args=args)


def product_rate(model: Any) -> float:
    """Operations a second of this model's largest layer product on 512 tokens: the best of ten, 2 a multiply-add."""
    import torch

    weight = max((layer.weight for layer in model.base_model.modules() if isinstance(layer, torch.nn.Linear)), key=len)
    tokens = torch.randn(512, weight.shape[1], dtype=weight.dtype, device=weight.device)
    best = 0.0
    with torch.inference_mode():
        for _ in range(10):
            seconds, _ = timed(lambda: [torch.nn.functional.linear(tokens, weight) for _ in range(5)])
            best = max(best, 5 * 2 * 512 * weight.numel() / seconds)
    return best


def operations(lm: Any, requests: list[Any], tokens: int) -> float:
    """Operations of the weights' products on the distinct tokens: layers for each, vocabulary for those asked about."""
    import torch

    weights = sum(layer.weight.numel() for layer in lm.model.base_model.modules() if isinstance(layer, torch.nn.Linear))
    asked = set()
    for request in requests:
        before, after = lm._encode_pair(*request.args) if request.args[0] else ([lm.prefix_token_id], None)
        after = after if after is not None else lm.tok_encode(request.args[1])
        whole = (*before, *after)
        asked.update(whole[:place] for place in range(len(before), len(whole)))
    return 2.0 * (weights * tokens + lm.model.get_output_embeddings().weight.numel() * len(asked))


def sample_texts(requests: list[Any], settings: dict[str, Any], batch_sizes: list[int]) -> str:
    """A row of the table: ours, then the hf backend at each batch size in continuations."""
    from lm_eval.models.huggingface import HFLM

    from evals.prefix_tree import PrefixTreeLM

    ours = PrefixTreeLM(**settings, batch_size=200)
    ours_s, texts = timed(lambda: ours.generate_until(requests))
    tokens = sum(len(ours.tok_encode(text)) for text in texts)
    theirs = {}
    for size in batch_sizes:
        lm = HFLM(**settings, batch_size=size)
        theirs[size], found = timed(lambda: lm.generate_until(requests, disable_tqdm=True))  # noqa: B023
        written = sum(len(ours.tok_encode(text)) for text in found)
        print(f"  hf at batch size {size}: {theirs[size]:.1f} s, {written} tokens", flush=True)
    best = min(theirs, key=lambda size: theirs[size])
    return (
        f"{len(requests):9d} {tokens:7d} {'':9s} {theirs[best]:8.1f} {ours_s:7.1f} {theirs[best] / ours_s:6.1f}"
        f"           hf at batch size {best}"
    )


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    begun = time.perf_counter()
    result = run()
    return time.perf_counter() - begun, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--data", type=Path, help="a folder with datasets/ORG/NAME")
    parser.add_argument("--limit", type=int, default=12, help="items of each workload (default: 12)")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument(
        "--hf-batch-size", type=int, nargs="+", help="of lm-eval's hf backend; for choices the first counts"
    )
    parser.add_argument("--only", nargs="+", help="workloads by name")
    args = parser.parse_args()

    import torch
    from lm_eval.models.huggingface import HFLM
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from evals.prefix_tree import PrefixTreeLM
    from training.allocator import keep_freed_memory

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    keep_freed_memory()  # for both
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(args.checkpoint, dtype=getattr(torch, args.dtype)).to(device).eval()
    tokenizer = AutoTokenizer.from_pretrained(args.checkpoint)
    makers: dict[str, Callable[[], list[Any]]] = {
        "four endings": lambda: endings(args.limit),
        "five shots": lambda: five_shots(args.limit),
    }
    if args.data:
        makers["truthfulqa mc1+mc2"] = lambda: truthfulqa(args.limit, args.data)
        makers["crows pairs"] = lambda: crows_pairs(args.limit, args.data)
        makers["toxicity prompts"] = lambda: toxicity_prompts(args.limit, args.data)
    rate = product_rate(model)
    with torch.inference_mode():  # weights are read from their file when they are first used
        model(torch.arange(64, device=device)[None])
    print(f"{args.dtype} on {device}, {torch.get_num_threads()} threads, products at {rate / 1e9:.1f} GFLOP/s")
    print("workload              requests  tokens  distinct     hf s  ours s  ratio  of rate  largest difference")
    for name, make in makers.items():
        if args.only and name not in args.only:
            continue
        requests = make()
        settings = {"pretrained": model, "tokenizer": tokenizer, "softmax_dtype": "float32"}
        if name == "toxicity prompts":
            row = sample_texts(requests, settings, args.hf_batch_size or [25, 50, 100, 200])
            print(f"{name:20s} {row}", flush=True)
            continue
        ours, theirs = PrefixTreeLM(**settings), HFLM(**settings, batch_size=(args.hf_batch_size or [8])[0])
        ours_s, found = timed(lambda: ours.loglikelihood(requests, disable_tqdm=True))  # noqa: B023
        hf_s, expected = timed(lambda: theirs.loglikelihood(requests, disable_tqdm=True))  # noqa: B023
        distinct = ours.likelihoods.tokens_computed
        tokens = sum(len(ours.tok_encode(text)) for text in {"".join(request.args) for request in requests})
        reached = operations(ours, requests, distinct) / ours_s / rate
        difference = max(abs(a[0] - b[0]) for a, b in zip(found, expected, strict=True))
        flags = sum(a[1] != b[1] for a, b in zip(found, expected, strict=True))
        print(
            f"{name:20s} {len(requests):9d} {tokens:7d} {distinct:9d} {hf_s:8.1f} {ours_s:7.1f} {hf_s / ours_s:6.1f} "
            f"{reached:8.0%}  {difference:.1e} nats, {flags} greedy flags; {ours.engine}",
            flush=True,
        )


if __name__ == "__main__":
    main()
