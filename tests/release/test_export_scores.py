"""How scores change with a quantised file: measured on its weights beside the checkpoint, item by item, and told in its card."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from exportable import make_run, release
from tiny_model import save_reward_model
from tiny_run import OWNER, write_run_record, write_scores

from evals.compare import compare
from evals.evaluated import find
from evals.presentation import short_digest
from evals.scorecard import Scorecard
from evals.statistics import estimate
from evals.suite import open_suite
from release.__main__ import main
from release.exports import parity
from release.exports.export import Exported, Identity, export
from release.exports.file_weights import FileOfCheckpoint, FileWeights
from release.exports.gguf_file import read_weights, write_gguf
from release.exports.parity import Bound
from release.exports.publish import publish_export
from release.exports.record import EXPORT, ExportedFile, ExportRecord, ScoreChange
from release.exports.record_check import check_figures
from release.exports.scores import Asked, Plan, differences, plan_scores
from release.hub_client import HubClient
from training.checkpoint import Checkpoint
from training.errors import GateRefused, UsageError
from training.records import sha256_of_file
from training.run_record import ParentCheckpoint, RunRecord

pytest.importorskip("xllamacpp")
SUITE = """description: two tasks that need no judge, and one that does
tasks:
  - task: starter_truthfulness
    group: truthfulness
    headline: [mc1, mc2]
    required: true
  - task: starter_helpfulness
    group: helpfulness
    scoring: judge
    chat_template: true
    headline: [win_rate]
    generation: {max_gen_toks: 4}
"""
ITEMS = 6  # of each task


@pytest.fixture(scope="module", autouse=True)
def little_to_measure() -> Iterator[None]:
    """Two tokens of each answer, and a bound that a random model keeps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parity, "ANSWER_TOKENS", 2)
        patch.setitem(parity.BOUNDS, "Q4_0", Bound(1.0, 0.0))
        yield


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("scores") / "tiny", max_position_embeddings=1024)


@pytest.fixture(scope="module")
def suite(tiny: Path) -> str:
    file = tiny.parent / "two.yaml"
    file.write_text(SUITE)
    return str(file)


@pytest.fixture(scope="module")
def exported(tiny: Path, suite: str) -> Exported:
    """F16 and Q4_0 of the tiny run in its gguf/, scored by the suite without a judge."""
    identity = Identity("tiny", f"{OWNER}/tiny@v1.0.0", "apache-2.0")
    return export(tiny, ["F16", "Q4_0"], tiny / "gguf", identity, Asked(suite, ITEMS))


def q4_0(record: ExportRecord) -> ExportedFile:
    file = record.file("Q4_0")
    assert file is not None
    return file


def measured(record: ExportRecord) -> ScoreChange:
    change = q4_0(record).scores
    assert change is not None
    return change


@pytest.fixture
def copied(exported: Exported, tiny: Path, tmp_path: Path) -> Path:
    """A copy of the export that a test may change."""
    return Path(shutil.copytree(tiny / "gguf", tmp_path / "gguf"))


def test_the_weights_of_a_file_are_read_back_as_transformers_own_loader_reads_them(
    exported: Exported, tiny: Path
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    folder, checkpoint = tiny / "gguf", find(str(tiny))
    for file in exported.record.files:
        of_file = FileOfCheckpoint.of(checkpoint, folder / file.path, file.sha256)
        ours = FileWeights(of_file, "float32", "cpu", folder / file.path).model.state_dict()
        theirs = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file.path, dtype=torch.float32).state_dict()
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
        assert of_file.digest == f"sha256:{file.sha256}"


def test_biases_heads_and_an_output_of_its_own_come_back_too(tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    run = make_run(tmp_path / "run", tie_word_embeddings=False, attention_bias=True, head_dim=32)
    checkpoint = Checkpoint.open(run / "checkpoint")
    write_gguf(checkpoint, tmp_path / "a.gguf", "F32", name="a")
    original = AutoModelForCausalLM.from_pretrained(run / "checkpoint", dtype=torch.float32).state_dict()
    back = dict(read_weights(checkpoint, tmp_path / "a.gguf"))
    assert back.keys() == original.keys()
    assert all(torch.equal(torch.from_numpy(back[name]), original[name]) for name in back)


def test_a_file_of_another_model_is_refused(exported: Exported, tiny: Path, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", num_hidden_layers=1)
    with pytest.raises(UsageError, match="tensors of this checkpoint"):
        list(read_weights(Checkpoint.open(other / "checkpoint"), tiny / "gguf" / "tiny-Q4_0.gguf"))


def test_a_quantised_file_carries_the_change_of_the_headline_scores(exported: Exported) -> None:
    change = measured(exported.record)
    assert [(row.metric, row.n) for row in change.rows] == [("mc1", ITEMS), ("mc2", ITEMS)]
    mc2 = change.rows[1]
    assert mc2.difference == pytest.approx(mc2.file - mc2.checkpoint)
    assert mc2.difference != 0, "four bits are not the checkpoint"
    assert mc2.interval.low <= mc2.difference <= mc2.interval.high
    assert (change.suite, change.limit, change.dtype, change.judge) == ("two", ITEMS, "float32", None)
    assert "needs a judge" in change.left_out["starter_helpfulness"]
    assert exported.failed == {}


def test_a_whole_file_is_not_scored_and_says_so(exported: Exported) -> None:
    whole = exported.record.files[0]
    assert whole.scores is None
    assert "it is not quantised" in str(whole.scores_not_measured)


def test_anyone_makes_the_same_differences_from_the_scorecards_beside_the_file(exported: Exported, tiny: Path) -> None:
    place = tiny / "gguf" / "scores" / "Q4_0"
    comparison = compare(place / "checkpoint", place / "file")
    assert comparison.a_digest == exported.record.checkpoint_digest
    assert comparison.b_digest == f"sha256:{q4_0(exported.record).sha256}"
    theirs = {row.metric: (row.difference, row.interval) for row in comparison.rows if row.headline}
    assert theirs == {row.metric: (row.difference, row.interval) for row in measured(exported.record).rows}
    assert str(tiny) not in (place / "file" / "scorecard.json").read_text(), "it is published"


def test_the_card_tells_every_change_and_what_was_not_measured(exported: Exported, tiny: Path) -> None:
    card = (tiny / "gguf" / "README.md").read_text()
    mc1, _ = measured(exported.record).rows
    cells = f"| Q4_0 | starter_truthfulness mc1 ↑ | {100 * mc1.checkpoint:.1f}% | {100 * mc1.file:.1f}% | "
    assert cells in card
    assert f"{100 * mc1.difference:+.1f} pp [" in card
    assert "Q4_0 the suite two, at most 6 items a task, seed 0" in card
    assert "* F16: not measured: it is not quantised" in card
    assert "* Q4_0, starter_helpfulness: not measured" in card


def test_a_reward_model_that_is_named_judges_both(exported: Exported, tiny: Path, suite: str, copied: Path) -> None:
    judge = tiny.parent / "judge"
    save_reward_model(judge, seed=2, context=1024)
    done = export(tiny, ["Q4_0"], copied, Identity("tiny"), Asked(suite, ITEMS, judge))
    change = measured(done.record)
    assert [row.metric for row in change.rows] == ["mc1", "mc2", "reward_mean"]
    assert change.rows[2].scorer == f"reward model {change.judge}"
    assert "reward_mean stands for it" in change.left_out["starter_helpfulness/win_rate"]
    assert f"* reward_mean: by reward model {short_digest(str(change.judge))}." in (copied / "README.md").read_text()
    assert exported.record.files[1].loss == q4_0(done.record).loss, "the file was there"


def test_scores_that_are_there_are_not_measured_again_and_stay_without_being_asked_for(
    exported: Exported, tiny: Path, suite: str, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("release.exports.export.measure_scores", lambda *_: pytest.fail("measured again"))
    for asked in (Asked(suite, ITEMS), Asked(off=True), Asked()):
        assert export(tiny, ["F16", "Q4_0"], copied, Identity("tiny"), asked).record.files[1] == q4_0(exported.record)


def test_figures_that_their_samples_do_not_give_are_not_published_until_they_are_measured_again(
    exported: Exported, tiny: Path, suite: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = json.loads((copied / EXPORT).read_text())
    record["files"][1]["scores"]["rows"][0]["difference"] = 0.5
    (copied / EXPORT).write_text(json.dumps(record))
    publish = ["export", "--run", str(tiny), "--out", str(copied), "--repo", f"{OWNER}/never"]
    assert main(publish) == 2
    assert "is not what was measured" in capsys.readouterr().err
    shutil.rmtree(copied / "scores" / "Q4_0" / "file" / "samples")
    done = export(tiny, ["Q4_0"], copied, Identity("tiny"), Asked(suite, ITEMS))
    assert q4_0(done.record) == q4_0(exported.record)


def test_a_task_that_fails_takes_neither_the_file_nor_the_other_tasks_scores(
    exported: Exported, tiny: Path, suite: str, copied: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = Path(suite).with_name("failing.yaml")
    too_long = "  - {task: starter_instructions, group: helpfulness, generation: {max_gen_toks: 4096}}\n"
    file.write_text(SUITE + too_long)
    words = ["export", "--run", str(tiny), "--gguf", "Q4_0", "--out", str(copied), "--json"]
    words += ["--scores-suite", str(file), "--scores-limit", str(ITEMS), "--repo", f"{OWNER}/never"]
    assert main(words) == 2
    answer = json.loads(capsys.readouterr().out)
    assert "starter_instructions" in answer["scores_failed"]["Q4_0"]
    assert "receipt" not in answer
    record = ExportRecord.read(copied / EXPORT)
    assert [row.metric for row in measured(record).rows] == ["mc1", "mc2"]
    assert (copied / q4_0(record).path).is_file()
    card = (copied / "README.md").read_text()
    assert "* Q4_0, starter_instructions: not measured, it failed: " in card
    assert str(tiny) not in card


def test_where_nothing_can_be_scored_the_file_stays_and_its_card_says_so(
    exported: Exported, tiny: Path, suite: str, copied: Path
) -> None:
    file = Path(suite).with_name("nothing.yaml")
    task = "{task: starter_instructions, group: helpfulness, generation: {max_gen_toks: 4096}}"
    file.write_text(f"description: nothing\ntasks: [{task}]\n")
    done = export(tiny, ["Q4_0"], copied, Identity("tiny"), Asked(str(file)))
    assert done.failed.keys() == {"Q4_0"}
    assert q4_0(done.record).scores is None
    assert (copied / q4_0(done.record).path).is_file()
    assert "* Q4_0: not measured: it failed: " in (copied / "README.md").read_text()


def test_what_cannot_be_asked_for_is_refused_before_anything_is_written(tiny: Path, tmp_path: Path) -> None:
    words = ["export", "--run", str(tiny), "--gguf", "Q4_0", "--out", str(tmp_path / "out")]
    assert main([*words, "--scores-suite", "unheard-of"]) == 2
    assert main([*words, "--scores-suite", "starter", "--scores-limit", "0"]) == 2
    assert main([*words, "--scores-suite", "starter", "--judge", str(tiny)]) == 2
    assert not (tmp_path / "out").exists()


def test_the_suite_and_its_settings_are_those_of_the_runs_scorecard(tiny: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny / "checkpoint", tmp_path / "run" / "checkpoint").parent
    checkpoint = Checkpoint.open(run / "checkpoint")
    assert "no scorecard" in str(plan_scores(run, checkpoint, Asked(), run / "gguf", "tiny"))
    shares = {"helpfulness": 0.5, "truthfulness": 0.5, "toxicity": 0.1}
    card = write_scores(run, checkpoint.digest, shares)
    tasks = [task.model_copy(update={"limit": 24}) for task in card.settings.tasks]
    stated = {"tasks": tasks, "seed": 3, "dtype": "bfloat16", "suite_sha256": open_suite("starter").sha256}
    card = card.model_copy(update={"settings": card.settings.model_copy(update=stated)})
    card.write(run / "scorecard.json")
    plan = plan_scores(run, checkpoint, Asked(), run / "gguf", "tiny")
    assert isinstance(plan, Plan)
    assert (plan.request.limit, plan.request.seed, plan.request.dtype) == (24, 3, "float32")
    assert plan.left_out.keys() == {"starter_helpfulness"}
    fewer = plan_scores(run, checkpoint, Asked(limit=5), run / "gguf", "tiny")
    assert isinstance(fewer, Plan)
    assert fewer.request.limit == 5
    write_scores(run, "sha256:" + "0" * 64, shares)
    assert "another checkpoint" in str(plan_scores(run, checkpoint, Asked(), run / "gguf", "tiny"))


def test_the_judge_is_the_reward_model_that_run_json_names_where_it_lies(tiny: Path, tmp_path: Path) -> None:
    run = shutil.copytree(tiny / "checkpoint", tmp_path / "run" / "checkpoint").parent
    checkpoint = Checkpoint.open(run / "checkpoint")
    save_reward_model(tmp_path / "reward" / "checkpoint", seed=2, context=1024)
    judge = Checkpoint.open(tmp_path / "reward" / "checkpoint").digest
    card = write_scores(run, checkpoint.digest, {"helpfulness": 0.5, "truthfulness": 0.5, "toxicity": 0.1})
    scores = [card.scores[0].model_copy(update={"scorer": f"reward model {judge}"}), *card.scores[1:]]
    card.model_copy(update={"scores": scores}).write(run / "scorecard.json")
    write_run_record(run, checkpoint.digest, "sha256:" + "1" * 64)
    record = RunRecord.read(run / "run.json")
    parent = ParentCheckpoint(role="reward_model", name="runs/reward", digest=judge)
    record.model_copy(update={"parents": [*record.parents, parent]}).write(run / "run.json")
    plan = plan_scores(run, checkpoint, Asked(), run / "gguf", "tiny")
    assert isinstance(plan, Plan)
    assert (plan.judge, plan.request.judge) == (judge, tmp_path / "reward")


def test_scorecards_and_samples_are_published_with_the_file(
    exported: Exported, tiny: Path, hub: HubClient, repo_id: str
) -> None:
    release(hub, f"{OWNER}/tiny", tiny / "checkpoint")
    assert main(["export", "--run", str(tiny), "--repo", repo_id]) == 0
    tree = set(hub.tree(repo_id, "main"))
    for side in ("checkpoint", "file"):
        assert f"scores/Q4_0/{side}/scorecard.json" in tree
        assert f"scores/Q4_0/{side}/samples/starter_truthfulness.jsonl" in tree
    assert not any(".evals" in path for path in tree)
    there = Path(hub.api.snapshot_download(repo_id))
    assert compare(there / "scores/Q4_0/checkpoint", there / "scores/Q4_0/file").rows
    assert ExportRecord.read(there / EXPORT) == exported.record


def test_scores_of_a_file_are_answered_again_with_its_weights_and_made_up_ones_are_found(
    exported: Exported,
    tiny: Path,
    suite: str,
    copied: Path,
    hub: HubClient,
    repo_id: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    release(hub, f"{OWNER}/tiny", tiny / "checkpoint")
    publish_export(copied, exported.checkpoint, repo_id, hub)
    words = ["verify", repo_id, "--remeasure", "--suite", suite]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "tiny-Q4_0.gguf, checkpoint, starter_truthfulness/mc1: holds (4 items)" in said
    assert "tiny-Q4_0.gguf, file, starter_truthfulness/mc1: holds (4 items)" in said
    assert main(["verify", repo_id, "--remeasure"]) == 0
    assert "starter_truthfulness/mc1: its suite two is none of those installed here" in capsys.readouterr().out
    make_up(copied, exported.record)
    publish_export(copied, exported.checkpoint, repo_id, hub)
    assert main(["verify", repo_id]) == 0, "its samples say so"
    assert main(words) == 4
    said = capsys.readouterr().err
    assert (
        "rescore tiny-Q4_0.gguf, file, starter_truthfulness/mc1: expected 1, as the scorecard says, found does not hold"
        in said
    )
    assert "tiny-Q4_0.gguf, checkpoint" not in said


def make_up(export: Path, record: ExportRecord) -> None:
    """Every answer of the file right, in its samples, its scorecard and export.json."""
    side = export / "scores" / "Q4_0" / "file"
    samples, card = side / "samples" / "starter_truthfulness.jsonl", Scorecard.read(side / "scorecard.json")
    lines = [json.loads(line) for line in samples.read_text().splitlines()]
    for line in lines:
        line["values"] = dict.fromkeys(line["values"], 1.0)
        line["detail"]["log_likelihoods"] = [-1.0] + [-90.0] * (len(line["detail"]["log_likelihoods"]) - 1)
    samples.write_text("".join(json.dumps(line) + "\n" for line in lines))
    made = estimate([1.0] * len(lines), seed=0)
    scores = [
        score.model_copy(update={"value": 1.0, "stderr": 0.0, "interval": made.interval}) for score in card.scores
    ]
    hashes = {"starter_truthfulness": sha256_of_file(samples)}
    card.model_copy(update={"scores": scores, "samples": hashes}).write(side / "scorecard.json")
    change = measured(record)
    cards = change.scorecards | {"scores/Q4_0/file/scorecard.json": sha256_of_file(side / "scorecard.json")}
    typed = change.model_copy(update={"rows": differences(export / "scores" / "Q4_0"), "scorecards": cards})
    files = [file.model_copy(update={"scores": typed}) if file.scores else file for file in record.files]
    record.model_copy(update={"files": files}).write(export / EXPORT)


def test_a_scorecard_of_other_weights_or_with_figures_that_its_samples_do_not_give_is_found(
    exported: Exported, copied: Path
) -> None:
    def wrong(**changes: object) -> list[str]:
        file = copied / "scores" / "Q4_0" / "file" / "scorecard.json"
        Scorecard.read(file).model_copy(update=changes).write(file)
        return [finding.found or "" for finding in check_figures(copied, exported.record) if not finding.ok]

    card = Scorecard.read(copied / "scores" / "Q4_0" / "file" / "scorecard.json")
    assert wrong() == []
    (said,) = wrong(model=card.model.model_copy(update={"digest": exported.record.checkpoint_digest}))
    assert "not of the file's" in said
    (said,) = wrong(model=card.model, settings=card.settings.model_copy(update={"seed": 9}))
    assert "export.json says" in said
    best = [score.model_copy(update={"value": 0.987}) for score in card.scores]
    (said,) = wrong(settings=card.settings, scores=best)
    assert "starter_truthfulness/mc1" in said


def test_a_record_from_before_scores_keeps_its_digest(exported: Exported) -> None:
    files = [file.model_copy(update={"scores": None, "scores_not_measured": None}) for file in exported.record.files]
    older = exported.record.model_copy(update={"files": files})
    assert b"scores" not in older.to_json()


def test_text_that_holds_a_secret_is_not_published(
    exported: Exported, copied: Path, hub: HubClient, repo_id: str
) -> None:
    exported.record.model_copy(update={"license": "hf_" + "a1B2" * 9}).write(copied / EXPORT)
    with pytest.raises(GateRefused, match="a Hub token in"):
        publish_export(copied, exported.checkpoint, repo_id, hub)
    assert hub.repository(repo_id) is None
