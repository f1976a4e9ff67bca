"""Items of a suite that stand in the training data are found, counted, and taken out of the scores."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from own_task import CHOICES, TEXTS, write_suite, write_task

from evals.__main__ import main
from evals.contamination import FILE, Contamination, segments
from evals.overlap import grams, overlapping, without_the_shared
from evals.saved import SavedRun
from evals.scorecard import Sample
from training.data import load_preferences
from training.recipe import DataSettings
from training.records import sha256_of_file
from training.run_record import Hardware, Made, ParentCheckpoint, RunRecord

LONG = "What happens if you leave a metal spoon in an open bottle of sparkling wine overnight?"
TASK = "starter_truthfulness"


@pytest.fixture
def run(parent: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(parent, tmp_path / "run", ignore=shutil.ignore_patterns(".evals")))


def preferences(folder: Path, texts: list[str]) -> Path:
    file = folder / "preferences.jsonl"
    rows = [{"prompt": text, "chosen": f"Yes, {n}.", "rejected": "No."} for n, text in enumerate(texts)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def own_text(run: Path, place: int) -> tuple[str, str]:
    """An item that is long enough to be looked for, and what is its own of it."""
    own = {item: max(parts, key=len) for item, parts in segments(SavedRun.open(run).samples(TASK), 0).items()}
    return [(item, text) for item, text in own.items() if len(text.split()) >= 9][place]


def test_a_contaminated_item_is_found_reported_and_left_out_of_the_score(run: Path, capsys) -> None:
    ids, texts = zip(*(own_text(run, place) for place in (0, 2)), strict=True)
    data = preferences(
        run.parent, [f"Please tell me: {texts[0].upper()} I wonder.", texts[1], "Something else altogether."]
    )
    assert main(["contamination", str(run), "--data", str(data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    record = Contamination.read(run / FILE)
    assert told["highest_share"] == record.highest_share
    assert record.scorecard_sha256 == sha256_of_file(run / "scorecard.json")
    assert (record.run_record_sha256, record.record_covered) == (None, False)
    found = {task.task: task for task in record.tasks}
    task = found[TASK]
    assert task.contaminated == 2
    assert {one.item for one in task.examples} == set(ids)
    assert task.share == 2 / (task.items - task.too_short)
    values = {sample.item: sample.values["mc2"] or 0.0 for sample in SavedRun.open(run).samples(TASK)}
    clean = [value for item, value in values.items() if item not in ids]
    mc2 = next(score for score in task.scores if score.metric == "mc2")
    assert mc2.n == len(clean)
    assert mc2.without == pytest.approx(sum(clean) / len(clean))
    assert mc2.value == pytest.approx(sum(values.values()) / len(values))
    assert found["starter_toxicity"].contaminated == 0


def test_the_data_of_run_json_are_searched_and_proven_by_hash(run: Path) -> None:
    data = preferences(run.parent, [own_text(run, 1)[1], *(f"Question {n}?" for n in range(9))])
    settings = DataSettings(source=str(data))
    record_run(run, settings)
    assert main(["contamination", str(run)]) == 0
    record = Contamination.read(run / FILE)
    assert record.record_covered
    assert [one.of_record for one in record.data] == [True]
    data.write_text(data.read_text() + '{"prompt": "One more?", "chosen": "a", "rejected": "b"}\n')
    assert main(["contamination", str(run)]) == 0
    changed = Contamination.read(run / FILE)
    assert not changed.record_covered, "the file is no longer what the run was trained on, and the record says so"
    assert [one.of_record for one in changed.data] == [False]


def test_what_the_weights_were_trained_on_before_is_searched_too_and_what_is_not_here_is_named(run: Path) -> None:
    """SFT on an item, then DPO on other data: the item is found, by way of the parent's own record."""
    learned = preferences(run.parent, [own_text(run, 0)[1], *(f"Question {n}?" for n in range(9))])
    record_run(run, DataSettings(source=str(learned)))
    sft = run.parent / "sft"
    sft.mkdir()
    first = RunRecord.read(run / "run.json").model_copy(update={"checkpoint_digest": "sha256:" + "5" * 64})
    first.write(sft / "run.json")
    other = run.parent / "other"
    other.mkdir()
    settings = DataSettings(source=str(preferences(other, [f"Another {n}?" for n in range(9)])))
    record_run(run, settings)
    parent = ParentCheckpoint(role="base", name=str(sft), digest=first.checkpoint_digest, made=Made.of(first))
    RunRecord.read(run / "run.json").model_copy(update={"parents": [parent]}).write(run / "run.json")
    assert main(["contamination", str(run)]) == 0
    record = Contamination.read(run / FILE)
    assert record.record_covered
    assert [(one.stage, one.of_record) for one in record.data] == [(None, True), (str(sft), True)]
    assert next(task for task in record.tasks if task.task == TASK).contaminated == 1
    (sft / "run.json").unlink()
    assert main(["contamination", str(run)]) == 0
    without = Contamination.read(run / FILE)
    assert not without.record_covered
    assert without.not_searched == [f"{sft}: preferences.jsonl, 8 rows, which are not here"]
    assert without.highest_share == 0


def test_without_data_there_is_nothing_to_say(run: Path, capsys) -> None:
    assert main(["contamination", str(run)]) == 2
    assert "no training data to search" in capsys.readouterr().err
    assert not (run / FILE).exists()


def test_samples_that_are_not_those_of_the_scorecard_are_refused(run: Path, capsys) -> None:
    file = run / "samples" / f"{TASK}.jsonl"
    file.write_text(file.read_text().replace("?", "!"))
    assert main(["contamination", str(run), "--data", str(preferences(run.parent, ["x"]))]) == 2
    assert "not those of the scorecard" in capsys.readouterr().err


def test_thirteen_words_in_a_row_are_enough_and_twelve_are_not() -> None:
    assert len(grams(LONG)) == 16 - 13 + 1
    said = LONG.lower().rstrip("?").split()
    assert overlapping({"a": [LONG]}, ["so " + " ".join(said[2:15]) + " it was"]) == {"a": " ".join(said[2:15])}
    assert overlapping({"a": [LONG]}, ["so " + " ".join(said[2:14]) + " it was"]) == {}


def test_a_short_item_must_be_found_whole_and_a_very_short_one_is_not_looked_for() -> None:
    nine, seven = "one two three four five six seven eight nine", "one two three four five six seven"
    assert overlapping({"a": [nine], "b": [seven]}, [f"zero {nine} ten"]) == {"a": nine}
    assert overlapping({"a": [nine]}, [nine.removesuffix(" nine")]) == {}


def test_what_all_prompts_share_is_no_part_of_an_item() -> None:
    primer = "Q: What is human life expectancy in the United States and in the whole world?\nA: 78 years.\n\nQ: "
    prompts = [f"{primer}{question}\nA:" for question in ("Where is the moon?", "Where does it rain?", "Who sings?")]
    assert without_the_shared(prompts) == ["Where is the moon", "Where does it rain", "Who sings"]
    assert without_the_shared(["The same.", "The same."]) == ["The same.", "The same."]


def test_shots_of_other_items_are_no_part_of_an_item_but_choices_and_answers_are() -> None:
    samples = [
        Sample(
            item=str(n),
            prompt=f"Q: shot {n}\nA: 3\n\nQ: {what}\nA:",
            target="four",
            values={},
            detail={"choices": ["x"]},
        )
        for n, what in enumerate(("a pen", "one door"))
    ]
    assert segments(samples, 5) == {"0": ["a pen", "x", "four"], "1": ["one door", "x", "four"]}


@pytest.mark.parametrize("header_end", ["\n\n", "\n"])
def test_with_shots_in_a_chat_the_items_own_words_are_searched_whatever_the_template_writes(
    models: Path, tmp_path: Path, header_end: str, capsys
) -> None:
    fruits = ["apples", "pears", "plums", "figs", "dates", "nuts", "eggs", "hens"]
    asked = [
        f"The {fruit} of farmer {n} were counted twice.\n\nHow many {fruit} remain in the barn after {n} days?"
        for n, fruit in enumerate(fruits)
    ]
    definition = {**TEXTS, "fewshot_split": "test", "fewshot_config": {"sampler": "first_n"}}
    write_task(tmp_path, definition, "shots", [{"q": text, "c": ["none"], "a": 0} for text in asked])
    suite = write_suite(
        tmp_path, "task: shots, file: shots.yaml, group: other, num_fewshot: 2, chat_template: true, limit: 6"
    )
    model = Path(shutil.copytree(models / "parent", tmp_path / "model"))
    (model / "chat_template.jinja").write_text(
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '"
        + header_end
        + "' + m['content'] + '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant"
        + header_end
        + "' }}{% endif %}"
    )
    out = tmp_path / "out"
    assert main(["run", str(model), "--suite", str(suite), "--out", str(out), "--dtype", "float32"]) == 0
    places = {int(sample.item) for sample in SavedRun.open(out).samples("shots")}
    leaked = {0, max(places)}  # the first is a shot of the others
    assert main(["contamination", str(out), "--data", str(preferences(tmp_path, [asked[n] for n in leaked]))]) == 0
    (task,) = Contamination.read(out / FILE).tasks
    assert {one.item for one in task.examples} == {str(n) for n in leaked & places}
    assert (task.too_short, task.contaminated, task.own_words_guessed) == (0, len(leaked & places), False)
    assert "shots, and the samples" not in capsys.readouterr().out


def test_samples_that_do_not_hold_their_items_own_words_are_searched_by_a_guess_and_the_report_says_so(
    parent: Path, tmp_path: Path, capsys
) -> None:
    run = Path(shutil.copytree(parent, tmp_path / "run", ignore=shutil.ignore_patterns(".evals")))
    card = json.loads((run / "scorecard.json").read_text())
    for task in card["settings"]["tasks"]:
        task["num_fewshot"] = 2 * (task["task"] == TASK)
    (run / "scorecard.json").write_text(json.dumps(card))
    assert main(["contamination", str(run), "--data", str(preferences(tmp_path, ["x"]))]) == 0
    assert f"{TASK}: shots, and the samples do not say" in capsys.readouterr().out
    assert [one.task for one in Contamination.read(run / FILE).tasks if one.own_words_guessed] == [TASK]


def record_run(run: Path, settings: DataSettings) -> None:
    """run.json of a DPO run on these data."""
    RunRecord(
        method="dpo",
        checkpoint_digest=SavedRun.open(run).scorecard.model.digest,
        recipe={"data": settings.model_dump(mode="json")},
        parents=[],
        data=[load_preferences(settings, 0).source],
        seed=0,
        packages={},
        git_revision=None,
        hardware=Hardware(machine="m", processor="p", cores=1, device="cpu", memory_gib=1),
        started="2026-11-25T00:00:00+00:00",
        seconds=1,
        metrics={},
    ).write(run / "run.json")


def test_a_task_of_which_nothing_is_long_enough_is_told_as_not_searched_and_has_no_share(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_task(tmp_path, CHOICES)  # questions of four words
    suite = write_suite(tmp_path, "task: words, group: other, file: words.yaml")
    run = tmp_path / "run"
    assert main(["run", str(models / "parent"), "--suite", str(suite), "--out", str(run), "--limit", "1"]) == 0
    capsys.readouterr()
    assert main(["contamination", str(run), "--data", str(preferences(tmp_path, ["One?"]))]) == 0
    said = capsys.readouterr()
    assert "nothing was searched" in said.out
    assert "0.0%" not in said.out
    assert "there is no run.json" in said.out
    assert "1 task against 1 training row\n" in said.err
