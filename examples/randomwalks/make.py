"""Make what the random-walks recipes read: walks, their rewards, and a base model that has seen nothing but these walks.

python examples/randomwalks/make.py --out runs/randomwalks

runs/randomwalks/base/checkpoint/    a Llama of about 0.8 million parameters that `from_pretrained` loads
runs/randomwalks/walks.jsonl         {"prompt": start, "response": the rest of the walk, "reward": its optimality}
runs/randomwalks/prompts.jsonl       {"prompt": start} for each of the 20 nodes that one can start from
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from randomwalks import LONGEST, NODES, fixed_graph, optimality, random_walks

from training.command import log

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

END = "<end>"
# The start is the user's turn, what follows the assistant's; nothing stands between them, so that together they are the walk.
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="a directory, e.g. runs/randomwalks")
    parser.add_argument("--walks", type=int, default=1000, help="how many random walks (1000)")
    parser.add_argument("--epochs", type=int, default=10, help="passes of the base model over them (10)")
    arguments = parser.parse_args()
    walks = random_walks(arguments.walks)
    rewards = optimality(samples=walks)
    arguments.out.mkdir(parents=True, exist_ok=True)
    write_jsonl(
        arguments.out / "walks.jsonl",
        [
            {"prompt": walk[0], "response": walk[1:], "reward": reward}
            for walk, reward in zip(walks, rewards, strict=True)
        ],
    )
    write_jsonl(arguments.out / "prompts.jsonl", [{"prompt": start} for start in fixed_graph().starts])
    log(f"{len(walks)} walks, mean optimality {sum(rewards) / len(rewards):.3f}")
    make_base(walks, arguments.epochs, arguments.out / "base" / "checkpoint")
    return 0


def make_tokenizer() -> PreTrainedTokenizerBase:
    """One token for each node and one for the end of a walk, which also pads. A text that is no walk is refused."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({token: index for index, token in enumerate([*NODES, END])}))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=END)
    fast.chat_template = TEMPLATE
    return fast


def make_base(walks: list[str], epochs: int, out: Path) -> None:
    """Train a small Llama on the walks by next-token prediction, and save it with its tokenizer."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=384,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=32,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model: Any = LlamaForCausalLM(config)
    ids = torch.full((len(walks), LONGEST + 1), tokenizer.pad_token_id)  # (N, T)
    learned = torch.zeros(len(walks), LONGEST + 1, dtype=torch.bool)
    for row, walk in enumerate(walks):
        tokens = [*tokenizer.convert_tokens_to_ids(list(walk)), tokenizer.eos_token_id]
        ids[row, : len(tokens)] = torch.tensor(tokens)
        learned[row, 1 : len(tokens)] = True  # the start is given, the end of the walk is learned
    labels = ids.masked_fill(~learned, -100)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    for epoch in range(epochs):
        losses = []
        for chosen in torch.randperm(len(walks)).split(100):
            loss = model(input_ids=ids[chosen], labels=labels[chosen]).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        log(f"base {epoch + 1}/{epochs}  loss {sum(losses) / len(losses):.3f} nats a node")
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
