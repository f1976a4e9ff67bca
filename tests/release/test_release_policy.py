"""Policies are found by name or path, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from release.policy import POLICIES, load_policy, policy_digest
from training.errors import UsageError


@pytest.mark.parametrize("name", [file.stem for file in POLICIES.glob("*.yaml")])
def test_every_policy_that_comes_along_can_be_read(name: str) -> None:
    assert load_policy(name).gates


def test_a_policy_of_ones_own_is_read_by_its_path_and_has_its_own_digest(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text((POLICIES / "default.yaml").read_text().replace("alpha: 0.05", "alpha: 0.01"))
    assert load_policy(str(own)).no_regression.alpha == 0.01
    assert policy_digest(str(own)) != policy_digest("default")


def test_an_unknown_policy_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"default, external"):
        load_policy("lenient")


def test_an_unknown_gate_is_refused_with_its_line(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text((POLICIES / "default.yaml").read_text().replace("- loads_clean", "- loads_cleanly"))
    with pytest.raises(UsageError, match=r"own\.yaml, line 8") as caught:
        load_policy(str(own))
    assert "loads_clean" in str(caught.value.expected)
