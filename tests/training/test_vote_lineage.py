"""From votes by way of a reward model and best-of-n to what is trained on its answers: records, card, and a deletion."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from made_votes import labeller, vote, write

from model_cards.feedback import feedback_sentences
from training.__main__ import main
from training.data import load_preferences
from training.errors import UsageError
from training.feedback_forget import downstream
from training.pretrained import resolve_base
from training.recipe import DataSettings
from training.records import sha256_of_file
from training.run_record import RunRecord

TRAINED = {
    "dtype": "float32",
    "args": {"max_steps": 1, "per_device_train_batch_size": 2, "learning_rate": 1e-3, "report_to": "none"},
}


def run(method: str, folder: Path, out: str, recipe: dict[str, Any]) -> Path:
    file = folder / f"{out}.yaml"
    file.write_text(json.dumps({"method": method, **recipe}))
    assert main([method, "--recipe", str(file), "--out", str(folder / out), "--json"]) == 0
    return folder / out


@pytest.fixture(scope="module")
def flywheel(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Votes of two people, and the runs that come of them, each by its command: reward, best-of-n, rft."""
    folder = tmp_path_factory.mktemp("flywheel")
    votes = [vote(pair, "a", who) for pair in range(6) for who in ("ann", "ben")]
    write(folder / "votes" / "votes.jsonl", votes)
    assert main(["feedback", str(folder / "votes"), "--out", str(folder / "feedback"), "--json"]) == 0
    held = {"source": str(folder / "feedback" / "preferences"), "heldout_split": "test"}
    reward = run("reward", folder, "reward", {"base": str(tiny), "max_length": 128, "data": held, **TRAINED})
    (folder / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"word {n}"}) + "\n" for n in range(6)))
    best = run(
        "best-of-n",
        folder,
        "best-of-n",
        {
            **{"policy": str(tiny), "reward_model": str(reward), "n": 4, "batch_size": 6, "dtype": "float32"},
            "prompts": {"source": str(folder / "prompts.jsonl"), "heldout_fraction": 0.0},
            "generation": {"max_new_tokens": 100},
        },
    )
    demonstrations = {"source": str(best / "demonstrations.jsonl"), "heldout_fraction": 0.3}
    run("sft", folder, "rft", {"base": str(tiny), "max_length": 256, "data": demonstrations, **TRAINED})
    return folder


def test_a_run_on_sampled_answers_names_who_gave_and_who_scored_them_and_the_votes_behind(flywheel: Path) -> None:
    reward, rft = (RunRecord.read(flywheel / name / "run.json") for name in ("reward", "rft"))
    (data,) = rft.data
    assert data.feedback is None, "the rows were not made from votes"
    assert data.sampled is not None
    assert data.sampled.record == f"sha256:{sha256_of_file(flywheel / 'best-of-n' / 'best_of_n.json')}"
    assert data.sampled.n == 4
    assert data.sampled.policy.digest == rft.parents[0].digest
    (judge,) = data.sampled.reward_models
    assert judge.digest == reward.checkpoint_digest
    assert judge.feedback == [reward.data[0].feedback]
    (told,) = feedback_sentences(rft)
    assert told.startswith(
        "Trained on sampled answers that a reward model scored which had learned from votes: 12 votes"
    )
    assert "by 2 people" in told
    assert resolve_base(str(flywheel / "rft")).parent.feedback == judge.feedback, "so does what is trained from it"


def test_answers_that_were_changed_after_their_record_are_refused(flywheel: Path, tmp_path: Path) -> None:
    for name in ("best_of_n.json", "preferences.jsonl"):
        (tmp_path / name).write_bytes((flywheel / "best-of-n" / name).read_bytes())
    (tmp_path / "preferences.jsonl").write_bytes(b"\n" + (tmp_path / "preferences.jsonl").read_bytes())
    with pytest.raises(UsageError, match="not what was sampled"):
        load_preferences(DataSettings(source=str(tmp_path / "preferences.jsonl"), heldout_fraction=0.0), seed=0)


def test_a_deletion_names_best_of_n_what_was_trained_on_its_answers(
    flywheel: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    folder = flywheel / "votes"
    assert main(["feedback", str(folder), "--forget", labeller("ann"), "--runs", str(flywheel), "--json"]) == 0
    used = {
        Path(one["path"]).parent.name: (one["what"], one["how"])
        for one in json.loads(capsys.readouterr().out)["used_by"]
    }
    assert used == {
        "feedback": ("feedback", "6 votes counted"),
        "best-of-n": ("best-of-n", "answers scored by a reward model that learned from them"),
        "reward": ("reward", "trained on the votes"),
        "rft": ("sft", "trained on answers scored by a reward model that learned from them"),
    }
    assert main(["feedback", str(folder), "--forget", labeller("eve"), "--runs", str(flywheel), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["used_by"] == []


def test_a_run_is_found_by_its_own_marks_where_the_analysis_is_gone_and_one_without_marks_is_named(
    flywheel: Path, tmp_path: Path
) -> None:
    for name in ("reward", "rft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_bytes((flywheel / name / "run.json").read_bytes())
    found = {Path(one.path).parent.name: one.how for one in downstream([tmp_path], labeller("ben"))}
    assert found == {
        "reward": "trained on the votes",
        "rft": "trained on answers scored by a reward model that learned from them",
    }
    assert downstream([tmp_path], labeller("eve")) == []
    file = tmp_path / "reward" / "run.json"
    record = json.loads(file.read_text())
    record["data"][0]["feedback"]["labellers"] = []  # as a record from before they were kept
    file.write_text(json.dumps(record))
    assert ["cannot be told" in one.how for one in downstream([tmp_path], labeller("eve"))] == [True]
