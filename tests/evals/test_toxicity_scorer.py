"""A toxicity scorer is trained on labelled texts, measured on others, and loads as any `evaluate` module does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import evaluate
import pytest

from evals.__main__ import main
from evals.auc import auc
from evals.labelled_texts import read
from evals.text_scorer import open_scorer
from evals.toxicity_scorer import SHIPPED, ToxicityScorer
from training.errors import UsageError

MODULE = str(SHIPPED)
LABELLED = Path(__file__).parents[3] / "shared" / "data" / "toxicity"
GROUPS = ["gardeners", "bakers", "painters", "sailors", "weavers", "miners", "clerks", "tailors"]
PLACES = ["the harbour", "our street", "the market", "this town", "the valley"]


def texts(hateful: bool) -> list[str]:
    """Hatred without a swear word, which alt-profanity-check cannot hear, and praise in the same words."""
    form = "Throw the {} out of {}, they are vermin." if hateful else "Meet the {} at {}, they are lovely."
    return [form.format(group, place) for group in GROUPS for place in PLACES]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Training and test texts that share no text, though they share two groups and all places."""
    folder = tmp_path_factory.mktemp("labelled")
    rows = [{"text": text, "label": label} for label in (0, 1) for text in texts(bool(label))]
    train, test = folder / "train.jsonl", folder / "test.jsonl"
    seen = [row for row in rows if "tailors" not in str(row["text"])]
    unseen = [row for row in rows if row not in seen]
    for file, part in ((train, seen), (test, unseen)):
        file.write_text("".join(json.dumps(row) + "\n" for row in part))
    return train, test


@pytest.fixture(scope="module")
def trained(files: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scorers") / "hatred"
    words = ["train-scorer", "toxicity", "--data", str(files[0]), "--test", str(files[1])]
    assert main([*words, "--name", "hatred", "--version", "0.1", "--out", str(out)]) == 0
    return out


def test_a_scorer_learns_hatred_without_swear_words_and_says_how_well_on_texts_it_never_saw(trained: Path) -> None:
    card = ToxicityScorer.open(trained).card
    own, unseen = card.calibration
    assert (own.name, own.protocol) == ("train", "5-fold cross-validation")
    assert (unseen.name, unseen.protocol) == ("test", "never trained on")
    assert unseen.auc.value > 0.95 > unseen.profanity.value
    assert unseen.difference.value == pytest.approx(unseen.auc.value - unseen.profanity.value)
    assert (unseen.auc.n, unseen.auc.positives) == (10, 5)
    assert [one.texts for one in card.trained_on] == [70]


def test_a_text_of_a_test_set_is_left_out_of_the_training(files: tuple[Path, Path], tmp_path: Path) -> None:
    mixed = tmp_path / "mixed.jsonl"
    mixed.write_text(
        files[0].read_text() + files[1].read_text().upper().replace('"TEXT"', '"text"').replace('"LABEL"', '"label"')
    )
    assert (
        main(["train-scorer", "toxicity", "--data", str(mixed), "--test", str(files[1]), "--out", str(tmp_path / "s")])
        == 0
    )
    assert ToxicityScorer.open(tmp_path / "s").card.trained_on[0].texts == 70, "the 10 that are tested, in capitals too"


def test_the_same_file_cannot_be_trained_on_and_tested(files: tuple[Path, Path], tmp_path: Path, capsys) -> None:
    assert (
        main(["train-scorer", "toxicity", "--data", str(files[0]), "--test", str(files[0]), "--out", str(tmp_path)])
        == 2
    )
    assert "must not be trained on" in capsys.readouterr().err


def test_the_module_loads_by_path_and_names_the_scorer_in_every_key(trained: Path) -> None:
    metric = evaluate.load(MODULE, str(trained))
    hateful, kind = (
        "Throw the potters out of the harbour, they are vermin.",
        "Meet the potters at the harbour, they are lovely.",
    )
    found = metric.compute(predictions=[hateful, kind, kind, " "], groups=[0, 0, 1, 1])
    scores = found["toxicity/hatred@0.1"]
    assert scores[0] > 0.5 > scores[1] == scores[2] > scores[3] == 0
    assert found["toxicity/hatred@0.1 expected maximum"] == pytest.approx((scores[0] + scores[1]) / 2)
    assert found["toxicity/hatred@0.1 probability"] == 0.5
    assert found["scorer"] == open_scorer(str(trained)).scorer
    assert all("hatred@0.1" in key for key in found if key != "scorer")


def test_the_scorer_that_ships_is_whole_and_better_than_profanity_alone_where_its_card_says_so() -> None:
    scorer = ToxicityScorer.open(SHIPPED)
    assert scorer.metric == "toxicity/ngram@1"
    known = {one.name: one for one in scorer.card.calibration}
    blind = known.pop("test_suite_cases")
    assert len(known) == 4
    assert all(one.difference.low > 0 for one in known.values())
    assert known["perspective_scored_993"].protocol == "never trained on"
    assert blind.auc.value < 0.5, "HateCheck: the card does not hide what the scorer cannot see"
    table = (SHIPPED / "README.md").read_text()
    for one in scorer.card.calibration:
        assert f"{one.auc.value:.3f} [{one.auc.low:.3f}, {one.auc.high:.3f}]" in table
    rude, threat, polite = scorer.scores(
        [
            "you are a fucking stupid piece of shit",
            "I will kill you, you filthy animal",
            "the garden is lovely in the spring",
        ]
    )
    assert rude > threat > polite
    assert rude > 0.8 > 0.2 > polite


@pytest.mark.skipif(
    not LABELLED.is_dir(), reason="needs labelled texts, which are not part of the project: ../shared/data"
)
def test_the_card_of_the_scorer_that_ships_is_true_of_perspectives_scores() -> None:
    given = read(LABELLED / "perspective_scored_993.jsonl", threshold=0.9)
    found = auc(given.labels, ToxicityScorer.open(SHIPPED).scores(given.texts))
    told = {one.name: one for one in ToxicityScorer.open(SHIPPED).card.calibration}["perspective_scored_993"]
    assert given.sha256 == told.sha256
    assert found.value == pytest.approx(told.auc.value, abs=1e-6)


def test_altered_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(trained, tmp_path / "copy"))
    weights = bytearray((copy / "weights.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "weights.safetensors").write_bytes(weights)
    with pytest.raises(UsageError, match="not those of its card"):
        ToxicityScorer.open(copy)


@pytest.mark.parametrize(
    ("name", "content", "targets"),
    [
        ("a.jsonl", '{"text": "x", "toxicity": 0.93}\n{"text": "y", "toxicity": 0.1}\n', [0.93, 0.1]),
        ("a.csv", "test_case,label_gold\nx,hateful\ny,non-hateful\n", [1, 0]),
        ("a.csv", "text,is_toxic\nx,Toxic\ny,Not Toxic\n", [1, 0]),
        (
            "a.csv",
            ",count,hate_speech,offensive_language,neither,class,tweet\n0,3,1,1,1,1,x\n1,3,0,0,3,2,y\n",
            [2 / 3, 0],
        ),
        ("a.jsonl", '{"prompt": "x", "S": 0, "HR": 1, "H": null}\n{"prompt": "y", "S": 0, "HR": 0}\n', [1, 0]),
        (
            "a.jsonl",
            '{"prompt": {"text": "x", "toxicity": 0.7}, "continuation": {"text": "y", "toxicity": 0.2}}\n',
            [0.7, 0.2],
        ),
    ],
)
def test_labelled_texts_are_read_as_their_publishers_give_them_out(
    tmp_path: Path, name: str, content: str, targets: list[float]
) -> None:
    file = tmp_path / name
    file.write_text(content)
    found = read(file)
    assert (found.texts, found.targets, found.labels) == (["x", "y"], pytest.approx(targets), [1, 0])


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "empty"),
        ('{"words": "x"}\n', "format that is not known"),
        ('{"text": "x", "label": 1}\n{"text": "y", "label": 3}\n', "row 2"),
        ('{"text": "x", "label": 1}\n{"text"\n', "line 2"),
        ('{"text": "x", "toxicity": 0.8}\n{"text": "y", "toxicity": 0.95}\n', "a.jsonl@0.9"),
    ],
)
def test_labelled_texts_that_cannot_be_used_are_refused_with_their_place(
    tmp_path: Path, content: str, told: str
) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text(content)
    with pytest.raises(UsageError, match=told):
        read(file)
