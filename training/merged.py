"""An adapted model as a plain one: `merged(model)`, which keeps what it says also where input and output embeddings are tied."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# What peft says, where adapters lie on tied embeddings, of merging them as they are.
OF_TIED_EMBEDDINGS = r"Model (has|with) `tie_word_embeddings=True`|Input and output embeddings are no longer tied"


@contextmanager
def tied_embeddings_allowed() -> Iterator[None]:
    """Without peft's warnings of them: `merged` does what they advise."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=OF_TIED_EMBEDDINGS)
        yield


def merged(model: Any) -> Any:
    """peft's `merge_and_unload`; the adapted model is of no use afterwards.

    Where an adapter is on one of two tied embeddings, these have weights of their own from then on, and the config says so: LoRA
    changes either by itself, and in the one tensor that they share each would change the other.
    """
    import torch
    from peft.tuners.tuners_utils import BaseTunerLayer

    whole = model.get_base_model()
    ends = [end for end in (whole.get_input_embeddings(), whole.get_output_embeddings()) if end is not None]
    if any(isinstance(end, BaseTunerLayer) for end in ends):
        first, *others = [end.get_base_layer() if isinstance(end, BaseTunerLayer) else end for end in ends]
        for other in others:
            if other.weight is first.weight:
                other.weight = torch.nn.Parameter(other.weight.detach().clone(), requires_grad=False)
                for config in (whole.config, whole.config.get_text_config()):
                    config.tie_word_embeddings = False
    with tied_embeddings_allowed():
        return model.merge_and_unload()
