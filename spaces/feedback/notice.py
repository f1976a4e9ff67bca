"""What a labeller agrees to and is asked to do: the notice on data, and the instructions. Its hash goes into every vote."""

from __future__ import annotations

import hashlib
from typing import Any

INSTRUCTIONS = """
Read the prompt, then **both** answers to the end. Then say which one you would rather have received.

1. **Right before pleasant.** An answer that is wrong, made up or harmful loses to one that is plain and true.
2. **What was asked.** It answers the question, in the form and length that was asked for. Longer is not better by itself.
3. **Clear and kind.** Between two right answers, prefer the one that is easier to use.

**Tie** means equally good. **Both bad** means that you would not want either. If you know a better answer, write it: it is
worth more than a vote. Now and then a pair has a known answer; it looks like any other.
"""


def notice(space: dict[str, Any]) -> str:
    """The notice on what is collected and what for, as markdown."""
    where = (
        f"In a private dataset, `{space['votes_dataset']}`"
        if space["votes_dataset"]
        else "On the machine that runs this page"
    )
    asked = "What you ask" if space.get("live") else "The prompt"
    personal = "a question, a reason or an answer" if space.get("live") else "a reason or an answer"
    contact = space["contact"] or "whoever invited you"
    return f"""
**What this is.** You compare answers of language models. Your judgements train the next model.

**What is kept.** {asked} and both answers, your choice, and, if you write them, your reason and your better answer; when you
voted and how long you took; and your labeller code as a salted hash. No name, no e-mail, no network address.

**Where, and who sees it.** {where}. Data made from it, and models trained on that, may be published; please write nothing
personal into {personal}.

**Your choice.** Taking part is voluntary, and you can stop at any time. To have your votes deleted, ask {contact} and name the
labeller id that this page shows you below the pair. Your votes are then removed from the dataset, and the models that were
trained on them are named. A model that was trained already is not unmade by that.
"""


def notice_hash(space: dict[str, Any]) -> str:
    """Which notice a vote was given under."""
    return f"sha256:{hashlib.sha256(notice(space).encode()).hexdigest()}"
