"""Preference data and prompts are recognised in every format that people have, and what is not is shown."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import Dataset

from training.data import as_preference, as_prompt, content_sha256, load_preferences, load_prompts, recognised
from training.demonstrations import as_demonstration, as_feedback_or_pair, load_demonstrations, load_feedback
from training.errors import UsageError
from training.ilql_data import as_rewarded_or_pair, load_rewarded
from training.recipe import DataSettings
from training.transcripts import hh_messages

USER = [{"role": "user", "content": "Hi"}]
ANSWERED = [{"role": "assistant", "content": "4"}]
ROWS = {
    "explicit text": {"prompt": "Hi", "chosen": "Hello!", "rejected": "Go away."},
    "explicit messages": {
        "prompt": USER,
        "chosen": [{"role": "assistant", "content": "Hello!"}],
        "rejected": [{"role": "assistant", "content": "Go away."}],
    },
    "implicit messages": {
        "chosen": [*USER, {"role": "assistant", "content": "Hello!"}],
        "rejected": [*USER, {"role": "assistant", "content": "Go away."}],
    },
    "hh-rlhf": {"chosen": "\n\nHuman: Hi\n\nAssistant: Hello!", "rejected": "\n\nHuman: Hi\n\nAssistant: Go away."},
}
HH_RLHF = Path(__file__).parents[3] / "shared" / "data" / "hub" / "datasets" / "Anthropic" / "hh-rlhf"


@pytest.mark.parametrize("row", ROWS.values(), ids=ROWS.keys())
def test_every_known_format_gives_the_same_pair(row: dict) -> None:
    pair = as_preference(row)
    assert pair is not None
    assert (pair.prompt, pair.chosen, pair.rejected) == (USER, "Hello!", "Go away.")
    prompt = as_prompt(row)
    assert prompt is not None
    assert prompt.prompt == USER


def test_a_conversation_of_several_turns_keeps_its_turns() -> None:
    assert hh_messages("\n\nHuman: A\n\nAssistant: B\n\nHuman: C\n\nAssistant: D") == [
        {"role": "user", "content": "A"},
        {"role": "assistant", "content": "B"},
        {"role": "user", "content": "C"},
        {"role": "assistant", "content": "D"},
    ]


def test_a_row_of_no_known_format_is_shown_with_its_number(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS["hh-rlhf"]) + "\n" + json.dumps({"question": "Why?", "answer": "So."}) + "\n")
    with pytest.raises(UsageError, match=r"no known format[\s\S]*row 2[\s\S]*Why\?"):
        load_preferences(DataSettings(source=str(file)), seed=0)


def test_a_single_file_of_every_kind_is_read_and_text_may_hold_unusual_line_separators(tmp_path: Path) -> None:
    rows = [{"prompt": f"a\u2028b {number}", "chosen": "good\x85", "rejected": "bad"} for number in range(3)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    (tmp_path / "rows.jsonl").write_bytes(b"\xef\xbb\xbf" + lines)
    (tmp_path / "rows.jsonl.gz").write_bytes(gzip.compress(lines))
    Dataset.from_list(rows).to_parquet(tmp_path / "rows.parquet")
    Dataset.from_list(rows).to_csv(tmp_path / "rows.csv")
    for name in ("rows.jsonl", "rows.jsonl.gz", "rows.parquet", "rows.csv"):
        data = load_preferences(DataSettings(source=str(tmp_path / name), heldout_fraction=0.0), seed=0)
        assert sorted(pair.prompt[0]["content"] for pair in data.train) == [row["prompt"] for row in rows], name


def test_a_row_with_half_of_a_character_is_left_out_and_counted(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    rows = [ROWS["explicit text"], {"prompt": "Hi?", "chosen": "half \ud83d", "rejected": "b"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_preferences(DataSettings(source=str(file), heldout_fraction=0.0), seed=0)
    assert (len(data.train), data.source.why_dropped) == (1, {"half of a character (a lone surrogate)": 1})


UNREADABLE = {
    "torn.parquet": (b"junk", "not whole"),
    "torn.jsonl.gz": (b"junk", "cannot read"),
    "empty.csv": (b"", "no rows"),
    "wide.csv": (b"prompt,completion\na,b\nc,d,e\n", "line 3"),
    "latin.csv": (b"prompt,completion\ncaf\xe9,x\n", "line 2"),
    "latin.jsonl": (b'{"prompt": "ok"}\n{"prompt": "caf\xe9"}\n', "line 2"),
    "rows.txt": (b"hello", "kind of data file"),
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_a_file_that_cannot_be_read_is_named_with_what_is_wrong(name: str, tmp_path: Path) -> None:
    content, said = UNREADABLE[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=rf"{said}[\s\S]*{name}|{name}[\s\S]*{said}"):
        load_preferences(DataSettings(source=str(tmp_path / name)), seed=0)


def test_a_hub_that_stops_answering_is_the_hubs_and_not_the_datas_fault(tmp_path: Path) -> None:
    """The port is nobody's. In a process of its own: huggingface_hub reads the address once."""
    script = (
        "from training.errors import HubError\nfrom training.raw_rows import _loaded\n"
        "try:\n    _loaded('org/rows', 'org/rows', revision='main')\nexcept HubError as error:\n    print(error.exit_code)"
    )
    ours = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_TELEMETRY": "1"}
    ended = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **ours}, capture_output=True, text=True, check=True
    )
    assert ended.stdout.strip() == "5"


def test_an_empty_folder_and_a_split_of_a_single_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="data files"):
        load_preferences(DataSettings(source=str(tmp_path)), seed=0)
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS["hh-rlhf"]) + "\n")
    with pytest.raises(UsageError, match="no splits"):
        load_preferences(DataSettings(source=str(file), heldout_split="test"), seed=0)


def test_a_broken_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(json.dumps(ROWS["hh-rlhf"]) + "\n{\n")
    with pytest.raises(UsageError, match=r"line 2"):
        load_preferences(DataSettings(source=str(file)), seed=0)


def test_a_missing_file_is_named() -> None:
    with pytest.raises(UsageError, match="no such data file"):
        load_preferences(DataSettings(source="nowhere/rows.jsonl"), seed=0)


def test_empty_equal_and_repeated_pairs_are_dropped_and_counted(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a", "chosen": "yes", "rejected": "no"},
        {"prompt": "a", "chosen": "yes", "rejected": "no"},
        {"prompt": "b", "chosen": "", "rejected": "no"},
        {"prompt": "c", "chosen": "no", "rejected": "no"},
    ]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = load_preferences(DataSettings(source=str(file), heldout_fraction=0.0), seed=0)
    assert data.source.rows == 1
    assert data.source.why_dropped == {"exact repeat": 1, "empty answer": 1, "both answers are the same": 1}


def test_held_out_rows_are_none_that_are_trained_on_and_the_split_is_the_seeds() -> None:
    first, again, other = (load_preferences(DataSettings(source="starter"), seed=seed) for seed in (1, 1, 2))
    assert first.source.sha256 == again.source.sha256 != other.source.sha256
    assert not {str(row) for row in first.train} & {str(row) for row in first.heldout}
    assert len(first.heldout) == round(0.2 * (len(first.train) + len(first.heldout)))
    assert first.source.heldout_sha256 == content_sha256(first.heldout) != other.source.heldout_sha256
    assert load_prompts(DataSettings(source="starter", heldout_fraction=0.0), 0).source.heldout_sha256 is None
    for apart in (load_feedback, load_rewarded):
        data = apart(DataSettings(source="starter"), seed=1)
        assert (len(data.heldout), data.source.rows) == (2 * len(first.heldout), 2 * len(first.train))
        assert data.source.heldout_sha256 == content_sha256(data.heldout)


def test_the_starter_prompts_hold_out_what_they_say() -> None:
    data = load_prompts(DataSettings(source="starter", heldout_split="heldout"), seed=0)
    assert len(data.train) >= 200
    assert len(data.heldout) == 40


@pytest.mark.skipif(not HH_RLHF.is_dir(), reason="the hh-rlhf sample is not on this machine")
@pytest.mark.parametrize("subset", ["helpful", "harmless"])
def test_the_official_hh_rlhf_rows_are_all_read(subset: str) -> None:
    data = load_preferences(DataSettings(source=str(HH_RLHF / subset / "test.jsonl"), heldout_fraction=0.0), seed=0)
    assert data.source.rows > 250
    assert all(row.prompt[-1]["role"] == "user" for row in data.train)


def test_a_system_message_goes_before_conversations_that_have_none(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    own = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello"}]
    file.write_text(json.dumps({"prompt": "Hi"}) + "\n" + json.dumps({"messages": own}) + "\n")
    settings = DataSettings(source=str(file), heldout_fraction=0.0, system="Be brief.")
    prompts = [row.prompt for row in load_prompts(settings, 0).train]
    assert own in prompts
    assert [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}] in prompts
    plain = settings.model_copy(update={"system": None})
    assert load_prompts(settings, 0).source.sha256 != load_prompts(plain, 0).source.sha256


def test_a_dialogue_under_prompt_is_taken_apart_as_trlx_has_its_sets() -> None:
    """Dahoas/full-hh-rlhf: the dialogue so far ends with "Assistant:", the answers stand beside it."""
    row = {
        "prompt": "\n\nHuman: hi\n\nAssistant: hello\n\nHuman: how?\n\nAssistant:",
        "chosen": " so",
        "rejected": " no",
    }
    turns = [
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}, {"role": "user", "content": "how?"},
    ]  # fmt: skip
    name, pair = recognised(row, as_preference)
    assert name == "hh-rlhf transcripts as prompts {prompt, chosen, rejected}"
    assert pair.prompt == turns  # type: ignore[union-attr]
    assert recognised({"prompt": row["prompt"]}, as_prompt)[1].prompt == turns  # type: ignore[union-attr]
    told = {"prompt": row["prompt"], "completion": "so"}
    assert recognised(told, as_demonstration)[1].prompt == turns  # type: ignore[union-attr]
    said = {"prompt": "Who says Human: and Assistant: here?"}
    assert recognised(said, as_prompt)[1].prompt[0]["content"] == said["prompt"]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("row", "convert", "why"),
    [
        ({"messages": [*USER, {"role": "assistant", "content": "", "tool_calls": [{}]}]}, as_demonstration, "tool calls"),
        ({"messages": [*USER, {"role": "tool", "content": "4"}, *ANSWERED]}, as_demonstration, "tool calls"),
        ({"prompt": "What is in the picture?", "images": ["a.png"]}, as_prompt, "images, audio or video"),
        ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, as_prompt, "images, audio or video"),
        ({"prompt": "q", "completion": None}, as_demonstration, "empty answer"),
        ({"prompt": "q", "chosen": "a", "rejected": None}, as_preference, "empty answer"),
    ],
)  # fmt: skip
def test_what_no_text_can_say_is_left_out_and_counted(row: dict, convert: object, why: str) -> None:
    assert recognised(row, convert)[1] == why  # type: ignore[arg-type]


def test_prompts_end_with_the_users_turn_and_roles_have_their_usual_names() -> None:
    turns = [{"role": "human", "content": "q"}, {"role": "gpt", "content": "a"}]
    assert recognised({"messages": turns}, as_prompt)[1].prompt == [{"role": "user", "content": "q"}]  # type: ignore[union-attr]
    assert recognised({"messages": [{"role": "narrator", "content": "q"}]}, as_prompt)[1] is None
    for odd in (
        {"prompt": [{"role": "system", "content": "s"}]},
        {"prompt": ""},
        {"prompt": [{"role": "user", "content": " "}]},
    ):
        row = recognised(odd, as_prompt)[1]
        assert row.flaw() in ("it does not end with the user's turn", "empty prompt")  # type: ignore[union-attr]


def test_a_tables_cells_are_what_they_say(tmp_path: Path) -> None:
    answers = tmp_path / "answers.csv"
    answers.write_text("question,answer\nTwo and two?,4\nWho?,None\nWhich?,NA\nWhen?,null\n")
    data = load_demonstrations(DataSettings(source=str(answers), heldout_fraction=0.0), 0)
    assert sorted(row.completion[0]["content"] for row in data.train) == ["4", "NA", "None", "null"]
    marked = tmp_path / "marked.csv"
    marked.write_text("prompt,completion,label\na?,b,True\nc?,d,false\ne?,f,1\ng?,h,0\n")
    rows = load_feedback(DataSettings(source=str(marked), heldout_fraction=0.0), 0).train
    assert sorted((row.completion, row.label) for row in rows) == [("b", True), ("d", False), ("f", True), ("h", False)]
    assert as_feedback_or_pair({"prompt": "a", "completion": "b", "label": 2}) is None
    assert as_rewarded_or_pair({"prompt": "a", "response": "b", "reward": "0.5"}).reward == 0.5  # type: ignore[union-attr]


def test_a_folder_whose_rows_are_of_two_formats_is_read_as_its_file_is(tmp_path: Path) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        {"prompt": "p", "completion": "c"},
    ]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [
        load_demonstrations(DataSettings(source=str(source), heldout_fraction=0.0), 0).train
        for source in (tmp_path, tmp_path / "train.jsonl")
    ]
    assert len(found[0]) == len(found[1]) == 2
