"""Does a release promise conversations? A base model has no chat template, and needs none unless something claims one."""

from __future__ import annotations

from release.gates.candidate import Candidate, refused, skipped
from release.gates.paperwork import front_matter
from release.model_class import is_causal
from release.records import Verdict

GATE = "chat_template_renders"


def without_template(candidate: Candidate) -> Verdict:
    """The verdict on a checkpoint without a chat template."""
    if candidate.space is not None:
        return refused(
            GATE,
            f"the chat Space {candidate.space} holds conversations, and the tokenizer has no chat template",
            remedy="leave --space out; or set tokenizer.chat_template and save the tokenizer into the checkpoint",
        )
    claims = _claims(candidate)
    if claims:
        return refused(
            GATE,
            f"the tokenizer has no chat template, but {claims[0]}",
            remedy="set tokenizer.chat_template, save the tokenizer into the checkpoint, then plan again; or claim no "
            "conversation",
            claims=claims,
        )
    return skipped(GATE, "a base model: it has no chat template, and nothing here says that it converses")


def not_for_chat(candidate: Candidate) -> Verdict | None:
    """The refusal of a chat Space for a model that is no causal language model; None where none was asked for, or it is one."""
    if candidate.space is None or is_causal(candidate.bundle):
        return None
    return refused(
        GATE,
        f"the chat Space {candidate.space} talks to causal language models only",
        remedy="leave --space out",
    )


def _claims(candidate: Candidate) -> list[str]:
    """What says that the model converses, in words."""
    claims = []
    record, card = candidate.run_record, candidate.scorecard
    if record is not None and record.method not in ("base", "merge"):
        claims.append(f"run.json says that it was trained on conversations, by {record.method}")
    if card is not None and (tasks := [task.task for task in card.settings.tasks if task.chat_template]):
        claims.append(f"it was scored with one: {', '.join(tasks)}")
    if candidate.has("README.md"):
        text = (candidate.bundle / "README.md").read_text(encoding="utf-8")
        tags = front_matter(candidate.bundle / "README.md").get("tags")
        if isinstance(tags, list) and "conversational" in tags:
            claims.append("the card has the tag conversational")
        if "apply_chat_template" in text:
            claims.append("the card tells readers to use apply_chat_template")
    return claims
