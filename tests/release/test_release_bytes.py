"""A short run of benchmarks/thousand_bytes.py: every file is hit, and every hit is found."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from release.hub_client import HubClient
from release.local_hub.server import RunningHub
from release.plan import make_plan
from release.publish import publish
from release.request import Request
from release.signature import SIGNATURE
from release.signing_keys import make_key

FILE = Path(__file__).parents[2] / "benchmarks" / "thousand_bytes.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    spec = importlib.util.spec_from_file_location("thousand_bytes", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_changed_byte_in_any_file_is_found_and_the_file_named(
    run: Path, hub: HubClient, repo_id: str, load_here: None, tmp_path: Path, benchmark: ModuleType
) -> None:
    make_key(tmp_path / "slipway.key")
    make_plan(run, Request(repo_id, sign=tmp_path / "slipway.key"))
    receipt, _ = publish(run, hub)
    release = Path(shutil.copytree(run / "bundle", tmp_path / "release"))
    known = benchmark.witnesses(release, repo_id, "v1.0.0", tmp_path / "slipway.pub", receipt)
    table = benchmark.in_the_download(release, known, 3 * 26, seed=1)
    assert set(table) == {entry.path for entry in receipt.files} | {"plan.json", SIGNATURE}
    for path, row in table.items():
        assert row["flips"] >= 2
        assert row["signature"] == row["receipt"] == row["flips"], path
        if path not in ("plan.json", SIGNATURE):  # nothing but the key or the receipt speaks of these two
            assert row["the id alone"] == row["flips"], path


def test_a_changed_byte_in_the_store_is_exit_4(
    run: Path,
    hub: HubClient,
    repo_id: str,
    load_here: None,
    hub_with_owner: tuple[RunningHub, str],
    benchmark: ModuleType,
) -> None:
    (run / "checkpoint" / "notes.txt").write_text(f"only in {repo_id}\n")  # blobs are shared with other tests' releases
    make_plan(run, Request(repo_id))
    publish(run, hub)
    root = hub_with_owner[0].store.blobs.folder
    assert benchmark.in_the_store(run / "bundle", root, [f"{repo_id}@v1.0.0"], 5, seed=2) == {"exit 4": 5}
