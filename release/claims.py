"""What a release says of itself: its card and its figures held against the records and samples that lie in it, without weights.

    findings = check_claims(snapshot, plan)     # of a download whose files are those that the plan names

That every file is the one that was planned says nothing of what stands in it: whoever edits a card and the plan's hash of
it publishes another card. So `verify` reads the card like any other promise, and makes every figure again from its samples.
"""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from evals.declared import held_to_definitions
from evals.regenerate import OTHER_STREAM, regenerate
from evals.saved import SavedRun
from model_cards import score_table
from model_cards.author import without_author
from model_cards.check import HEAD, check_card
from model_cards.policy_shown import FILE as POLICY
from release.gates.candidate import SCORECARDS
from release.gates.paperwork import TEXT, waiver_problems
from release.policy import NEVER_WAIVED
from release.records import Finding, ReleasePlan
from training.errors import SlipwayError
from training.records import sha256_of_file

HALF_A_DIGIT = 0.5e-4 + 1e-9  # of the four that the metadata have
PICTURE = re.compile(r"!\[([^\]]*)\]\(figures/scores\.png\)")
FIGURE = re.compile(r"\d+\.\d+")
UNTRUE = ("numbers", "author")  # checks of what a card says; the others are of what it lacks
AS_RECORDS = "what its records and samples say"


def check_claims(snapshot: Path, plan: ReleasePlan | None) -> list[Finding]:
    """Findings of the card, of every figure and of the gates' verdicts. `plan` is None where the release has none to read."""
    findings = [*_card(snapshot, plan), *_figures(snapshot)]
    return findings if plan is None else [*findings, _gates(snapshot, plan)]


def _card(snapshot: Path, plan: ReleasePlan | None) -> list[Finding]:
    readme = snapshot / "README.md"
    try:
        problems = [problem.as_dict() for problem in check_card(readme)]
        text = readme.read_text(encoding="utf-8")
        beside = _index_problems(snapshot, text) + _picture_problems(without_author(text))
    except SlipwayError as error:
        return [_wrong("card", "README.md", f"{error.what}: {error.found or error.where}")]
    except Exception as error:  # noqa: BLE001 - a stranger's card and records: what they raise is what is wrong with them
        return [_wrong("card", "README.md", f"it cannot be read: {type(error).__name__}: {error}")]
    if plan is not None and not any(verdict.gate == "card_complete" for verdict in plan.verdicts):
        problems = [problem for problem in problems if problem["check"] in UNTRUE]  # it was never said to be complete
    noted = {problem["check"] for problem in _noted(plan)}  # by the policy of a checkpoint from elsewhere
    problems = [problem for problem in problems if problem["check"] not in noted & set(TEXT)]
    problems += waiver_problems(text, plan.waivers if plan else {})
    problems += beside + _policy_problems(text, plan)
    wrong = [_wrong("card", f"README.md, {problem['where']}", problem["what"]) for problem in problems]
    return wrong or [Finding(check="card", ok=True, subject="README.md", expected=AS_RECORDS, found=AS_RECORDS)]


def _index_problems(snapshot: Path, text: str) -> list[dict[str, str]]:
    """Figures of the metadata's model-index that the scorecard does not have, of tasks that it has."""
    head = HEAD.match(text)
    index = (yaml.safe_load(head.group(1)) or {}).get("model-index") if head else None
    if not index or not (snapshot / "scorecard.json").is_file():
        return []
    scores = {(score.task, score.metric): score.value for score in SavedRun.open(snapshot).scorecard.scores}
    tasks = {task for task, _ in scores}
    return [
        {
            "what": f"{task}/{metric['type']} is {metric['value']} in the metadata, the scorecard says {said}",
            "where": "model-index",
        }
        for model in index
        for result in model["results"]
        if (task := result["dataset"]["name"]) in tasks and not result.get("source")
        for metric in result["metrics"]
        if (said := scores.get((task, metric["type"]))) is None or abs(float(metric["value"]) - said) > HALF_A_DIGIT
    ]


def _picture_problems(text: str) -> list[dict[str, str]]:
    """Figures in the words for whoever does not see the picture of the scores, that stand in no table of them."""
    told = PICTURE.search(text)
    tables = "".join(text.partition(score_table.BEGIN)[1:])
    known = set(FIGURE.findall(tables))
    wrong = [figure for figure in FIGURE.findall(told.group(1)) if figure not in known] if told else []
    return [
        {"what": f"the words of the picture say {figure}, the tables do not", "where": "figures/scores.png"}
        for figure in wrong
    ]


def _policy_problems(text: str, plan: ReleasePlan | None) -> list[dict[str, str]]:
    """A policy of the publisher's own, which the card does not name."""
    if plan is None or POLICY not in {entry.path for entry in plan.files} or plan.policy_digest in without_author(text):
        return []
    return [{"what": f"it does not say that the policy {plan.policy} is not the default", "where": POLICY}]


def _noted(plan: ReleasePlan | None) -> list[dict[str, str]]:
    verdicts = plan.verdicts if plan else []
    return [
        problem
        for verdict in verdicts
        if verdict.gate == "card_complete"
        for problem in verdict.evidence.get("noted", [])
        if isinstance(problem, dict) and "check" in problem
    ]


def _figures(snapshot: Path) -> list[Finding]:
    files = sorted(file.relative_to(snapshot).as_posix() for file in snapshot.rglob("scorecard.json"))
    findings: list[Finding] = []
    for file in (file for file in files if re.fullmatch(SCORECARDS, file)):
        try:
            saved = SavedRun.open(snapshot / file)
            samples = {task: saved.samples(task) for task in saved.scorecard.samples}
            found, held = regenerate(saved, OTHER_STREAM), held_to_definitions(saved.scorecard, samples)
        except SlipwayError as error:
            findings.append(_wrong("figures", file, f"{error.what}: {error.found or error.where}"))
            continue
        except Exception as error:  # noqa: BLE001 - a stranger's records, as above
            findings.append(_wrong("figures", file, f"they cannot be made again: {type(error).__name__}: {error}"))
            continue
        wrong = [
            _wrong("figures", f"{file}, {one.score.task}/{one.score.metric}", one.problem)
            for one in found
            if one.problem is not None
        ]
        wrong += [_wrong("figures", file, problem) for problem in held.problems]
        unmade = [f"{one.score.task}/{one.score.metric}" for one in found if one.impossible is not None]
        rest = f", not made again: {', '.join(unmade)}" if unmade else ""
        said = f"{len(found) - len(unmade)} made again from their samples{rest}"
        findings += wrong or [Finding(check="figures", ok=True, subject=file, expected=AS_RECORDS, found=said)]
    return findings


def _gates(snapshot: Path, plan: ReleasePlan) -> Finding:
    """Under which policy it was released, and what its gates said."""
    outcomes = [verdict.outcome for verdict in plan.verdicts]
    said = [f"{outcomes.count(word)} {word}" for word in ("passed", "skipped", "refused") if word in outcomes]
    said += [f"{gate} waived because: {reason}" for gate, reason in sorted(plan.waivers.items())]
    not_asked = sorted(set(NEVER_WAIVED) - {verdict.gate for verdict in plan.verdicts})
    said += [f"not asked: {', '.join(not_asked)}"] if not_asked else []  # by versions before it, or its policy
    file = snapshot / POLICY
    others = POLICY in {entry.path for entry in plan.files} and (
        not file.is_file() or f"sha256:{sha256_of_file(file)}" != plan.policy_digest
    )
    said += [f"another policy in {POLICY}"] if others else []
    return Finding(
        check="gates",
        ok="refused" not in outcomes and not others,
        subject=f"policy {plan.policy} ({plan.policy_digest})",
        expected="none refused",
        found=", ".join(said) or "no gate was asked",
    )


def _wrong(check: str, subject: str, found: str) -> Finding:
    return Finding(check=check, ok=False, subject=subject, expected=AS_RECORDS, found=found)
