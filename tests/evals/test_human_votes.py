"""The win rate by votes: whose answer was preferred, by people or by scripts, against whom, and beside length."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_votes import NEW, OLD, answer, gold_vote, labeller, vote, write

from evals.human_votes import score_votes
from evals.length import LONGER
from evals.run import Request, evaluate
from evals.saved import SavedRun
from training.checkpoint import Checkpoint
from training.errors import UsageError
from training.feedback_forget import downstream
from training.votes import Turn, Vote


@pytest.fixture
def votes() -> list[Vote]:
    """Prompt 1 is won twice, prompt 2 lost once, prompt 3 a tie; a script says otherwise, and gold items are not compared."""
    return [
        *(vote(1, "a", "ann"), vote(1, "b", "ben", swapped=True), vote(2, "b", "ann"), vote(3, "tie", "ben")),
        *(vote(pair, "b", "robot", labeller_kind="script") for pair in (1, 2, 3)),
        gold_vote(1, "a", "ann"),
    ]


def test_peoples_votes_are_a_human_win_rate_and_those_of_scripts_are_not(votes: list[Vote], tmp_path: Path) -> None:
    scored = score_votes([str(write(tmp_path / "votes.jsonl", votes))], NEW.digest, OLD.digest, seed=0)
    human, script = scored.scores
    assert (human.metric, human.value, human.n, human.scorer) == ("human_win_rate", 2.5 / 4, 3, "2 people")
    assert human.interval.low < human.value < human.interval.high
    assert human.headline
    assert (script.metric, script.value) == ("script_win_rate", 0.0)
    assert str(script.scorer).endswith("(scripts, not people)")
    assert not script.headline
    assert human.baseline[LONGER] == 1.0  # "blue" is longer than "red"
    assert scored.settings.items == len(scored.samples) == 3
    assert scored.samples[0].values == {"human_win_rate": 1.0, "script_win_rate": 0.0}


def test_the_other_checkpoint_sees_the_same_votes_from_its_side(votes: list[Vote], tmp_path: Path) -> None:
    file = str(write(tmp_path / "votes.jsonl", votes))
    assert score_votes([file], OLD.digest, NEW.digest, seed=0).scores[0].value == pytest.approx(1 - 2.5 / 4)


def test_answers_to_a_second_question_have_a_win_rate_of_their_own_beside_the_whole(
    votes: list[Vote], tmp_path: Path
) -> None:
    """The second turn is lost once; the votes above are on first turns."""
    begun = vote(4, "b", "ann")
    talk = [begun.prompt[0], Turn(role="assistant", content="Blue."), Turn(role="user", content="Why?")]
    file = write(tmp_path / "votes.jsonl", [*votes, begun.model_copy(update={"prompt": talk})])
    scored = score_votes([str(file)], NEW.digest, OLD.digest, seed=0)
    found = {score.metric: (score.value, score.n, score.headline) for score in scored.scores}
    assert found["human_win_rate"] == (2.5 / 5, 4, True)
    assert found["human_win_rate_turn_1"] == (2.5 / 4, 3, False)
    assert found["human_win_rate_turn_2"] == (0.0, 1, False)
    assert "script_win_rate_turn_2" not in found, "no script voted on one"
    again = [
        sample.values["human_win_rate_turn_2"] for sample in scored.samples if "human_win_rate_turn_2" in sample.values
    ]
    assert again == [0.0], "so that the figure can be made again from the samples"


def test_votes_on_other_checkpoints_are_refused(votes: list[Vote], tmp_path: Path) -> None:
    file = str(write(tmp_path / "votes.jsonl", votes))
    for digest, against in ((f"sha256:{'3' * 64}", None), (NEW.digest, f"sha256:{'3' * 64}")):
        with pytest.raises(UsageError, match="no vote that counts compares"):
            score_votes([file], digest, against, seed=0)
    same = [vote(1, "a", a=answer("one", NEW), b=answer("two", NEW))]
    with pytest.raises(UsageError, match="no vote that counts"):
        score_votes([str(write(tmp_path / "same.jsonl", same))], NEW.digest, None, seed=0)


def test_an_evaluation_with_votes_has_them_in_its_scorecard_with_their_samples(
    votes: list[Vote], asked: Request, tmp_path: Path
) -> None:
    digest = Checkpoint.open(Path(asked.source)).digest
    mine = NEW.model_copy(update={"digest": digest})
    own = [
        one.model_copy(
            update={
                side: side_answer.model_copy(update={"maker": mine})
                for side, side_answer in (("a", one.a), ("b", one.b))
                if side_answer.maker == NEW
            }
        )
        for one in votes
    ]
    file = write(tmp_path / "votes.jsonl", own)
    out = tmp_path / "run"
    card = evaluate(replace(asked, out=out, votes=(str(file),)))
    assert card.score("votes", "human_win_rate").value == 2.5 / 4
    assert card.task_settings("votes").data_sha256
    assert len(SavedRun.open(out).samples("votes")) == 3
    assert {score.task for score in card.scores} > {"votes"}
    robot = (labeller("robot"), "a win rate by votes of " + str(file) + ", theirs among them")
    assert [(one.what, one.digest, one.how) for one in downstream([tmp_path], robot[0])] == [
        ("scorecard", card.model.digest, robot[1])
    ]
    assert downstream([tmp_path], labeller("eve")) == []
    assert not {labeller(name) for name in ("ann", "ben", "robot")} & set(card.labellers), "hashes are not published"
    card.model_copy(update={"labellers": []}).write(out / "scorecard.json")  # as before they were recorded
    assert downstream([tmp_path], labeller("eve"))[0].how.endswith("whose they were is not recorded")
