"""The Hub's leaderboard page: which scorecards it shows, to whom, and what it cannot be made to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from evals.scorecard import Scorecard
from release.local_hub.server import running_hub

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

RELEASED = Path(__file__).resolve().parents[1] / "released" / "v0.1" / "scorecard.json"


def _contradicting(score: Any) -> Any:
    """Its interval ends before it begins."""
    return score.model_copy(update={"interval": score.interval.model_copy(update={"low": 5.0, "high": -5.0})})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], httpx2.Response]]:
    """A Hub with open, private, gated and broken scorecards, and what a user (or "", nobody) sees of its leaderboard."""
    with running_hub(tmp_path_factory.mktemp("board") / "hub") as hub:
        tokens = {name: hub.store.create_user(name) for name in ("slipway", "rival")}
        card = Scorecard.read(RELEASED)
        later = card.model_copy(update={"created": "2099-01-01T00:00:00Z"})
        cards: dict[str, Any] = {"slipway/open": card, "slipway/hidden": card, "slipway/gated": card}
        liar = card.model_copy(update={"scores": [_contradicting(score) for score in card.scores]})
        cards |= {"rival/copy": later, "rival/broken": None, "rival/liar": liar}
        for name, content in cards.items():
            api = HfApi(endpoint=hub.endpoint, token=tokens[name.partition("/")[0]])
            api.create_repo(name, private=name.endswith("hidden"))
            text = content.model_dump_json() if content else '{"scores": "<script>alert(1)</script>"}'
            api.create_commit(name, [CommitOperationAdd("scorecard.json", text.encode())], commit_message="scores")
        HfApi(endpoint=hub.endpoint, token=tokens["slipway"]).update_repo_settings("slipway/gated", gated="manual")

        def see(user: str, path: str = "leaderboard") -> httpx2.Response:
            return httpx2.get(f"{hub.endpoint}/{path}", auth=("user", tokens[user]) if user else None)

        yield see


def test_it_shows_the_figures_of_the_models_that_the_caller_may_read(page: Any) -> None:
    for user, hidden in (("", True), ("rival", True), ("slipway", False)):
        answer = page(user)
        assert answer.status_code == 200
        assert 'href="/slipway/open"' in answer.text
        for name in ("slipway/hidden", "slipway/gated"):
            assert (name not in answer.text) == hidden, (user, name)
    first = next(score for score in Scorecard.read(RELEASED).scores if score.headline)
    assert first.task in page("").text.replace("<wbr>", "")


def test_a_strangers_newer_scorecard_of_the_same_model_takes_nobodys_place(page: Any) -> None:
    assert 'href="/slipway/open"' in page("").text
    assert 'href="/rival/copy"' in page("").text


def test_a_scorecard_that_cannot_be_read_is_counted_and_not_shown(page: Any) -> None:
    assert "2 scorecards could not be read" in page("").text
    assert "rival/liar" not in page("").text
    assert page("", "rival/liar/scores/main").status_code == 200
    assert "alert(1)" not in page("").text


def test_a_models_page_of_scores_has_every_figure_with_its_interval_for_those_who_may_have_its_files(page: Any) -> None:
    answer = page("", "slipway/open/scores/main")
    assert answer.status_code == 200
    for score in Scorecard.read(RELEASED).scores:
        assert score.metric in answer.text
        assert str(score.n) in answer.text
    assert "95% interval" in answer.text
    assert 'href="/slipway/open/scores/main"' in page("", "slipway/open").text
    assert page("", "slipway/gated/scores/main").status_code == 401
    assert page("", "slipway/hidden/scores/main").status_code in (401, 404)
    assert page("slipway", "slipway/hidden/scores/main").status_code == 200
    assert "cannot be read" in page("", "rival/broken/scores/main").text
