"""Gates on what the files become: the model that `from_pretrained` makes of them, and its conversation format."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

from release.gates.candidate import Candidate, passed, refused, skipped
from release.gates.conversation import not_for_chat, without_template
from release.model_class import is_causal
from release.probe import Loaded, load_tokenizer
from release.records import Verdict
from training.counted import counted
from training.errors import UsageError
from training.reference import FILE, MOST, Reference, difference


def loads_clean(candidate: Candidate) -> Verdict:
    """A load with stock settings fills every parameter from the files: none missing, none left over, tied ones tied; and what
    it makes of a text are numbers, for nothing that comes back could be compared with anything else."""
    gate = "loads_clean"
    loaded = candidate.loaded
    evidence: dict[str, Any] = {
        "class": type(loaded.model).__name__,
        "parameters": sum(parameter.numel() for parameter in loaded.model.parameters()),
        "missing": loaded.missing,
        "unexpected": loaded.unexpected,
        "mismatched": loaded.mismatched,
    }
    if loaded.missing or loaded.mismatched:
        names = loaded.missing + loaded.mismatched
        return refused(
            gate,
            f"{counted(len(names), 'parameter')} not in the files, which would load at random: {', '.join(names[:5])}",
            remedy="save the whole model with save_pretrained; check config.json's architectures and sizes",
            **evidence,
        )
    if loaded.unexpected:
        return refused(
            gate,
            f"{counted(len(loaded.unexpected), 'tensor')} in the files that are no parameter: {', '.join(loaded.unexpected[:5])}",
            remedy="save the bare model (not a wrapper around it) with save_pretrained",
            **evidence,
        )
    broken = _untied(loaded)
    if broken:
        return refused(
            gate,
            broken,
            remedy="set tie_word_embeddings in config.json as the weights are, or save the model again",
            **evidence,
        )
    if not all(map(math.isfinite, candidate.probe.top_logits)):
        return refused(
            gate,
            f"to {candidate.probe.text!r} the model answers logits that are no numbers (NaN or infinite)",
            remedy="the training diverged: lower the learning rate, or release an earlier checkpoint",
            **evidence,
        )
    return passed(
        gate, f"{evidence['class']} with {evidence['parameters']:,} parameters, all from the files", **evidence
    )


def _untied(loaded: Loaded) -> str | None:
    """Why the output and input embeddings are not as config.json says, or None."""
    output = loaded.model.get_output_embeddings()
    if output is None or not getattr(loaded.model.config, "tie_word_embeddings", False):
        return None
    # transformers leaves them apart where the files hold a head of their own; other loaders tie it away in silence.
    if output.weight.data_ptr() != loaded.model.get_input_embeddings().weight.data_ptr():
        return "config.json says that the embeddings are tied, but the files hold an lm_head.weight of other values"
    return None


def behaves_as_saved(candidate: Candidate) -> Verdict:
    """The files say what the model said in memory before training saved it (`training/reference.py`)."""
    gate = "behaves_as_saved"
    if not candidate.has(FILE):
        return skipped(gate, f"there is no {FILE}: training did not write down what the model said before it was saved")
    reference = Reference.read(candidate.bundle / FILE)
    bound = MOST.get(reference.dtype, MOST["bfloat16"])
    evidence = {"dtype": reference.dtype, "bound": bound, "taken_of": reference.checkpoint_digest}
    if reference.checkpoint_digest != candidate.digest:
        return refused(
            gate,
            f"{FILE} was taken of {reference.checkpoint_digest}, the bundle holds {candidate.digest}",
            remedy="the checkpoint was changed after training: train again, or restore it",
            **evidence,
        )
    found = difference(reference, candidate.loaded.model)
    read = load_tokenizer(candidate.bundle)(reference.text)["input_ids"]
    evidence["difference"] = found if math.isfinite(found) else "not a number"
    if read != reference.input_ids:
        return refused(
            gate,
            "the saved tokenizer reads the reference text as other tokens than the trained model's did",
            remedy="save the tokenizer that the model was trained with",
            expected=reference.input_ids,
            found=read,
            **evidence,
        )
    if found > bound:
        return refused(
            gate,
            f"log-probabilities differ by {found:.3g} nats from those before saving, at most {bound:g} is rounding",
            remedy="saving lost something: check tied weights, adapters left unmerged and renamed keys, then train again",
            **evidence,
        )
    return passed(gate, f"as before it was saved, to {found:.2g} nats ({reference.dtype} in memory)", **evidence)


def _kernels(settings: Any) -> Iterator[tuple[str, str]]:
    """Where a config, or one within it, lets attention or experts be computed by code of a Hub's repository: ORG/NAME, which
    transformers downloads and runs where the package `kernels` is installed."""
    if isinstance(settings, dict):
        for key, value in settings.items():
            names = value.values() if isinstance(value, dict) and key.endswith("_implementation") else [value]
            yield from (
                (key, name)
                for name in names
                if key.endswith("_implementation") and isinstance(name, str) and "/" in name
            )
            yield from _kernels(value)


def no_remote_code(candidate: Candidate) -> Verdict:
    """Nothing in the release asks whoever loads it to run its code, unless the policy allows that."""
    gate = "no_remote_code"
    found = [
        entry.path for entry in candidate.files if entry.path.casefold().endswith((".py", ".so", ".dll", ".dylib"))
    ]
    for name in ("config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json"):
        if candidate.has(name):
            settings = json.loads((candidate.bundle / name).read_text(encoding="utf-8"))
            found += [f"{name} ({key})" for key in ("auto_map", "custom_pipelines") if settings.get(key)]
            found += [f"{name} ({key}: {kernel})" for key, kernel in _kernels(settings)]
    if not found:
        return passed(gate, "no code in the files, and none asked for by the configs")
    told = ", ".join(found[:5])
    if candidate.policy.remote_code == "allowed":
        return passed(gate, f"{told}: code that the policy allows", code=found)
    return refused(
        gate,
        f"{told}: to load it, people would have to trust code, with trust_remote_code=True or of the repository that is named",
        remedy="use an architecture that transformers has, and leave the implementation of attention to whoever loads it; or "
        "remote_code: allowed in a policy of your own",
        code=found,
    )


def chat_template_renders(candidate: Candidate) -> Verdict:
    """The chat template renders and opens the assistant's turn, and generation stops where that turn ends."""
    gate = "chat_template_renders"
    tokenizer = load_tokenizer(candidate.bundle)
    if not tokenizer.chat_template:
        return without_template(candidate)
    if (unfit := not_for_chat(candidate)) is not None:
        return unfit
    question, answer = "How many planets are there?", "There are eight."
    asked = [{"role": "user", "content": question}]
    closed = str(tokenizer.apply_chat_template(asked, tokenize=False))
    opened = str(tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True))
    whole = str(tokenizer.apply_chat_template([*asked, {"role": "assistant", "content": answer}], tokenize=False))
    if question not in opened or answer not in whole:
        return refused(
            gate, "the chat template loses what is said", remedy="mend the chat template", rendered=opened[:500]
        )
    # Llama 2's and Mistral's users' turns end in what opens the answer, whatever is asked for.
    follows = whole.removeprefix(opened).lstrip().startswith(answer) if whole.startswith(opened) else False
    if len(opened) <= len(closed) and not follows:
        return refused(
            gate,
            "add_generation_prompt opens no assistant's turn",
            remedy="mend the chat template: with add_generation_prompt it must end as an assistant's turn begins",
            rendered=opened[:500],
        )
    if (beyond := _beyond_the_embedding(candidate, whole)) is not None:
        return refused(
            gate,
            f"the template writes {beyond[0]!r} (id {beyond[1]}), and the model has {beyond[2]} embeddings: conversations fail",
            remedy="resize the model's embeddings to its tokenizer, or take the token out of the template",
            rendered=opened[:500],
        )
    if not is_causal(candidate.bundle):
        return passed(gate, "renders; no causal language model, so no turn of it has to end", rendered=opened[:500])
    stops = _stop_tokens(candidate)
    ending = tokenizer(whole.rpartition(answer)[2], add_special_tokens=False)["input_ids"]
    special = [token for token in ending if token in tokenizer.all_special_ids]
    turn_end = special[0] if special else tokenizer.eos_token_id
    evidence = {
        "turn_ends_with": tokenizer.convert_ids_to_tokens(turn_end) if turn_end is not None else None,
        "tokenizer_stops_at": tokenizer.eos_token_id,
        "generation_stops_at": stops,
        "rendered": opened[:500],
    }
    if tokenizer.eos_token_id not in stops or turn_end not in stops:
        return refused(
            gate,
            f"an answer ends with {evidence['turn_ends_with']!r} (id {turn_end}), the tokenizer's end token is "
            f"{tokenizer.eos_token_id}, but generation stops at {stops}: it would run on after every answer",
            remedy="set eos_token_id in generation_config.json to the token that ends an assistant's turn",
            **evidence,
        )
    return passed(gate, f"renders; answers end with {evidence['turn_ends_with']!r}, where generation stops", **evidence)


def _beyond_the_embedding(candidate: Candidate, text: str) -> tuple[str, int, int] | None:
    """The token of a rendered conversation that the model has no embedding for, its id, and how many there are."""
    try:
        loaded = candidate.loaded
    except UsageError:  # loads_clean says why it does not load
        return None
    known = loaded.model.get_input_embeddings().num_embeddings
    highest = max(loaded.tokenizer(text, add_special_tokens=False)["input_ids"], default=0)
    return (str(loaded.tokenizer.convert_ids_to_tokens(highest)), highest, known) if highest >= known else None


def _stop_tokens(candidate: Candidate) -> list[int]:
    """Where `generate` stops: the generation config's end tokens, or the config's where it names none."""
    from transformers import AutoConfig, GenerationConfig

    if candidate.has("generation_config.json"):
        stop = GenerationConfig.from_pretrained(candidate.bundle, local_files_only=True).eos_token_id
    else:
        stop = AutoConfig.from_pretrained(candidate.bundle, local_files_only=True).eos_token_id
    return [stop] if isinstance(stop, int) else list(stop or [])
