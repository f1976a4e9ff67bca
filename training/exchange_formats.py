"""Records as Argilla 2 and Label Studio write and read them.

to_argilla(shown), from_argilla(value, where="records.json")
to_label_studio(shown), from_label_studio(value, where="export.json")
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import Any

from training.exchange_records import (
    QUESTIONS,
    Judgement,
    Shown,
    facts_of,
    fields_of,
    known,
    naming,
    rows_of,
    said,
    shown_of,
    utc,
)

OF_VOTE = "-slipway-"  # in the id of a region, between the vote's and what it says
LABEL_CONFIG = """<View>
  <Text name="prompt" value="$prompt"/>
  <View style="display: grid; grid-template-columns: 1fr 1fr; gap: 1em">
    <Text name="answer_a" value="$answer_a"/>
    <Text name="answer_b" value="$answer_b"/>
  </View>
  <Choices name="preference" toName="prompt" choice="single" required="true">
    <Choice value="a" alias="a"/><Choice value="b" alias="b"/><Choice value="tie"/><Choice value="both_bad"/>
  </Choices>
  <TextArea name="reason" toName="prompt"/>
  <TextArea name="better_answer" toName="prompt"/>
</View>
"""


def to_argilla(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Records as Argilla's `to_json` writes them; its user ids are UUIDs, here made of the labellers' hashes."""
    return [
        {
            "id": one.key,
            "fields": fields_of(one),
            "metadata": {"slipway": facts_of(one)},
            "suggestions": {},
            "responses": {
                name: values
                for name, values in (
                    ("preference", [_response(judged, judged.choice) for judged in one.judgements]),
                    ("reason", [_response(judged, judged.reason) for judged in one.judgements if judged.reason]),
                    (
                        "better_answer",
                        [_response(judged, judged.better_answer) for judged in one.judgements if judged.better_answer],
                    ),
                )
                if values
            },
            "vectors": {},
            "_server_id": None,
        }
        for one in shown
    ]


def from_argilla(value: Any, where: str) -> Iterator[Shown]:
    """The records of an Argilla file. Raises UsageError naming the first that has not our fields and questions."""
    for number, record in enumerate(rows_of(value, where), 1):
        place = f"{where}, record {number}"
        with naming(place):
            shown = shown_of(
                record.get("fields"), (record.get("metadata") or {}).get("slipway"), _argilla_judgements(record), place
            )
        yield shown


def _argilla_judgements(record: dict[str, Any]) -> list[Judgement]:
    responses = record.get("responses") or {}
    others = {
        name: {str(given.get("user_id")): said(given.get("value")) for given in responses.get(name) or []}
        for name in QUESTIONS
    }
    judgements = []
    for given in responses.get("preference") or []:
        who = known(given.get("user_id"), "user_id")
        texts = others["reason"].get(who), others["better_answer"].get(who)
        judgements.append(Judgement(who, str(given.get("value")), *texts, None, None))
    return judgements


def to_label_studio(shown: Sequence[Shown]) -> list[dict[str, Any]]:
    """Tasks as Label Studio takes and gives them; judgements as annotations.

    These name nobody (`completed_by`): it refuses users whom it does not know, and takes the importing one where there
    is none. The ids of their regions, which it keeps, lead back to the votes.
    """
    return [
        {
            "data": {**fields_of(one), "slipway": facts_of(one)},
            "annotations": [
                {
                    "result": [
                        _result(judged, "preference", "choices", {"choices": [judged.choice]}),
                        *(
                            _result(judged, name, "textarea", {"text": [text]})
                            for name, text in (("reason", judged.reason), ("better_answer", judged.better_answer))
                            if text
                        ),
                    ],
                    "lead_time": judged.seconds,
                    "created_at": judged.when,
                    "was_cancelled": False,
                }
                for judged in one.judgements
            ],
        }
        for one in shown
    ]


def from_label_studio(value: Any, where: str) -> Iterator[Shown]:
    """The tasks of a Label Studio export; cancelled annotations are left out. `Pairwise` regions are read as A or B."""
    for number, task in enumerate(rows_of(value, where), 1):
        place = f"{where}, task {number}"
        with naming(place):
            data = task.get("data") or {}
            found = [_annotation(annotation) for annotation in task.get("annotations") or []]
            shown = shown_of(data, data.get("slipway"), [judged for judged in found if judged is not None], place)
        yield shown


def _annotation(annotation: dict[str, Any]) -> Judgement | None:
    """One annotation of Label Studio; None where it was cancelled or chooses nothing."""
    given = {str(one.get("from_name")): one.get("value") or {} for one in annotation.get("result") or []}
    selected = next((one["selected"] for one in given.values() if "selected" in one), None)
    choices = given.get("preference", {}).get("choices") or [{"left": "a", "right": "b"}.get(str(selected))]
    if annotation.get("was_cancelled") or choices[0] is None:
        return None
    who = annotation.get("completed_by")
    if isinstance(who, dict):
        # By id first: other exports of the same project write the id alone, and the user must not become two labellers.
        who = who.get("email") if who.get("id") is None else who["id"]
    reason, better = (said(given.get(name, {}).get("text")) for name in QUESTIONS)
    vote_id = _vote_id(annotation.get("result") or [])
    return Judgement(
        str(who or "") if vote_id else known(who, "completed_by"),
        str(choices[0]),
        reason,
        better,
        annotation.get("lead_time"),
        utc(annotation.get("created_at")),
        vote_id,
    )


def _response(judged: Judgement, value: str | None) -> dict[str, str | None]:
    return {"value": value, "user_id": str(uuid.UUID(judged.who[:32]))}


def _result(judged: Judgement, name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": f"{judged.vote_id}{OF_VOTE}{name}",
        "from_name": name,
        "to_name": "prompt",
        "type": kind,
        "value": value,
    }


def _vote_id(result: list[dict[str, Any]]) -> str | None:
    """The exported vote that the regions of an annotation lead back to."""
    parts = [str(region.get("id")).partition(OF_VOTE) for region in result]
    return next((vote for vote, mark, _ in parts if mark), None)
