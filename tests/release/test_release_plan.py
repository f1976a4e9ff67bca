"""A plan is made without the network, is the same for the same bytes, and speaks only of the bytes it was made from."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from release.__main__ import main
from release.bundle import files_of
from release.plan import make_plan, plan_for, read_plan, require_current
from release.records import ReleasePlan
from release.request import Request
from training.checkpoint import Checkpoint
from training.errors import GateRefused, UsageError

REQUEST = Request("slipway/tiny")


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError("a plan must not connect")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_a_plan_is_made_without_the_network_and_names_every_file_by_its_hash(run: Path, no_network: None) -> None:
    plan = make_plan(run, REQUEST)
    assert plan.refused == []
    assert plan.files == files_of(run / "bundle", without=("plan.json",))
    assert {"README.md", "model.safetensors", "run.json", "scorecard.json", "samples/starter_toxicity.jsonl"} <= {
        entry.path for entry in plan.files
    }
    assert plan.checkpoint_digest == Checkpoint.open(run / "checkpoint").digest
    assert plan.probe is not None
    assert len(plan.probe.top_logits) == 10
    assert (run / "bundle" / "plan.json").read_bytes() == (run / "plan.json").read_bytes()


def test_the_bundle_is_itself_a_checkpoint_with_the_same_digest(run: Path) -> None:
    plan = make_plan(run, REQUEST)
    assert Checkpoint.open(run / "bundle").digest == plan.checkpoint_digest


def test_the_same_request_over_the_same_bytes_gives_the_same_plan(run: Path) -> None:
    first = make_plan(run, REQUEST).to_json()
    (run / "plan.json").write_bytes(ReleasePlan.read(run / "plan.json").to_json())
    assert make_plan(run, REQUEST).to_json() == first


def test_a_changed_weight_file_is_refused_with_both_hashes(run: Path) -> None:
    plan = make_plan(run, REQUEST)
    file = run / "checkpoint" / "model.safetensors"
    before = next(entry.sha256 for entry in plan.files if entry.path == "model.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(GateRefused, match=r"model\.safetensors") as caught:
        require_current(run, plan)
    assert before in str(caught.value.expected)


def test_a_source_that_was_replaced_is_refused_although_the_bundle_still_holds_the_old_bytes(run: Path) -> None:
    plan = make_plan(run, REQUEST)
    (run / "scorecard.json").unlink()
    (run / "scorecard.json").write_text("{}")
    with pytest.raises(GateRefused, match=r"scorecard\.json"):
        require_current(run, plan)


def test_a_file_that_came_after_the_plan_is_refused(run: Path) -> None:
    plan = make_plan(run, REQUEST)
    (run / "checkpoint" / "late.txt").write_text("more\n")
    with pytest.raises(GateRefused, match=r"late\.txt"):
        require_current(run, plan)


def test_samples_of_a_suite_that_the_scorecard_is_not_of_stay_at_home(run: Path) -> None:
    named = sorted((run / "samples").glob("*.jsonl"))
    for folder in (run, run / "baseline"):
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / "samples" / "an_earlier_suite.jsonl").write_text("{}\n")
    paths = {entry.path for entry in make_plan(run, REQUEST).files}
    assert {f"samples/{file.name}" for file in named} <= paths
    assert not [path for path in paths if "an_earlier_suite" in path]


def test_an_edited_plan_is_refused(run: Path) -> None:
    make_plan(run, REQUEST)
    plan = json.loads((run / "plan.json").read_text())
    plan["private"] = True
    (run / "plan.json").write_text(json.dumps(plan))
    with pytest.raises(GateRefused, match=r"plan\.json"):
        require_current(run, read_plan(run))


def test_a_plan_for_another_request_is_made_anew_and_one_for_this_request_stands(run: Path) -> None:
    plan = make_plan(run, REQUEST)
    assert plan_for(run, REQUEST) == plan
    assert plan_for(run, Request("slipway/tiny", tag="v2")).tag == "v2"


def test_a_bare_checkpoint_as_a_run_is_refused_with_the_option_that_takes_it(run: Path) -> None:
    with pytest.raises(UsageError, match="bare checkpoint") as caught:
        make_plan(run / "checkpoint", REQUEST)
    assert f"--checkpoint {run / 'checkpoint'}" in str(caught.value.next_step)


@pytest.mark.parametrize(
    "request_", [Request("tiny"), Request("a/b/c"), Request("a/b", tag="../x"), Request("a/b", tag="main")]
)
def test_ids_and_tags_that_no_hub_takes_are_refused_before_anything_is_built(run: Path, request_: Request) -> None:
    with pytest.raises(UsageError):
        make_plan(run, request_)
    assert not (run / "bundle").exists()


def test_the_plan_command_exits_3_with_the_gate_and_its_numbers(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (run / "run.json").unlink()
    assert main(["plan", "--run", str(run), "--repo", "slipway/tiny", "--json"]) == 3
    result = json.loads(capsys.readouterr().out)
    assert {verdict["gate"] for verdict in result["verdicts"] if verdict["outcome"] == "refused"} >= {
        "run_record_pinned"
    }
    assert result["error"]["exit_code"] == 3


def test_the_help_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    script = (
        "import sys\nfrom release.__main__ import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'huggingface_hub', 'starlette', 'gradio', 'transformers', 'lm_eval', 'matplotlib'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "publish" in done.stdout
