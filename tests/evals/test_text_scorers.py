"""Scorers from the Hub and behind services: pinned, named in the metric, checked first, missing where they have no score."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from judge_server import Reply, service
from tiny_model import save_model
from transformers import (
    AutoTokenizer,
    BertConfig,
    BertForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    set_seed,
)

from evals import hub_classifier, perspective
from evals.__main__ import main
from evals.auc import auc
from evals.calibration import calibrate
from evals.hub_classifier import CLASSIFIERS, Classifier
from evals.json_service import ServiceError
from evals.labelled_texts import read
from evals.measured import measured
from evals.moderation import open_moderation
from evals.perspective import open_perspective
from evals.scoring import as_scores
from evals.text_scorer import MAXIMUM, TextScorer, metrics_of, open_scorer
from evals.toxicity import score_toxicity
from release.local_hub.mirror import import_folder
from release.local_hub.server import running_hub
from training.errors import UsageError

ROOT = Path(__file__).parents[2]
TEXTS = ["a plain text", "another, which is a little longer than the first", "", "a plain text"]
SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
LABELS = {
    "detoxify": ["toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate"],
    "roberta-hate-speech": ["nothate", "hate"],
}


def save_classifier(folder: Path, name: str, labels: list[str]) -> Any:
    """A tiny classifier of the real one's architecture and labels, with a tokenizer of bytes."""
    save_model(folder, seed=3, context=600)
    (folder / "model.safetensors").unlink()
    set_seed(4)
    config, model = (
        (BertConfig, BertForSequenceClassification)
        if name == "detoxify"
        else (RobertaConfig, RobertaForSequenceClassification)
    )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    made = model(
        config(
            vocab_size=len(tokenizer),
            max_position_embeddings=600,
            pad_token_id=0,
            id2label=dict(enumerate(labels)),
            label2id={label: place for place, label in enumerate(labels)},
            **SIZE,
        )
    )
    made.save_pretrained(folder)
    return made.eval()


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """An embedded Hub with stand-ins under the real ids; `pinned` holds the real pins with the stand-ins' commits."""
    folder = tmp_path_factory.mktemp("hub")
    models = {
        name: save_classifier(folder / "mirror/models" / pin.hub_id, name, LABELS[name])
        for name, pin in CLASSIFIERS.items()
    }
    with running_hub(folder / "store") as served:
        import_folder(served.store, folder / "mirror")
        commits = {}
        for name, pin in CLASSIFIERS.items():
            repository = served.store.find("model", pin.hub_id)
            assert repository
            commits[name] = repository.refs()["refs/heads/main"]
        yield SimpleNamespace(
            endpoint=served.endpoint,
            commits=commits,
            models=models,
            mirror=folder / "mirror/models",
            home=folder / "home",
        )


def ask(hub: Any, script: str, **variables: str) -> Any:
    """What the script prints as JSON, in a process whose Hub is the embedded one and whose pins are the stand-ins'."""
    pins = "; ".join(
        f"C[{name!r}] = dataclasses.replace(C[{name!r}], commit={commit!r})" for name, commit in hub.commits.items()
    )
    head = f"import dataclasses, json\nfrom evals.hub_classifier import CLASSIFIERS as C\n{pins}\n"
    done = subprocess.run(
        [sys.executable, "-c", head + script],
        cwd=ROOT,
        env={**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_HOME": str(hub.home), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


def test_the_classifiers_are_loaded_from_the_hub_at_their_commit_as_evaluate_modules(hub: Any) -> None:
    script = f"""
import evaluate
out = {{}}
for module in ("detoxify", "roberta_hate_speech"):
    out[module] = evaluate.load("evals/metrics/" + module).compute(predictions={TEXTS!r}, groups=[0, 0, 1, 1])
print(json.dumps(out))
"""
    found = ask(hub, script)
    import torch

    for module, name in (("detoxify", "detoxify"), ("roberta_hate_speech", "roberta-hate-speech")):
        pin = CLASSIFIERS[name]
        metric = f"toxicity/{name}@{hub.commits[name][:12]}"
        tokenizer = AutoTokenizer.from_pretrained(hub.mirror / pin.hub_id)
        expected = []
        for text in TEXTS[:2]:
            with torch.inference_mode():
                logits = hub.models[name](**tokenizer(text, return_tensors="pt")).logits[0]
            expected.append(float(torch.sigmoid(logits[0]) if name == "detoxify" else torch.softmax(logits, -1)[1]))
        scores = found[module][metric]
        assert scores == pytest.approx([*expected, 0.0, expected[0]], abs=1e-5), "a blank text is not toxic"
        assert found[module][f"{metric} expected maximum"] == pytest.approx((max(expected) + expected[0]) / 2, abs=1e-5)
        assert f"{pin.hub_id}@{hub.commits[name]}" in found[module]["scorer"]


def test_the_pins_are_commits_of_the_real_classifiers() -> None:
    for pin in CLASSIFIERS.values():
        assert len(pin.commit) == 40
        assert pin.label in LABELS[pin.name]
        assert pin.labels == len(LABELS[pin.name])
    assert metrics_of(CLASSIFIERS["detoxify"].metric)[MAXIMUM] == "toxicity/detoxify@4d6c22e74ba2 expected maximum"


def test_a_classifier_with_other_labels_is_refused_before_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_classifier(tmp_path, "detoxify", ["good", "bad"])
    monkeypatch.setattr("training.pretrained.download", lambda source: (tmp_path, source.partition("@")[2]))
    monkeypatch.setattr(hub_classifier.Classifier, "_loaded", property(lambda _: pytest.fail("loaded")))
    with pytest.raises(UsageError, match="other labels") as refused:
        Classifier(CLASSIFIERS["detoxify"], None).check()
    assert refused.value.found == "good, bad"


def test_a_hate_scorer_is_trained_on_an_encoder_and_refuses_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tiny encoder, sentences in the files of de Gibert et al. and ETHOS, and a set that is never trained on."""
    save_classifier(tmp_path / "encoder", "detoxify", LABELS["detoxify"])
    (tmp_path / "all_files").mkdir()
    lines = ["file_id,user_id,subforum_id,num_contexts,label"]
    for number in range(20):
        hate = number % 2 == 0
        text = f"they are vermin {number}" if hate else f"a lovely garden {number}"
        (tmp_path / f"all_files/{number}.txt").write_text(text)
        lines.append(f"{number},1,1,0,{'hate' if hate else 'noHate'}")
    (tmp_path / "annotations_metadata.csv").write_text("\n".join([*lines, "99,1,1,0,relation"]) + "\n")
    ethos = [f"{'vermin, all' if n % 2 else 'gardens, all'} {n};{float(n % 2)}" for n in range(20)]
    (tmp_path / "ethos.csv").write_text("\n".join(["comment;isHate", *ethos]) + "\n")
    unseen = [
        {"text": "they are vermin 0", "label": 1},
        {"text": "vermin everywhere", "label": 1},
        {"text": "a tree", "label": 0},
    ]
    (tmp_path / "unseen.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unseen))
    words = ["--data", str(tmp_path / "annotations_metadata.csv"), str(tmp_path / "ethos.csv")]
    words += ["--test", str(tmp_path / "unseen.jsonl"), "--encoder", str(tmp_path / "encoder")]
    out = tmp_path / "hate"
    assert main(["train-scorer", "hate", *words, "--name", "tiny", "--out", str(out), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert [one["texts"] for one in card["trained_on"]] == [19, 20], "a text of the unseen set was left out"
    assert [one["protocol"] for one in card["calibration"]] == ["5-fold cross-validation"] * 2 + ["never trained on"]
    assert card["calibration"][0]["auc"]["value"] > 0.9, "the two kinds share no words"
    scorer = open_scorer(str(out), tmp_path / "kept")
    scorer.check()
    hate, garden, blank = scorer.scores(["they are vermin 2", "a lovely garden 3", " "])
    assert hate > garden > blank == 0  # type: ignore[operator]
    assert scorer.metrics[MAXIMUM] == "hate/tiny@1 expected maximum"
    save_classifier(tmp_path / "encoder", "roberta-hate-speech", LABELS["roberta-hate-speech"])
    with pytest.raises(UsageError, match="trained on another encoder"):
        open_scorer(str(out)).check()


def moderating(path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
    """Scores by words; refuses a text that says so, and every key but one."""
    if headers.get("authorization") != "Bearer sk-moderation-123456":
        return 401, {"error": f"wrong: {headers.get('authorization')}"}, {}
    assert path == "/v1/moderations"
    if any("refuse me" in text for text in body["input"]):
        return 400, {"error": "cannot be moderated"}, {}
    scores = [{"hate": 0.9 if "awful" in text else 0.01, "violence": 0.05, "sexual": None} for text in body["input"]]
    return 200, {"model": body["model"], "results": [{"flagged": False, "category_scores": one} for one in scores]}, {}


def test_moderation_gives_the_highest_category_and_no_score_for_what_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-moderation-123456")
    texts = ["an awful text", "a garden", "refuse me", " "]
    with service(moderating) as served:
        served.fail_first = 1
        scorer = open_moderation(f"mod-1@{served.url}", tmp_path, pauses=(0.0,))
        scorer.check()
        assert scorer.scores(texts) == [0.9, 0.05, None, 0.0]
        asked = len(served.asked)
        assert scorer.scores(texts) == [0.9, 0.05, None, 0.0]
        assert len(served.asked) == asked, "what was scored is not asked again"
    assert scorer.metrics[MAXIMUM] == "toxicity/moderation@mod-1 expected maximum"
    assert served.url in scorer.scorer
    monkeypatch.setenv("OPENAI_API_KEY", "sk-other-987654321")
    with service(moderating) as served, pytest.raises(ServiceError, match="refuses the key") as refused:
        open_scorer(f"moderation:mod-1@{served.url}").check()
    assert "sk-other-987654321" not in str(refused.value)
    with pytest.raises(UsageError, match="named with its model and address"):
        open_scorer("moderation:mod-1")


def test_perspective_needs_a_key_and_a_day_before_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PERSPECTIVE_API_KEY", raising=False)
    with pytest.raises(UsageError, match="needs a key"):
        open_scorer("perspective:http://127.0.0.1:9").check()

    class Later(datetime.date):
        @classmethod
        def today(cls) -> datetime.date:
            return datetime.date(2027, 1, 1)

    monkeypatch.setenv("PERSPECTIVE_API_KEY", "AIza-0123456789")
    monkeypatch.setattr(perspective.datetime, "date", Later)
    with pytest.raises(UsageError, match="has closed"):
        open_scorer("perspective").check()


def test_perspective_is_asked_with_the_key_in_a_header_and_has_no_score_for_what_it_cannot_score(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PERSPECTIVE_API_KEY", "AIza-0123456789")

    def reply(path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        assert path == "/v1alpha1/comments:analyze"
        assert headers["x-goog-api-key"] == "AIza-0123456789"
        assert body["doNotStore"] is True
        if "xyzzy" in body["comment"]["text"]:
            return 400, {"error": {"message": "Attribute TOXICITY does not support request languages"}}, {}
        value = {"summaryScore": {"value": 0.75, "type": "PROBABILITY"}}
        return 200, {"attributeScores": {"TOXICITY": value}}, {}

    with service(reply) as served:
        address = served.url.removesuffix("/v1")
        scorer = open_perspective(address, None, pauses=(0.0,))
        scorer.check()
        assert scorer.scores(["rude", "xyzzy"]) == [0.75, None]
    host = address.removeprefix("http://")
    assert scorer.name == f"toxicity/perspective-protocol@{host}", "another's figures are not Google's"
    assert open_scorer("perspective").name == "toxicity/perspective@v1alpha1"


def test_a_prompt_with_an_unscored_continuation_has_no_value_and_coverage_decides() -> None:
    scorer = TextScorer("s@1", "s@1 in full", metrics_of("s@1"), lambda _: [0.2, 0.7, 0.1, None], {})
    requests = [SimpleNamespace(item=str(n), prompt="p", document={}) for n in range(2)]
    spec = SimpleNamespace(stratum=None, minimum_coverage=0.5, group="toxicity", headline=[])
    prepared: Any = SimpleNamespace(samples=2, spec=spec, requests=requests, settings=SimpleNamespace(task="t"))
    samples, figures = score_toxicity(
        prepared, [[{"text": "a"}, {"text": "b"}], [{"text": "c"}, {"text": "d"}]], [scorer]
    )
    scores, refused = as_scores(prepared, samples, figures, seed=0)
    assert refused == []
    assert [score.value for score in scores] == pytest.approx([0.7, 1.0, 0.45])
    assert {(score.n, score.unscored) for score in scores} == {(1, 1)}
    spec.minimum_coverage = 0.9
    assert as_scores(prepared, samples, figures, seed=0)[0] == []


def test_a_group_with_an_unscored_text_is_counted_and_left_out_of_the_maxima() -> None:
    found = measured("m@1", "m@1 in full", [0.2, 0.7, None], [0, 0, 1])
    assert (found["m@1 expected maximum"], found["m@1 probability"], found["m@1 unscored groups"]) == (0.7, 1.0, 1)
    with pytest.raises(ValueError, match="no group"):
        measured("m@1", "m@1 in full", [None], [0])


def test_a_calibration_stands_beside_the_scorers_figures_and_only_its_own(tmp_path: Path) -> None:
    file = tmp_path / "labelled.jsonl"
    rows = [("you are shit", 1), ("what a fucking day", 1), ("the garden is lovely", 0), ("rain again", 0), ("hell", 0)]
    file.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows))
    result = calibrate("profanity", [read(file)], tmp_path / "card")
    opened = open_scorer(str(tmp_path / "card"))
    plain = open_scorer("profanity")
    area = auc([label for _, label in rows], [float(s or 0) for s in plain.scores([text for text, _ in rows])])
    assert opened.beside == {"the scorer's AUC on labelled": area.value}
    assert f"{area.value:.3f} [{area.low:.3f}, {area.high:.3f}]" in str(result["summary"])
    assert opened.metrics == plain.metrics
    card = tmp_path / "card/card.json"
    card.write_text(card.read_text().replace("alt-profanity-check ", "alt-profanity-check 0"))
    with pytest.raises(UsageError, match="of another scorer"):
        open_scorer(str(tmp_path / "card"))
    with pytest.raises(UsageError, match="no scorer of this name"):
        open_scorer("profanty")


def test_a_calibration_replaces_no_card_of_another_scorer_and_keeps_what_the_same_was_measured_on(
    tmp_path: Path,
) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    for file, texts in ((first, ["you are shit", "rain again"]), (second, ["what an idiot", "a garden"])):
        rows = [{"text": text, "label": label} for text, label in zip(texts, (1, 0), strict=True)]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    card, trained = tmp_path / "card", tmp_path / "trained"
    calibrate("profanity", [read(first)], card)
    with pytest.raises(UsageError, match="card of another scorer, which this one would replace") as error:
        calibrate("ngram", [read(first)], card)
    assert f"--out {tmp_path / 'card-calibration'}" in str(error.value.next_step)
    assert open_scorer(str(card)).metrics == open_scorer("profanity").metrics
    calibrate("profanity", [read(second)], card)
    assert list(open_scorer(str(card)).beside) == ["the scorer's AUC on first", "the scorer's AUC on second"]
    trained.mkdir()
    (trained / "card.json").write_text('{"schema_version": 1}')  # of train-scorer toxicity, which names no kind
    with pytest.raises(UsageError, match="a scorer's own"):
        calibrate("profanity", [read(first)], trained)


def test_a_calibration_says_what_the_scorer_learned_from_and_marks_the_very_file(tmp_path: Path) -> None:
    from evals.train_scorer import train_toxicity

    file, other = tmp_path / "mine.jsonl", tmp_path / "other.jsonl"
    texts = [("you idiot, go away", 1), ("what a lovely day", 0), ("shut up, fool", 1), ("thank you kindly", 0)] * 10
    for path, words in ((file, texts), (other, texts[2:])):
        rows = ({"text": f"{text} {n}", "label": label} for n, (text, label) in enumerate(words))
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train_toxicity([str(file)], [], tmp_path / "scorer", name="own", version="1")
    result = calibrate(str(tmp_path / "scorer"), [read(file), read(other)], tmp_path / "card")
    assert [one["trained_on"] for one in result["calibration"]] == [True, False]
    assert "mine (trained on it)" in result["summary"]
    assert "It learned from mine; the tweets of Davidson et al. (2017)" in result["summary"]
    beside = open_scorer(str(tmp_path / "card")).beside
    assert "the scorer's AUC on mine (trained on it)" in beside
