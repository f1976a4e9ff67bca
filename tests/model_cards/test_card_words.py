"""What a card says without a figure: nothing that is not known, no link into nothing, no direction where there is none."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from from_elsewhere import copied

from evals.saved import samples_as_bytes
from evals.scorecard import Sample, Scorecard
from model_cards.card import render_card
from model_cards.check import check_card
from training.run_record import Made, ParentCheckpoint, RunRecord

MakeRun = Callable[..., Path]
HERE = "http://127.0.0.1:8484"


def test_a_figure_that_is_neither_better_nor_worse_has_no_arrow(make_run: MakeRun) -> None:
    run = make_run(baseline=False)
    card = Scorecard.read(run / "scorecard.json")
    length = card.scores[0].model_copy(
        update={"metric": "response_tokens", "unit": "tokens", "higher_is_better": False, "headline": True}
    )
    card.model_copy(update={"scores": [length, *card.scores[1:]]}).write(run / "scorecard.json")
    rendered = render_card(run, repo_id="slipway/tiny", tag="v1.0.0")
    assert f"`{length.task}/response_tokens` |" in rendered.readme
    assert "`help/mean_reward` ↑ |" in rendered.readme
    for path, content in rendered.files.items():
        (run / "bundle" / path).parent.mkdir(parents=True, exist_ok=True)
        (run / "bundle" / path).write_bytes(content)
    assert not [problem for problem in check_card(run) if "is not on the card" in problem.what]


def test_the_parents_figures_are_not_said_to_be_of_these_bytes(make_run: MakeRun) -> None:
    text = render_card(make_run(), repo_id="slipway/tiny", tag="v1.0.0").readme
    assert (
        "Every figure of this model was measured on the exact bytes of release `v1.0.0`, the parent's on its own."
        in text
    )


def test_parents_and_data_are_links_on_the_public_hub_alone_and_the_purl_names_another_hub(make_run: MakeRun) -> None:
    run = make_run()
    there, here = (render_card(run, repo_id="slipway/tiny", tag="v1.0.0", endpoint=hub) for hub in (None, HERE))
    lines = [line for line in there.readme.splitlines() if line.startswith("**tiny** is [")]
    assert len(lines) == 1
    parent = lines[0].partition("[")[2].partition("]")[0]
    assert f"](https://huggingface.co/{parent})" in there.readme
    assert f"**tiny** is {parent} (" in here.readme
    assert f"]({HERE}/{parent})" not in here.readme
    assert f"]({HERE}/datasets/" not in here.readme
    purls = [json.loads(one.files["bom.cdx.json"])["metadata"]["component"]["purl"] for one in (there, here)]
    assert purls == [
        "pkg:huggingface/slipway/tiny@v1.0.0",
        f"pkg:huggingface/slipway/tiny@v1.0.0?repository_url={HERE}",
    ]


def test_of_a_model_from_elsewhere_nothing_is_said_of_its_purpose_or_its_falsehoods(make_run: MakeRun) -> None:
    run = copied(make_run(scored=False, baseline=False), None)
    text = render_card(run, repo_id="slipway/harbour", tag="v1.0.0").readme
    assert "Nothing is known here of what it was made for" in text
    assert "For research on" not in text
    assert "It states falsehoods" not in text


def test_a_card_tells_every_stage_from_the_model_on_the_hub_on(make_run: MakeRun) -> None:
    run = make_run()
    record = RunRecord.read(run / "run.json")
    published = record.parents[0]
    first = record.model_copy(
        update={
            "method": "sft",
            "checkpoint_digest": "sha256:" + "6" * 64,
            "parents": [published],
            "data": record.data[:1],
        }
    )
    sft = ParentCheckpoint(
        role="base", name="/home/me/runs/sft", digest=published.digest, license="apache-2.0", made=Made.of(first)
    )
    record.model_copy(update={"parents": [sft, *record.parents[1:]]}).write(run / "run.json")
    text = render_card(run, repo_id="slipway/tiny", tag="v1.0.0").readme
    assert "base_model: HuggingFaceTB/SmolLM2-135M-Instruct" in text
    said = "(4 parameters), fine-tuned on demonstrations, then aligned by PPO"
    assert said in text
    assert "| sft | fine-tuned on demonstrations | prompts.jsonl, 300 rows, eeeeeeeeeeee | `555555555555` |" in text
    assert "/home/me/runs" not in text
    (run / "bundle").mkdir()
    for path, content in render_card(run, repo_id="slipway/tiny", tag="v1.0.0").files.items():
        (run / "bundle" / path).parent.mkdir(parents=True, exist_ok=True)
        (run / "bundle" / path).write_bytes(content)
    assert check_card(run) == []


def test_a_win_rate_says_against_whom_and_that_its_judge_is_the_one_it_was_trained_against(make_run: MakeRun) -> None:
    run = make_run()
    card, record = Scorecard.read(run / "scorecard.json"), RunRecord.read(run / "run.json")
    base, reward = record.parents
    win = card.scores[0].model_copy(update={"scorer": f"reward model {reward.digest}", "against": base.digest})
    card.model_copy(update={"scores": [win, *card.scores[1:]]}).write(run / "scorecard.json")
    text = render_card(run, repo_id="slipway/tiny", tag="v1.0.0").readme
    said = "against the parent's answers, judged by reward model 777777777777, **the one that it was trained against**."
    assert f"- `help/win_rate`: {said}" in text
    assert "- `help/win_rate` was judged by the reward model that it was trained against" in text
    assert "name: win_rate against 555555555555, judged by reward model 777777777777" in text
    other = win.model_copy(update={"scorer": "reward model sha256:" + "8" * 64, "against": "sha256:" + "9" * 64})
    card.model_copy(update={"scores": [other, *card.scores[1:]]}).write(run / "scorecard.json")
    text = render_card(run, repo_id="slipway/tiny", tag="v1.0.0").readme
    assert "- `help/win_rate`: against answers of `999999999999`, judged by reward model 888888888888." in text
    assert "trained against" not in text


def test_of_a_long_prompt_the_end_is_shown_where_the_question_is(make_run: MakeRun) -> None:
    run = make_run()
    card = Scorecard.read(run / "scorecard.json")
    file = run / "samples" / "truth.jsonl"
    samples = [Sample.model_validate_json(line) for line in file.read_text().splitlines()]
    shots = "Q: What is the moon made of?\nA: Rock.\n\n" * 20
    content = samples_as_bytes([one.model_copy(update={"prompt": f"{shots}{one.prompt}"}) for one in samples])
    file.write_bytes(content)
    hashes = card.samples | {"truth": hashlib.sha256(content).hexdigest()}
    card.model_copy(update={"samples": hashes}).write(run / "scorecard.json")
    text = render_card(run, repo_id="slipway/tiny", tag="v1.0.0").readme
    block = text.partition("**`truth`**")[2].partition("answer:")[0]
    assert "Question 16 of truth?" in block
    assert "characters before) ..." in block


def test_size_and_type_are_those_of_the_weights_whatever_scorecard_and_config_say(make_run: MakeRun) -> None:
    run = make_run()
    assert "134_515_008" in f"{Scorecard.read(run / 'scorecard.json').model.parameters:_}"
    bundle = render_card(run, repo_id="slipway/tiny", tag="v1.0.0")
    assert "(4 parameters)" in bundle.readme
    assert "| Parameters | 4 |" in bundle.readme
    assert "| Stored as | safetensors, uint8 |" in bundle.readme
    assert "134" not in bundle.extras["bom.cdx.json"].decode().partition("slipway:parameters")[2][:30]
