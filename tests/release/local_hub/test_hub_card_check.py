"""The check of a card's metadata: what the Hub would refuse is refused here."""

from __future__ import annotations

import time

import pytest

from release.local_hub.card_check import check_card

GOOD_MODEL = """---
license: apache-2.0
language: [en, code]
library_name: transformers
base_model: HuggingFaceTB/SmolLM2-135M-Instruct
datasets:
- Anthropic/hh-rlhf
tags: [rlhf, ppo]
pipeline_tag: text-generation
model-index:
- name: demo
  results:
  - task: {type: text-generation}
    dataset: {type: truthfulqa/truthful_qa, name: TruthfulQA}
    metrics:
    - {type: mc2, value: 0.47}
---
# Demo
"""
GOOD_SPACE = """---
title: Chat
emoji: 🚢
colorFrom: blue
colorTo: indigo
sdk: gradio
sdk_version: "6.31.0"
python_version: "3.11"
app_file: app.py
pinned: false
short_description: Talk to the model
startup_duration_timeout: 1h
models: [slipway/demo]
---
"""


@pytest.mark.parametrize(("text", "kind"), [(GOOD_MODEL, "model"), (GOOD_SPACE, "space")])
def test_a_good_card_passes_without_a_word(text, kind):
    assert check_card(text, kind) == ([], [])


@pytest.mark.parametrize(
    ("metadata", "complaint"),
    [
        ("license: apache2", '"license" must be one of [apache-2.0, mit,'),
        ("license: [mit, nonsense]", '"license[1]" must be one of'),
        ("base_model: /home/me/runs/sft/checkpoint", '"base_model" with value "/home/me/runs/sft/checkpoint" is not'),
        ("base_model: ./sft", '"base_model" with value'),
        ("base_model: runs/sft/checkpoint", '"base_model" with value'),
        ("base_model: [org/ok, ../bad]", '"base_model[1]" with value'),
        ("datasets: [/data/train.jsonl]", '"datasets[0]" with value'),
        ("tags: rlhf", '"tags" must be an array'),
        ("tags: [rlhf, 1.0]", '"tags[1]" must be a string'),
        ("language: english", '"language" with value "english" is not valid'),
        ("language: EN", "lowercase"),
        ("language: [en, no]", '"language[1]" must be a string'),
        ("pipeline_tag: [text-generation]", '"pipeline_tag" must be a string'),
        ("model-index: {name: x}", '"model-index" must be an array'),
        (
            "model-index: [{name: x, results: [{task: {type: t}, dataset: {type: d, name: n}}]}]",
            '"model-index[0].results[0].metrics" is required',
        ),
        ("model-index: [{results: []}]", '"model-index[0].name" is required'),
        ("a: 1\na: 2", "duplicated mapping key: a (line 3)"),
        ("a: [1", "Invalid YAML"),
        ("- a\n- b", "must be an object"),
        ("a: &x [1]\nb: *x", "aliases are not allowed"),
    ],
)
def test_what_the_hub_would_refuse_in_a_model_card_is_refused(metadata, complaint):
    errors, _ = check_card(f"---\n{metadata}\n---\n", "model")
    assert len(errors) == 1
    assert complaint in errors[0]


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("sdk: gradio", "sdk: gradle", '"sdk" must be one of [gradio, streamlit, static, docker]'),
        ('sdk_version: "6.31.0"', "sdk_version: 6.31", "in quotes"),
        ('sdk_version: "6.31.0"', "sdk_version: latest", '"sdk_version" with value "latest"'),
        ('sdk_version: "6.31.0"', "sdk_version:", '"sdk_version" with value'),
        ("colorFrom: blue", "colorFrom: teal", '"colorFrom" must be one of [red, yellow,'),
        ("emoji: 🚢", "emoji: ship", '"emoji" must be an emoji'),
        ("pinned: false", "pinned: maybe", '"pinned" must be a boolean'),
        ("short_description: Talk to the model", f"short_description: {'x' * 61}", "60 characters"),
        ("models: [slipway/demo]", "models: [./demo]", '"models[0]" with value'),
        ('python_version: "3.11"', "python_version: 3.11", '"python_version" with value'),
    ],
)
def test_what_the_hub_would_refuse_in_a_spaces_card_is_refused(old, new, complaint):
    assert old in GOOD_SPACE
    errors, _ = check_card(GOOD_SPACE.replace(old, new), "space")
    assert len(errors) == 1
    assert complaint in errors[0]


def test_missing_metadata_is_a_warning_for_a_model_and_an_error_for_a_space():
    assert check_card("# Only text\n", "model") == ([], ["empty or missing yaml metadata in repo card"])
    assert check_card("# Only text\n", "space")[0]


def test_an_unknown_task_is_a_warning():
    errors, warnings = check_card("---\npipeline_tag: chatting\n---\n", "model")
    assert errors == []
    assert "chatting" in warnings[0]


def test_metadata_that_would_blow_up_is_refused_at_once():
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(f"b{n}: &b{n} [*a,*a,*a,*a,*a,*a]\n" for n in range(40))
    start = time.monotonic()
    for text in (bomb, "[" * 5000, "x: " + "y" * 300_000):
        errors, _ = check_card(f"---\n{text}\n---\n", "model")
        assert errors
    assert time.monotonic() - start < 60  # expanded, it would take all memory and never end
