"""What export.json says, held against what lies beside it and against the release that it names, with nothing run.

    findings = check_figures(snapshot, record)        # the losses, tensors and scorecards, before and after publication
    findings += [check_card(snapshot, record)]        # the tables that people read
    findings += [base_finding(record, *find_base(hub, record))]  # the checkpoint's digest, from the hashes that the Hub lists

That every file has the recorded hash says nothing of the figures that stand beside it. What only a run of llama.cpp can show,
`--remeasure` shows.
"""

from __future__ import annotations

from collections import Counter
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory

from release.bundle import files_of
from release.exports import parity
from release.exports.card import render_card
from release.exports.parity import BOUNDS, Loss, prompts_digest, refusal
from release.exports.record import CARD, EXPORT, ExportedFile, ExportRecord
from release.hub_client import HubClient
from release.records import Finding
from training.checkpoint import FileEntry, changes_behaviour, manifest_digest
from training.errors import SlipwayError, UsageError

CLOSE = 1e-6


def check_figures(snapshot: Path, record: ExportRecord) -> list[Finding]:
    """A finding for every file and for every scorecard."""
    known = record.prompts_digest == prompts_digest()
    findings = []
    for file in record.files:
        problem = _loss_problem(file, known) or _file_problem(snapshot, file)
        agrees = "figures that agree with each other and with the file"
        findings.append(_finding("record", file.path, agrees, problem))
    for file in record.files:
        for path in sorted(file.scores.scorecards if file.scores else {}):
            problem = _scorecard_problem(snapshot, path, file, record)
            findings.append(_finding("scorecard", path, "figures that its samples give, of these weights", problem))
    return findings


def check_card(snapshot: Path, record: ExportRecord) -> Finding:
    """Whether the card's tables are those of the record."""
    return _finding("card", CARD, f"the figures of {EXPORT}", _card_problem(snapshot, record))


def find_base(hub: HubClient, record: ExportRecord) -> tuple[str, str]:
    """The revision of the release that the record names, and the digest of the checkpoint there, by the hashes that the Hub
    lists of its weights and by the bytes of its small files. Raises UsageError where it names none, HubError.

    A record without a revision is of no release in particular, so that of any tag will do.
    """
    if record.base_model is None:
        raise UsageError(
            f"{EXPORT} does not say which released model the files are of, so there is nothing to hold them against"
        )
    repository = None if record.base_revision else hub.repository(record.base_model)
    revisions = [record.base_revision or "main", *(repository.tags if repository else [])]
    found = {}
    for revision in revisions:
        found[revision] = digest_there(hub, record.base_model, hub.resolve(record.base_model, revision))
        if found[revision] == record.checkpoint_digest:
            return revision, found[revision]
    return revisions[0], found[revisions[0]]


def base_finding(record: ExportRecord, revision: str, digest: str) -> Finding:
    return Finding(
        check="base",
        ok=digest == record.checkpoint_digest,
        subject=f"{record.base_model}@{revision}",
        expected=record.checkpoint_digest,
        found=digest,
    )


def digest_there(hub: HubClient, repo_id: str, commit: str) -> str:
    """The digest of the checkpoint at a commit, without its weights: a Hub lists the SHA-256 of what is large."""
    model = {path: file for path, file in hub.tree(repo_id, commit).items() if changes_behaviour(Path(path))}
    listed = [
        FileEntry(path=path, size=file.size, sha256=file.sha256)
        for path, file in model.items()
        if file.sha256 is not None
    ]
    small = [path for path, file in model.items() if file.sha256 is None]
    if small:
        with TemporaryDirectory(prefix="slipway-download-") as cache:
            place = hub.download(repo_id, commit, Path(cache), patterns=[escape(path) for path in small])
            listed += [entry for entry in files_of(place) if entry.path in small]
    return manifest_digest(tuple(listed))


def _loss_problem(file: ExportedFile, known_prompts: bool) -> str | None:
    """What no measurement can have given; None where these figures may have been measured."""
    loss = file.loss
    hits = loss.greedy_agreement * loss.positions
    if file.precision not in BOUNDS:
        return f"there is no precision {file.precision}"
    if (reason := refusal(loss, BOUNDS[file.precision])) is not None:
        return f"a file with this loss is not kept: {reason}"
    if loss.positions < 1 or loss.prompts < 1:
        return f"{loss.positions} positions of {loss.prompts} prompts"
    if not 0 <= loss.kl_mean <= loss.kl_max <= loss.kl_mean * loss.positions * (1 + CLOSE):
        return f"a largest divergence of {loss.kl_max:.4g} with a mean of {loss.kl_mean:.4g} over {loss.positions}"
    if not 0 <= loss.greedy_agreement <= 1 or abs(hits - round(hits)) > CLOSE * loss.positions:
        return f"a greedy agreement of {loss.greedy_agreement:.6g}, which is no share of {loss.positions}"
    if known_prompts and loss.prompts != _prompts():
        return f"{loss.prompts} prompts; those that it names are {_prompts()}"
    return _counts_problem(loss)


def _counts_problem(loss: Loss) -> str | None:
    for name, count in (("the same tokens", loss.same_tokens), ("the same texts", loss.same_texts)):
        if not 0 <= count <= loss.prompts:
            return f"{name} for {count} of {loss.prompts} prompts"
    return None


def _file_problem(snapshot: Path, file: ExportedFile) -> str | None:
    """Whether the file's own header has the recorded tensors; a file that is missing has a finding already."""
    import gguf

    path = snapshot / file.path
    if not path.is_file():
        return None
    if path.stat().st_size != file.size:
        return f"{path.stat().st_size} bytes, recorded as {file.size}"
    try:
        types = Counter(tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors)
    except Exception as error:  # noqa: BLE001 - a stranger's file: what its reader raises is what is wrong with it
        return f"its header cannot be read: {type(error).__name__}: {error}"
    return None if types == Counter(file.tensors) else f"tensors {dict(types)}, recorded as {file.tensors}"


def _scorecard_problem(snapshot: Path, path: str, file: ExportedFile, record: ExportRecord) -> str | None:
    """A scorecard behind a change of scores is of this checkpoint or file, as the record states, and says what its samples say."""
    from evals.regenerate import OTHER_STREAM, regenerate
    from evals.saved import SavedRun
    from release.exports.scores import SIDES

    change, side = file.scores, Path(path).parent.name
    assert change is not None
    try:
        run = SavedRun.open(snapshot / path)
        wrong = next((found for found in regenerate(run, OTHER_STREAM) if found.problem), None)
    except SlipwayError as error:
        return f"{error.what}: {error.found or error.where}"
    except Exception as error:  # noqa: BLE001 - a stranger's records, as above
        return f"it cannot be made again: {type(error).__name__}: {error}"
    if wrong is not None:
        return f"{wrong.score.task}/{wrong.score.metric}: {wrong.problem}"
    of = {SIDES[0]: record.checkpoint_digest, SIDES[1]: f"sha256:{file.sha256}"}
    settings = run.scorecard.settings
    stated = (change.suite, change.suite_sha256, change.seed, change.dtype)
    measured = (settings.suite, settings.suite_sha256, settings.seed, settings.dtype)
    if run.scorecard.model.digest != of.get(side):
        return f"it is of {run.scorecard.model.digest}, not of the {side}'s {of.get(side)}"
    return None if measured == stated else f"measured with {measured}, {EXPORT} says {stated}"


def _card_problem(snapshot: Path, record: ExportRecord) -> str | None:
    """The first row of the card's tables that the record does not give, or that it gives and the card has not."""
    card = snapshot / CARD
    if not card.is_file() or not record.files:
        return None  # which is a finding already
    there, made = (_rows(text) for text in (card.read_text(encoding="utf-8", errors="replace"), render_card(record)))
    for row in [row for row in there if row not in made]:
        return f"{row}, which {EXPORT} does not give"
    missing = next((row for row in made if row not in there), None)
    return f"no row {missing}" if missing else None


def _rows(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.lstrip().startswith("|")]


def _prompts() -> int:
    return sum(1 for line in parity.PROMPTS.read_bytes().splitlines() if line)


def _finding(check: str, subject: str, expected: str, problem: str | None) -> Finding:
    return Finding(check=check, ok=problem is None, subject=subject, expected=expected, found=problem or expected)
