"""Gates on the records: run.json and scorecard.json speak of these bytes and of no others."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from evals.scorecard import Scorecard
from release.gates.advice import evaluate_again
from release.gates.candidate import Candidate, first_of, passed, refused, skipped
from release.records import Verdict
from training.counted import counted
from training.records import sha256_of_file

if TYPE_CHECKING:
    from evals.contamination import Contamination

NAMED = 2  # how many things that nothing defines an explanation carries


def run_record_pinned(candidate: Candidate) -> Verdict:
    """run.json says that it made exactly this checkpoint."""
    gate, record = "run_record_pinned", candidate.run_record
    if record is None:
        if candidate.policy.run_record == "optional":
            return skipped(gate, "there is no run.json, and the policy does not ask for one")
        return refused(
            gate,
            "there is no run.json, so nothing says how the checkpoint was made",
            remedy="train with `python -m training ...`, or take a policy with run_record: optional (--policy external)",
        )
    evidence = {"method": record.method, "recorded": record.checkpoint_digest, "found": candidate.digest}
    if record.checkpoint_digest != candidate.digest:
        return refused(
            gate,
            f"run.json speaks of {record.checkpoint_digest}, the bundle holds {candidate.digest}",
            remedy="the checkpoint was changed after training: train again, or restore it",
            **evidence,
        )
    return passed(gate, f"made by {record.method}, digest as recorded", **evidence)


def scorecard_pinned(candidate: Candidate) -> Verdict:
    """scorecard.json was measured on exactly these bytes, its samples are there, and it covers what the policy asks."""
    gate, rules, scorecard = "scorecard_pinned", candidate.policy.scorecard, candidate.scorecard
    remedy = evaluate_again(candidate)
    if scorecard is None:
        if not rules.required:
            return skipped(gate, "there is no scorecard.json, and the policy does not ask for one")
        return refused(gate, "there is no scorecard.json", remedy=remedy)
    evidence: dict[str, Any] = {
        "measured_on": scorecard.model.digest,
        "found": candidate.digest,
        "scores": len(scorecard.scores),
        "tasks": [settings.task for settings in scorecard.settings.tasks],
        "failed_tasks": scorecard.failed_tasks,
    }
    if scorecard.model.endpoint is not None:
        return refused(
            gate,
            f"the scores were measured on what {scorecard.model.endpoint} served, and nothing pins its bytes",
            remedy=remedy,
            **evidence,
        )
    if scorecard.model.digest != candidate.digest:
        return refused(
            gate,
            f"the scores were measured on {scorecard.model.digest}, the bundle holds {candidate.digest}",
            remedy=remedy,
            **evidence,
        )
    problems = samples_problems(candidate, scorecard, "samples") + _coverage_problems(candidate, scorecard)
    wrong, evidence["not_held_against_a_definition"] = _definition_problems(candidate, scorecard)
    problems += wrong
    if problems:
        return refused(gate, first_of(problems), remedy=remedy, problems=problems, **evidence)
    not_held = evidence["not_held_against_a_definition"]
    rest = f"; as the scorecard says, which nothing here defines: {'; '.join(not_held[:NAMED])}" if not_held else ""
    rest += f" and {len(not_held) - NAMED} more" if len(not_held) > NAMED else ""
    return passed(gate, f"{counted(len(scorecard.scores), 'score')} measured on these bytes{rest}", **evidence)


def figures_from_samples(candidate: Candidate) -> Verdict:
    """Every figure of the scorecard, of the parent's and of models beside it is what its samples give, computed again."""
    gate, found = "figures_from_samples", candidate.regenerated
    if not found:
        return skipped(gate, "there is no scorecard.json")
    wrong = [f"{name}: {one.problem}" for name, one in found.items() if one.problem is not None]
    unmade = {name: one.impossible for name, one in found.items() if one.impossible}
    evidence = {"figures": len(found), "not_made_again": unmade}
    if wrong:
        return refused(
            gate,
            f"{len(wrong)} of {len(found)} figures are not what their samples give; first {wrong[0]}",
            remedy=evaluate_again(candidate),
            wrong=wrong[:50],
            **evidence,
        )
    rest = f", {len(unmade)} could not be made again" if unmade else ""
    return passed(gate, f"{len(found) - len(unmade)} figures made again from their samples{rest}", **evidence)


def headlines_regenerable(candidate: Candidate) -> Verdict:
    """No headline figure is one that nothing can make again from its samples."""
    gate, found = "headlines_regenerable", candidate.regenerated
    if not found:
        return skipped(gate, "there is no scorecard.json")
    headlines = [name for name, one in found.items() if one.score.headline]
    unmade = {name: why for name in headlines if (why := found[name].impossible)}
    if unmade:
        name, why = next(iter(unmade.items()))
        return refused(
            gate,
            f"nothing makes the headline figure {name} again: {why}",
            remedy=f"{evaluate_again(candidate)}, whose samples keep what lm-eval's own aggregations take; "
            f"or --waive '{gate}=REASON', which the card will say",
            not_made_again=unmade,
        )
    return passed(gate, f"{len(headlines)} headline figures can be made again from their samples")


def contamination_bounded(candidate: Candidate) -> Verdict:
    """contamination.json is there where the policy asks for it; it is of these scores, and no task has more items from the
    training data than the policy allows."""
    from evals.contamination import FILE, Contamination

    gate, rules = "contamination_bounded", candidate.policy.contamination
    remedy = f"python -m evals contamination {candidate.run.as_posix()}"
    if not candidate.has(FILE):
        named = [source.id for source in candidate.run_record.data] if candidate.run_record else []
        if rules.report == "optional":
            return skipped(gate, f"there is no {FILE}, and the policy does not ask for one")
        if rules.report == "with_data" and not (named and candidate.scorecard):
            return skipped(gate, f"there is no {FILE}, and no run.json that names training data beside scores")
        return refused(
            gate, f"there is no {FILE}, so nobody knows which items were trained on", remedy=remedy, data=named
        )
    report = Contamination.read(candidate.bundle / FILE)
    shares = {task.task: task.contaminated / max(task.items - task.too_short, 1) for task in report.tasks}
    evidence = {"shares": shares, "maximum_share": rules.maximum_share, "record_covered": report.record_covered}
    scored = next((entry.sha256 for entry in candidate.files if entry.path == "scorecard.json"), None)
    if report.checkpoint_digest != candidate.digest or report.scorecard_sha256 != scored:
        said = f"{FILE} is of the checkpoint {report.checkpoint_digest} and scores {report.scorecard_sha256[:16]}..."
        return refused(gate, f"{said}, not of these", remedy=remedy, **evidence)
    if problems := _search_problems(candidate, report):
        return refused(gate, first_of(problems), remedy=remedy, problems=problems, **evidence)
    above = {task: share for task, share in shares.items() if share > rules.maximum_share}
    if above:
        told = ", ".join(f"{task} {share:.1%}" for task, share in sorted(above.items()))
        return refused(
            gate,
            f"items that stand in the training data: {told}; the policy allows {rules.maximum_share:.1%}",
            remedy="take these items out of the training data and train again",
            **evidence,
        )
    rest = "" if report.record_covered else "; not all of the data that run.json names were searched"
    highest = max(shares.values(), default=0.0)
    if all(task.items == task.too_short for task in report.tasks):
        return passed(gate, f"nothing was searched, for every item is too short to be looked for{rest}", **evidence)
    return passed(gate, f"at most {highest:.1%} of a task's items in the training data{rest}", **evidence)


def _search_problems(candidate: Candidate, report: Contamination) -> list[str]:
    """What a report did not search: tasks that the scorecard scores, items of these, training data."""
    from evals.contamination import FILE

    scorecard = candidate.scorecard
    scored = sorted({score.task for score in scorecard.scores} | set(scorecard.samples)) if scorecard else []
    searched = {task.task: task for task in report.tasks}
    missing = [task for task in scored if task not in searched]
    problems = (
        [f"{FILE} has not looked for the items of {', '.join(missing)}, which the scorecard scores"] if missing else []
    )
    problems += [] if report.data else [f"{FILE} names no training data that was searched"]
    for task in scored:
        file = candidate.bundle / "samples" / f"{task}.jsonl"
        items = sum(bool(line.strip()) for line in file.read_bytes().splitlines()) if file.is_file() else 0
        if task in searched and searched[task].items != items:
            found = f"looked for {counted(searched[task].items, 'item')} of {task}, {items} were scored"
            problems.append(f"{FILE} {found}")
    named = {source.sha256: source.id for source in candidate.run_record.data} if candidate.run_record else {}
    unread = [name for sha256, name in named.items() if sha256 not in {one.sha256 for one in report.data}]
    if report.record_covered and unread:
        problems.append(f"{FILE} says that all of run.json's data were searched, and {', '.join(unread)} was not")
    return problems


def samples_problems(candidate: Candidate, scorecard: Scorecard, folder: str) -> list[str]:
    """Sample files that are missing or are not those that the scorecard was computed from."""
    problems = []
    for task, expected in sorted(scorecard.samples.items()):
        name = f"{folder}/{task}.jsonl"
        if not candidate.has(name):
            problems.append(f"{name} is missing")
            continue
        found = sha256_of_file(candidate.bundle / name)
        if found != expected:
            problems.append(f"{name} hashes to {found[:16]}..., the scorecard says {expected[:16]}...")
    return problems


def _definition_problems(candidate: Candidate, scorecard: Scorecard) -> tuple[list[str], list[str]]:
    """Where scorecards, this one's and the parent's, say something else of their figures than tasks and suite that are installed
    here; and what of this one nothing here defines."""
    from evals.declared import held_to_definitions, left_out
    from evals.saved import SavedRun

    if samples_problems(candidate, scorecard, "samples"):  # which the gate tells
        samples = None
    else:
        saved = SavedRun.open(candidate.bundle)
        samples = {task: saved.samples(task) for task in scorecard.samples}
    held = held_to_definitions(scorecard, samples)
    problems = held.problems + left_out(scorecard, samples or {})
    if candidate.baseline is not None:
        problems += [f"baseline/{problem}" for problem in held_to_definitions(candidate.baseline).problems]
    return problems, held.not_held


def _coverage_problems(candidate: Candidate, scorecard: Scorecard) -> list[str]:
    rules = candidate.policy.scorecard
    problems = [
        f"the required task {task} failed: {why}" for task, why in scorecard.failed_tasks.items() if task in rules.tasks
    ]
    scored = {score.task for score in scorecard.scores}
    problems += [
        f"the required task {task} is not in the scorecard"
        for task in rules.tasks
        if task not in scored and task not in scorecard.failed_tasks
    ]
    headlines = [score for score in scorecard.scores if score.headline]
    for group in rules.groups:
        if not any(score.group == group for score in headlines):
            failed = f" (failed tasks: {', '.join(scorecard.failed_tasks)})" if scorecard.failed_tasks else ""
            problems.append(f"there is no headline score for {group}{failed}")
    for score in headlines:
        name = f"{score.task}/{score.metric}"
        if not math.isfinite(score.value):
            problems.append(f"{name} is {score.value}")
        if score.n < rules.minimum_items:
            problems.append(f"{name} rests on {counted(score.n, 'item')}, the policy asks for {rules.minimum_items}")
        share = score.unscored / (score.n + score.unscored) if score.n + score.unscored else 1.0
        if share > rules.maximum_unscored:
            problems.append(f"{name}: {share:.0%} of its items could not be scored")
    return problems
