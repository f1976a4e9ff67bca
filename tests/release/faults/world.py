"""What every trial starts from: runs with plans, and stores of a Hub before the release and after an earlier one.

with World(scratch) as world:
    world.next     # v2.0.0 is to follow v1.0.0, which is public with its Space
    world.first    # v1.0.0 is to be the first release of its repository
    world.scenario("private next"), world.scenario("gated first"), ...      # the same with other readers

FRIEND is a user whom the owner has let in, or, of a first release, who asks as soon as there is something to ask for.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Self

from faults.proxy import Proxy
from faults.publisher import Publisher

from release.bundle import PLAN
from release.local_hub.access import grant_access
from release.local_hub.server import running_hub
from release.local_hub.store import Store
from release.records import ReleasePlan

OWNER, REPO, FRIEND = "slipway", "slipway/tiny", "friend"
SPACE = f"{REPO}-chat"
STEPS = ("repository", "staged", "checked", "promoted", "tagged", "space", "cleaned", "booted", "visible", "receipt")
NO_BOOT = (
    "--no-boot",
    "the faults are of the Hub",
)  # a Space takes ten seconds of a processor, and there are hundreds of trials
GATES = {"next": "manual", "first": "auto"}  # of a first release nobody can have been let in yet
AFTER_BOOT = STEPS[STEPS.index("booted") :]  # what befalls these steps befalls a publication that boots its Space


@dataclass(frozen=True)
class Scenario:
    name: str
    run: Path  # planned and not yet published
    other: Path  # the same tag for other bytes
    store: Path
    tag: str
    old: dict[str, str]  # path -> SHA-256 of the release before, which anyone may read; empty where there is none
    new: dict[str, str]
    private: bool = False  # what the plan says of its readers
    gated: str | bool = False

    @property
    def options(self) -> tuple[str, ...]:
        """Of the command that publishes it."""
        gate = ("--gated", str(self.gated)) if self.gated else ()
        return ("--private",) if self.private else gate


class World:
    """One Hub behind one proxy, whose store is exchanged for each trial; and the publisher process.

    Without `others` nothing is planned that a second publisher could release under the same tag.
    """

    def __init__(self, scratch: Path, *, others: bool = True) -> None:
        self.scratch, self.others = scratch, others
        self.trials = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.publisher = stack.enter_context(Publisher(self.scratch / "publisher"))
            self.proxy = stack.enter_context(Proxy())
            self.hub = stack.enter_context(running_hub(self.scratch / "idle", wrap=self._keep))
            self.netloc = self.hub.endpoint.removeprefix("http://")
            self.proxy.upstreams = (self.netloc,)
            self._prepare()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def serve(self, root: Path) -> Store:
        """Let the Hub serve another store."""
        store = Store(root)
        self._app.state.store = store
        return store

    def environment(self, token: str, machine: Path) -> dict[str, str]:
        """Of a publisher on a machine: hf_xet remembers there what it has sent."""
        return {"HF_ENDPOINT": self.proxy.endpoint, "HF_TOKEN": token, "HF_XET_CACHE": str(machine / "xet")}

    def _keep(self, app: Any) -> Any:
        self._app = app
        return app

    def scenario(self, name: str) -> Scenario:
        """`first` or `next`, or one of these with other readers: `private next`. Planned when it is first asked for."""
        if name not in self._scenarios:
            readers, _, which = name.partition(" ")
            like = self._scenarios[which]
            made = replace(
                like,
                name=f"{readers} {which} release",
                run=self.scratch / f"runs-{readers}" / like.run.name,
                other=self.scratch / f"runs-{readers}" / like.other.name,
                private=readers == "private",
                gated=GATES[which] if readers == "gated" else False,
            )
            for run, source in ((made.run, like.run), (made.other, like.other)):
                shutil.copytree(source, run, ignore=shutil.ignore_patterns(PLAN, "bundle"))
                if (source / PLAN).is_file():
                    self._plan(run, made.tag, made.options)
            self._scenarios[name] = replace(made, new=files_of(made.run))
        return self._scenarios[name]

    @property
    def first(self) -> Scenario:
        return self.scenario("first")

    @property
    def next(self) -> Scenario:
        return self.scenario("next")

    def _prepare(self) -> None:
        runs, before, after = self.scratch / "runs", self.scratch / "before", self.scratch / "after"
        self._do("prepare", str(runs))
        store = self.serve(before)
        self.token, self.friend = store.create_user(OWNER), store.create_user(FRIEND)
        self.reader = store.create_token(OWNER, "read")
        others = ("", "-other") if self.others else ("",)
        for other in others:
            self._plan(runs / f"first{other}", "v1.0.0")
        shutil.copytree(before, after)
        store = self.serve(after)
        released = Path(shutil.copytree(runs / "first", runs / "released"))
        self._do("publish", "--run", str(released), "--repo", REPO, "--tag", "v1.0.0", "--space", *NO_BOOT)
        for other in others:  # planned against the release that it follows, or `publish` would plan it anew
            self._do("last-release", "--run", str(runs / f"second{other}"), "--repo", REPO)
            self._plan(runs / f"second{other}", "v2.0.0")
        _let_in(store, FRIEND)
        old, new = files_of(runs / "first"), files_of(runs / "second")
        self._scenarios = {
            "first": Scenario("first release", runs / "first", runs / "first-other", before, "v1.0.0", {}, old),
            "next": Scenario("next release", runs / "second", runs / "second-other", after, "v2.0.0", old, new),
        }

    def _plan(self, run: Path, tag: str, options: Sequence[str] = ()) -> None:
        self._do("plan", "--run", str(run), "--repo", REPO, "--tag", tag, "--space", *options)

    def _do(self, *command: str) -> None:
        code, said = self.publisher.run(command, self.environment(getattr(self, "token", ""), self.scratch))
        if code != 0:
            raise RuntimeError(f"{' '.join(command)} ended with {code}:\n{said}")


def _let_in(store: Store, user: str) -> None:
    """Into a repository that anyone may read, for the day on which it is gated."""
    repository = store.find("model", REPO)
    assert repository is not None
    repository.change_settings(gated="manual")
    grant_access(repository, user)
    repository.change_settings(gated=False)


def files_of(run: Path) -> dict[str, str]:
    """What a plan releases, plan.json too: path -> SHA-256."""
    plan = ReleasePlan.read(run / PLAN)
    files = {entry.path: entry.sha256 for entry in plan.files}
    return files | {PLAN: plan.content_digest().removeprefix("sha256:")}


def write_runs(folder: Path) -> None:
    """The runs first and second, and first-other and second-other with other weights; the first has a file more."""
    from tiny_run import change_weights, make_checkpoint, rescore, write_scores

    parent = make_checkpoint(folder / "base" / "checkpoint", seed=1)
    for number, name in enumerate(("first", "second", "first-other", "second-other")):
        run = folder / name
        make_checkpoint(run / "checkpoint", seed=2)
        if name.startswith("first"):
            (run / "checkpoint" / "notes.txt").write_text("what only the first release has\n")
        digest = change_weights(run / "checkpoint", partial(_shift, by=number / 10))
        rescore(run, digest, parent.digest)
        write_scores(run / "baseline", parent.digest, {"helpfulness": 0.5, "truthfulness": 0.5, "toxicity": 0.1})


def _shift(tensors: dict[str, Any], by: float) -> None:
    tensors["model.norm.weight"].add_(by)
