"""Publish a plan: stage, download, check, and only then one commit on main, a tag, and at last visibility.

    receipt, already = publish(Path("runs/a"), HubClient.connect())

Steps, each of which first looks whether it is done (in the journal and on the Hub), so that a publication killed
anywhere continues with the same command and never makes a second commit:

    repository   created private, if it is new
    staged       all files in one commit on the branch release-staging-TAG, in a private repository of its own where this one
                 is public (release/staging.py)
    checked      the staged commit downloaded into an empty cache, every file hashed, loaded in a fresh process
    narrowed     private or gated where it was not and the plan says so; what it was stands in the journal
    before       what main is right before the commit, and who may read it, for a rollback
    promoted     one commit on main, on top of the main that was read; nothing before this is visible there
    tagged, space, cleaned
    booted       the Space run from the Hub and asked a question; or the reason why not
    visible, and receipt.json, which is written last
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from release.asked_again import require_as_planned
from release.bundle import PLAN
from release.downloaded import compare_behaviour, compare_files, describe, fresh_download
from release.foreign_files import require_agreed
from release.hub_client import HubClient, HubRepository
from release.hub_errors import is_passing
from release.hub_files import MEND
from release.journal import ROLLED_BACK, WITHDRAWN, Journal, exclusive
from release.plan import read_plan, require_current, require_passed
from release.planned_release import RECEIPT, PlannedRelease
from release.readers import narrow, note_before, require_shown, show
from release.records import Receipt, ReleasePlan, SpaceBoot, SpaceReceipt
from release.signature import SIGNATURE
from release.space import publish_space, space_files
from release.space_boot import boot_space, reason_not_to_boot
from release.staging import Staging
from release.still_there import require_still_there
from training.command import log
from training.counted import counted
from training.errors import HubError, UsageError, VerificationMismatch
from training.run_record import now


def publish(
    run: Path, hub: HubClient, *, no_boot: str | None = None, replace_files: bool = False
) -> tuple[Receipt, bool]:
    """Publish `run/plan.json`; the receipt, and whether it had been released before. `no_boot`: why its Space is not run.

    Raises GateRefused where a gate refused or a file changed, UsageError where the tag stands for other bytes, or main has
    files of others and not `replace_files`, VerificationMismatch where the Hub gives back other bytes than it was given, the
    Space does not answer, or what was released is not there any more as it was, HubError.
    """
    plan = read_plan(run)
    if no_boot is not None and (plan.space is None or not no_boot.strip()):
        raise UsageError(
            "--no-boot says why the Space of a release is not run before it is shown",
            expected="a release with --space, and a reason",
            found=repr(no_boot) if plan.space else "a release without a Space",
        )
    if plan.endpoint != hub.endpoint:
        raise UsageError(
            "the plan is for another Hub, which its card names",
            where=str(run / PLAN),
            expected=f"HF_ENDPOINT={plan.endpoint}",
            found=hub.endpoint,
            next_step="set HF_ENDPOINT so, or plan again for this Hub",
        )
    require_passed(plan)
    require_current(run, plan)
    with exclusive(run):
        journal = Journal(run / "journal.jsonl", plan.content_digest(), hub.endpoint)
        if journal.find(ROLLED_BACK) is not None:
            raise UsageError(
                f"{plan.repo_id} {plan.tag} was released and rolled back",
                where=str(journal.path),
                next_step=f"python -m release rollback --repo {plan.repo_id} --to {plan.tag} returns to it, whatever it was rolled "
                "back for; or plan again with a new --tag",
            )
        return Publication(run, plan, hub, journal, no_boot, replace_files).carry_out()


@dataclass(frozen=True)
class Publication:
    """One plan on its way to one Hub."""

    run: Path
    plan: ReleasePlan
    hub: HubClient
    journal: Journal
    no_boot: str | None = None
    replace_files: bool = False

    @cached_property
    def planned(self) -> PlannedRelease:
        return PlannedRelease(self.run, self.plan, self.hub, self.journal)

    def carry_out(self) -> tuple[Receipt, bool]:
        """Every step that is not done yet."""
        log(f"publishing {self.plan.repo_id} {self.plan.tag} to {self.hub.endpoint} as {self.hub.user()}")
        if self.plan.space is not None:  # what cannot be built must be known before anything is released
            space_files(self.plan, self.run / "bundle", "0" * 40)
        repository = self.hub.repository(self.plan.repo_id)
        if (receipt := self.planned.receipt()) is not None:
            require_still_there(self.planned, receipt, repository)
            if self.journal.lines() and self.journal.find("receipt") is None:  # a kill fell between the two
                self.journal.record("receipt", digest=receipt.content_digest())
            return receipt, True
        commit = self.planned.released(repository)
        if commit is None:
            if repository is not None:
                self._require_free(repository)
            require_as_planned(self.run, self.plan)
            repository = self._open_repository(repository)
            staging = self.planned.staging(repository)
            staged = self._stage(staging, repository)
            self._check(staging, staged, repository)
            commit = self._promote()
        self._tag(commit)
        space = self._publish_space(commit)
        self._clean()
        if space is not None:
            space = space.model_copy(update={"boot": self._boot(space, commit)})
        self._show()
        return self._write_receipt(commit, space), False

    def _require_free(self, repository: HubRepository) -> None:
        """Raises UsageError where the release could not be tagged, or would take away what others put on main."""
        self.planned.require_no_branch(repository)
        require_agreed(self.planned, repository, replace_files=self.replace_files)

    def _open_repository(self, repository: HubRepository | None) -> HubRepository:
        """The repository; private if it is new. One that is public stays so for its readers until all is checked."""
        created = repository is None
        if repository is None:
            log(f"creating {self.plan.repo_id} (private until it is released)")
            self.hub.create_repository(self.plan.repo_id, private=True)
            repository = self.hub.repository(self.plan.repo_id)
            if repository is None:
                raise HubError(
                    f"the Hub created {self.plan.repo_id} but does not show it to this token",
                    where=self.hub.endpoint,
                    next_step="give HF_TOKEN the right to read this namespace",
                )
        if self.journal.find("repository") is None:
            if not created:
                require_shown(self.plan, self.hub, repository)
            staging = self.planned.staging(repository).repo_id
            self.journal.record("repository", created=created, target=self.planned.target, staging=staging)
        return repository

    def _stage(self, staging: Staging, released_to: HubRepository) -> str:
        """One commit with exactly the planned files on the staging branch; its id."""
        repository = self._open_staging(staging, released_to)
        head = repository.branches.get(staging.branch)
        if head is None or self.planned.difference(head, staging.repo_id) is not None:
            if head is not None:  # of another plan, or of a commit that never came
                self.hub.delete_branch(staging.repo_id, staging.branch)
            self._create_branch(staging, repository.main)
            where = f" of {staging.repo_id}, which is private," if staging.apart else ""
            log(f"staging {counted(len(self.planned.files), 'file')} on {staging.branch}{where}")
            head = self.planned.commit(staging.branch, repository.main, f"Stage {self.plan.tag}", staging.repo_id)
            self.planned.require_same(head, staging.repo_id)
        if (self.journal.find("staged") or {}).get("commit") != head:
            self.journal.record("staged", commit=head, branch=staging.branch, repository=staging.repo_id)
        return head

    def _open_staging(self, staging: Staging, repository: HubRepository) -> HubRepository:
        """Where the Hub refuses it, nothing was begun, and the run may go elsewhere."""
        try:
            return staging.open(self.hub, repository)
        except HubError as error:
            self._withdraw_refused(error)
            raise

    def _create_branch(self, staging: Staging, parent: str) -> None:
        """The staging branch. Where the Hub refuses it, nothing was begun, and the run may go elsewhere."""
        try:
            self.hub.create_branch(staging.repo_id, staging.branch, parent)
        except HubError as error:
            self._withdraw_refused(error)
            raise

    def _withdraw_refused(self, error: HubError) -> None:
        if not is_passing(error) and not (self.journal.find("repository") or {}).get("created"):
            self.journal.record(WITHDRAWN, target=self.planned.target)

    def _check(self, staging: Staging, staged: str, repository: HubRepository) -> None:
        """Download the staged commit and hold it against the plan. Raises VerificationMismatch and unstages it."""
        if (self.journal.find("checked") or {}).get("commit") == staged:
            return
        assert self.plan.probe is not None  # require_passed: a model that does not load is refused
        log("downloading what the Hub stored into an empty cache")
        with fresh_download(self.hub, staging.repo_id, staged) as snapshot:
            findings = compare_files(snapshot, self.plan.files)
            if all(finding.ok for finding in findings):
                log("loading it in a fresh process")
                findings += compare_behaviour(snapshot, self.plan.probe)
            plan_there = (snapshot / PLAN).read_bytes() == self.plan.to_json() if (snapshot / PLAN).is_file() else False
        wrong = [describe(finding) for finding in findings if not finding.ok]
        if not plan_there:
            wrong.append(f"file {PLAN}: not the plan that was sent")
        if wrong:
            staging.remove(self.hub, replace(repository, branches={**repository.branches, staging.branch: staged}))
            raise VerificationMismatch(
                "the Hub gave back something else than it was given; nothing was released\n  " + "\n  ".join(wrong),
                where=f"{self.hub.endpoint}/{staging.repo_id}, commit {staged}",
                next_step=f"publish again; if it stays, the Hub's storage is damaged: {MEND}, and then publish again",
            )
        self.journal.record("checked", commit=staged, files=len(findings))

    def _promote(self) -> str:
        """One commit on main with the checked files; the moment of the release."""
        require_current(self.run, self.plan)
        repository = self._promotable()
        parent = repository.main
        note_before(self.planned, repository)
        narrow(self.planned, repository)
        log("promoting to main")
        commit = self.planned.commit("main", parent, self.planned.title)
        self.planned.require_same(commit)
        self.journal.record("promoted", commit=commit, parent=parent)
        return commit

    def _promotable(self) -> HubRepository:
        """The repository whose main is to be promoted on. Raises UsageError where others have just released this tag."""
        repository = self.hub.repository(self.plan.repo_id)
        if repository is None:
            raise HubError(
                f"{self.plan.repo_id} is gone, or this token may no longer see it",
                where=self.hub.endpoint,
                next_step="run the same command again; it begins anew",
            )
        history = self.hub.history(self.plan.repo_id, repository.main)
        newest = history[0]
        # Their tag comes after their commit: between the two only the commit says that the tag is taken.
        if newest.title == self.planned.title and (found := self.planned.difference(newest.commit)) is not None:
            raise self.planned.taken(repository, found)
        if (tagged := repository.tags.get(self.plan.tag)) is not None:
            if (found := self.planned.difference(tagged)) is not None:
                raise self.planned.taken(repository, found)
            if tagged not in {commit.commit for commit in history}:
                raise self.planned.tagged_elsewhere(repository, tagged)
        self._require_free(repository)
        return repository

    def _tag(self, commit: str) -> None:
        try:
            self.hub.create_tag(self.plan.repo_id, self.plan.tag, commit, f"plan {self.journal.plan_digest}")
        except HubError:
            if (repository := self.hub.repository(self.plan.repo_id)) is not None:
                self.planned.require_no_branch(repository)  # made since main was promoted
            raise
        found = self.hub.resolve(self.plan.repo_id, self.plan.tag)
        if found != commit:
            raise UsageError(
                f"somebody else has just tagged another commit as {self.plan.tag}",
                where=f"{self.hub.endpoint}/{self.plan.repo_id}",
                expected=commit,
                found=found,
                next_step=f"python -m release rollback --run {self.run}, then choose a new --tag for this release",
            )
        if self.journal.find("tagged") is None:
            self.journal.record("tagged", commit=commit, tag=self.plan.tag, target=self.planned.target)

    def _publish_space(self, commit: str) -> SpaceReceipt | None:
        if self.plan.space is None:
            return None
        log(f"publishing the Space {self.plan.space}")
        space = publish_space(self.hub, self.plan, self.run / "bundle", commit)
        if self.journal.find("space") is None:
            self.journal.record("space", repo_id=space.repo_id, commit=space.commit)
        return space

    def _boot(self, space: SpaceReceipt, commit: str) -> SpaceBoot:
        """What the Space answers, or why it was not asked. Raises VerificationMismatch where it does not answer."""
        done = self.journal.find("booted")
        if done is not None and done["commit"] == space.commit:
            return SpaceBoot.model_validate(done["boot"])
        reason = self.no_boot or reason_not_to_boot(self.plan.space_flavour)
        if reason is not None:
            log(f"the Space is not booted: {reason}")
            boot = SpaceBoot(not_booted=reason)
        else:
            requirements = space_files(self.plan, self.run / "bundle", commit)["requirements.txt"].decode()
            boot = boot_space(self.hub, space, requirements, revision=commit)
        self.journal.record("booted", commit=space.commit, boot=boot.model_dump(mode="json"))
        return boot

    def _clean(self) -> None:
        repository = self.hub.repository(self.plan.repo_id)
        staging = Staging.noted(self.plan.repo_id, self.plan.tag, self.journal.find("repository"))
        staging.remove(self.hub, repository)
        if self.journal.find("cleaned") is None:
            self.journal.record("cleaned", branch=staging.branch)

    def _show(self) -> None:
        show(self.planned)
        if self.journal.find("visible") is None:
            self.journal.record("visible", private=self.plan.private)

    def _write_receipt(self, commit: str, space: SpaceReceipt | None) -> Receipt:
        assert self.plan.probe is not None
        receipt = Receipt(
            endpoint=self.hub.endpoint,
            repo_id=self.plan.repo_id,
            commit=commit,
            tag=self.plan.tag,
            checkpoint_digest=self.plan.checkpoint_digest,
            parent_digest=self.plan.parent_digest,
            scorecard_digest=self.plan.scorecard_digest,
            plan_digest=self.journal.plan_digest,
            files=self.plan.files,
            probe=self.plan.probe,
            space=space,
            signature_digest=f"sha256:{self.planned.files[SIGNATURE].sha256}"
            if SIGNATURE in self.planned.files
            else None,
            signer=self.plan.signer,
            created=now(),
        )
        receipt.write(self.run / RECEIPT)
        self.journal.record("receipt", digest=receipt.content_digest())
        return receipt
