"""What one repository's own files say breaks no list or page in which it stands beside others, and costs nobody seconds."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import pytest
from commit_operations import add

from release.local_hub.plain_json import parsed_file
from release.local_hub.safetensors_header import header_counts

LISTS = ("/api/models?full=true&cardData=true&config=true", "/", "/models", "/slipway", "/leaderboard")


def safetensors(header: Any) -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw


def one(shape: str) -> bytes:
    return safetensors(b'{"a": {"dtype": "F32", "shape": [%s], "data_offsets": [0, 4]}}' % shape.encode())


HOSTILE = {
    "half a character in config.json": (
        "config.json",
        b'{"model_type": "\\ud800", "architectures": ["\\udc00ForCausalLM"]}',
    ),
    "no number in config.json": ("config.json", b'{"model_type": NaN, "architectures": [Infinity]}'),
    "a deep config.json": ("config.json", b"[" * 100_000),
    "a number of thousands of digits in config.json": ("config.json", b'{"model_type": %s}' % (b"9" * 5000)),
    "half a character in a tag": ("README.md", b'---\ntags: ["\\ud83d"]\nlicense: mit\n---\n# hi\n'),
    "no number in a card": ("README.md", b"---\nx: .nan\ny: [.inf, -.inf]\nlicense: mit\n---\n# hi\n"),
    "half a character in a key": ("README.md", b'---\n"\\ud83d": 1\nlicense: mit\n---\n# hi\n'),
    "an infinite dimension": ("model.safetensors", one("Infinity")),
    "a huge product": ("model.safetensors", one(",".join(["1" + "0" * 18] * 300))),
    "a negative dimension": ("model.safetensors", one("-4")),
    "half a character as dtype": ("model.safetensors", safetensors(b'{"a": {"dtype": "\\ud800", "shape": [1]}}')),
    "a list as dtype": ("model.safetensors", safetensors({"a": {"dtype": ["F32"], "shape": [1]}})),
    "a header that is no object": ("model.safetensors", safetensors(b"[1]")),
    "a scorecard of no numbers": ("scorecard.json", b'{"model": NaN, "scores": "\\ud800"}'),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_repository_whose_files_say_what_no_answer_can_hold_breaks_no_list_and_no_page(
    name: str, hub: Any, api: Any, ask: Any
) -> None:
    path, content = HOSTILE[name]
    for repo_id in ("slipway/good", "slipway/bad"):
        api.create_repo(repo_id)
    api.create_commit("slipway/bad", [add(path, content)], commit_message="x")
    for address in (
        *LISTS,
        "/slipway/bad",
        "/api/models/slipway/bad",
        "/slipway/bad/tree/main",
        f"/slipway/bad/blob/main/{path}",
    ):
        answer = ask("GET", address)
        assert answer.status == 200, (address, answer.body[:300])
        if address.startswith("/api"):
            assert "NaN" not in answer.body.decode()
            assert "Infinity" not in answer.body.decode()
    assert {model.id for model in api.list_models(full=True, cardData=True)} == {"slipway/good", "slipway/bad"}
    assert api.model_info("slipway/bad").id == "slipway/bad"


def test_what_no_answer_can_hold_is_null_or_the_sign_for_it_and_the_rest_stays() -> None:
    assert parsed_file(b'{"a": "\\ud800b", "c": [NaN, -Infinity, 1e999, 1.5], "d": "\\ud83d\\ude00", "\\udc00": true}') == {
        "a": "\ufffdb", "c": [None, None, None, 1.5], "d": "\U0001f600", "\ufffd": True
    }  # fmt: skip
    assert parsed_file('{"a": ["\u00e9", null, 12345678901234567890]}') == {"a": ["\u00e9", None, 12345678901234567890]}
    for bad in (b"[" * 100_000, b"9" * 5000, b"", b"{"):
        with pytest.raises(ValueError):
            parsed_file(bad)


def test_a_header_of_very_many_dimensions_is_not_counted() -> None:
    content = one(",".join(["9" * 18] * 200_000))
    assert header_counts(io.BytesIO(content)) is None


def test_the_parameters_of_a_header_are_counted_by_dtype() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "a": {"dtype": "F32", "shape": [2, 3]},
        "b": {"dtype": "BF16", "shape": []},
        "c": {"dtype": "F32", "shape": [0, 1 << 40]},
        "d": {"dtype": "F8_E4M3", "shape": [1 << 33, 70]},
    }
    assert header_counts(io.BytesIO(safetensors(header))) == {"F32": 6, "BF16": 1, "F8_E4M3": 70 << 33}


def test_a_card_is_parsed_once_however_often_it_is_listed(hub: Any, api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from release.local_hub import repo_info

    parsed: list[str] = []
    parse = repo_info.parse_front_matter
    monkeypatch.setattr(repo_info, "parse_front_matter", lambda front: (parsed.append(front), parse(front))[1])
    api.create_repo("slipway/a")
    api.create_commit("slipway/a", [add("README.md", b"---\nlicense: mit\nonce: 1\n---\n")], commit_message="x")
    for _ in range(3):
        (model,) = api.list_models(full=True)
        assert "license:mit" in model.tags
    assert len([front for front in parsed if "once" in front]) == 1


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"a": "\\ud800"}', b'{"a": NaN, "\\udc00": [1e999]}', b"9" * 5000])
def test_the_page_of_a_data_set_stands_whatever_its_first_line_is(line: bytes, api: Any, ask: Any) -> None:
    api.create_repo("slipway/d", repo_type="dataset")
    api.create_commit("slipway/d", [add("x.jsonl", line + b"\n")], commit_message="x", repo_type="dataset")
    for address in ("/datasets/slipway/d", "/datasets", "/api/datasets", "/datasets/slipway/d/blob/main/x.jsonl"):
        assert ask("GET", address).status == 200, address
