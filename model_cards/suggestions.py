"""What a card could say and does not: the keys that the Hub reads beside those that it needs, and places left to be filled in.

for problem in suggestions(text): ...      # nothing of it refuses a release
"""

from __future__ import annotations

import re

import yaml

from model_cards.check import FENCED, HEAD, Problem

# The Hub's model card specification and its release checklist; what each is good for.
KEYS = {
    "license": "nobody knows whether they may use it",
    "language": "it is not found by language",
    "library_name": "the Hub shows no snippet for loading it",
    "pipeline_tag": "the Hub does not know the task, and offers no widget",
    "base_model": "it does not stand in its parent's tree of models",
    "datasets": "the data that it was trained on are not linked",
    "tags": "it is not found by words of one's own",
    "model-index": "its scores do not stand beside others'",
}
LEFT_OPEN = re.compile(r"\[?(?:more information needed|todo|tbd|fill (?:this )?in|lorem ipsum)\]?", re.IGNORECASE)


def suggestions(text: str) -> list[Problem]:
    """Recommended keys that are missing from the card's metadata, and each line that is still to be written."""
    head = HEAD.match(text)
    try:
        data = yaml.safe_load(head.group(1)) if head else {}
    except yaml.YAMLError:
        return []  # metadata_problems says what is wrong with it
    data = data if isinstance(data, dict) else {}
    found = [Problem("recommended", f"it is missing, so {why}", key) for key, why in KEYS.items() if not data.get(key)]
    body = FENCED.sub(lambda block: "\n" * block.group().count("\n"), text)
    found += [
        Problem("placeholder", f"this is still to be written: {line.strip()[:80]}", f"line {number}")
        for number, line in enumerate(body.split("\n"), 1)
        if LEFT_OPEN.search(line)
    ]
    return found
