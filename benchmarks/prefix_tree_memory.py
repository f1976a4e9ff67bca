"""How much memory the prefix tree takes: many requests, long requests, a large vocabulary. Random weights of a tiny Llama.

    python benchmarks/prefix_tree_memory.py --requests 100000 --tokens 64
    python benchmarks/prefix_tree_memory.py --requests 400 --tokens 64 --vocabulary 150000

Prints the peak of the process before scoring and after it. Four requests share a context, and all share eight tokens.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import time

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")


def peak() -> float:
    """The process's largest resident size so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--tokens", type=int, default=64, help="of each request (default: 64)")
    parser.add_argument("--vocabulary", type=int, default=300)
    args = parser.parse_args()

    import numpy as np
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from evals.tree_likelihood import TreeScorer
    from training.allocator import keep_freed_memory

    keep_freed_memory()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=args.vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=max(128, args.tokens),
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config).eval()
    rng = random.Random(0)
    primer = [rng.randrange(args.vocabulary) for _ in range(8)]
    pairs = []
    for _ in range(args.requests // 4):
        context = np.array(
            [*primer, *(rng.randrange(args.vocabulary) for _ in range(args.tokens - 12))], dtype=np.int32
        )
        pairs += [(context, np.array([rng.randrange(args.vocabulary) for _ in range(4)], np.int32)) for _ in range(4)]
    scorer = TreeScorer(model, max(128, args.tokens))
    scorer.score(pairs[:8])
    before, begun = peak(), time.perf_counter()
    scorer.score(pairs)
    seconds = time.perf_counter() - begun
    print(
        f"{len(pairs):,} requests of {args.tokens} tokens, vocabulary {args.vocabulary:,}: {scorer.tokens_computed:,} tokens "
        f"computed in {seconds:.0f} s; peak {before:,.0f} MB before, {peak():,.0f} MB after",
        flush=True,
    )


if __name__ == "__main__":
    main()
