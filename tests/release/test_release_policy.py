"""Policies are found by name or path, and say what is wrong with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from gate_verdicts import parent_of
from tiny_run import change_weights, rescore

from release.__main__ import main
from release.claims import check_claims
from release.hub_client import HubClient
from release.plan import make_plan
from release.policy import NEVER_WAIVED, POLICIES, load_policy, policy_digest
from release.publish import publish
from release.request import Request
from training.errors import GateRefused, UsageError
from training.records import write_atomically

OwnPolicy = Callable[..., str]


@pytest.fixture
def own_policy(tmp_path: Path) -> OwnPolicy:
    """Writes the default policy with some of its lines changed to a file of one's own."""

    def make(*changes: tuple[str, str], without: tuple[str, ...] = ()) -> str:
        text = (POLICIES / "default.yaml").read_text()
        for old, new in [*changes, *((f"  - {gate}\n", "") for gate in without)]:
            assert old in text
            text = text.replace(old, new)
        write_atomically(tmp_path / "ours" / "strict.yaml", text.encode())
        return str(tmp_path / "ours" / "strict.yaml")

    return make


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


@pytest.mark.parametrize("gate", NEVER_WAIVED)
def test_a_policy_that_leaves_out_a_gate_which_is_never_waived_plans_nothing(
    run: Path, own_policy: OwnPolicy, gate: str
) -> None:
    with pytest.raises(UsageError, match="leaves out 1 gate without which nothing is released") as caught:
        make_plan(run, Request("owner/name", policy=own_policy(without=(gate,))))
    assert caught.value.found == f"no {gate}"
    assert not (run / "plan.json").exists()


def test_a_card_names_the_policy_of_ones_own_and_what_it_asks_otherwise_and_the_release_holds_it(
    run: Path, own_policy: OwnPolicy
) -> None:
    make_plan(run, Request("owner/name"))
    assert "policy" not in (run / "bundle" / "README.md").read_text()
    policy = own_policy(
        ("alpha: 0.05  ", "alpha: 0.5  "), ("[helpfulness, truthfulness", "[truthfulness"), without=("no_secrets",)
    )
    plan = make_plan(run, Request("owner/name", policy=policy))
    card = (run / "bundle" / "README.md").read_text()
    assert f"`strict.yaml` ([policy.yaml](policy.yaml)) (`{policy_digest(policy)}`)" in card
    assert "- `no_secrets`: not asked" in card
    assert "- `no_regression.alpha`: 0.5; by default 0.05" in card
    assert "- `scorecard.groups`: truthfulness, toxicity; by default helpfulness, truthfulness, toxicity" in card
    assert (run / "bundle" / "policy.yaml").read_bytes() == Path(policy).read_bytes()
    assert plan.policy == "strict.yaml"
    assert [finding for finding in check_claims(run / "bundle", plan) if not finding.ok] == []
    (run / "bundle" / "policy.yaml").write_text("description: another\n")
    (run / "bundle" / "README.md").write_text(card.replace(policy_digest(policy), "sha256:0"))
    told = {finding.found for finding in check_claims(run / "bundle", plan) if not finding.ok}
    assert any("another policy in policy.yaml" in words for words in told)
    assert any("the policy strict.yaml is not the default" in words for words in told)


def test_a_trained_run_that_the_policy_for_checkpoints_from_elsewhere_let_through_says_so(run: Path) -> None:
    make_plan(run, Request("owner/name", policy="external"))
    card = (run / "bundle" / "README.md").read_text()
    assert "the policy `external`" in card
    assert "- `scorecard.required`: False; by default True" in card


@pytest.mark.usefixtures("load_here")
def test_a_copy_of_a_run_is_published_without_the_file_of_the_policy_that_it_was_planned_under(
    run: Path,
    tmp_path: Path,
    hub: HubClient,
    repo_id: str,
    own_policy: OwnPolicy,
    capsys: pytest.CaptureFixture[str],
) -> None:
    policy = own_policy(("alpha: 0.05  ", "alpha: 0.01  "))
    make_plan(run, Request(repo_id, policy=policy))
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    shutil.rmtree(Path(policy).parent)
    assert main(["publish", "--run", str(copy), "--repo", repo_id]) == 0
    assert f"by the policy of the plan that stands ({copy}/bundle/policy.yaml)" in capsys.readouterr().err
    assert "policy `strict.yaml`" in hub.text(repo_id, "v1.0.0", "README.md").replace("of its publisher's own, ", "")
    (run / "bundle" / "policy.yaml").unlink()
    with pytest.raises((GateRefused, UsageError)):
        publish(run, hub)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_answer_no_numbers_are_refused_by_a_gate_that_no_policy_leaves_out(
    run: Path, own_policy: OwnPolicy, value: float
) -> None:
    parent = parent_of(run)
    digest = change_weights(run / "checkpoint", lambda tensors: tensors["model.norm.weight"].fill_(value))
    rescore(run, digest, parent)
    plan = make_plan(run, Request("owner/name", policy=own_policy(without=("weights_finite",))))
    assert [verdict.gate for verdict in plan.refused] == ["loads_clean"]
    assert "logits that are no numbers" in plan.refused[0].explanation
    assert plan.probe is None
    assert "NaN" not in (run / "plan.json").read_text().replace("(NaN or infinite)", "")
