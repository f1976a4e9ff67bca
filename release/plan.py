"""Plan a release without the network: build the bundle, hash it, ask the gates, take the probe, write plan.json.

    python -m release plan --run runs/a --repo org/name --tag v1.0.0 [--sign slipway.key]

    plan = make_plan(Path("runs/a"), Request("org/name", "v1.0.0"))
    plan.refused        # verdicts that forbid the release

plan.json also goes into the bundle: whoever has nothing but the repository's id can verify it by that. The signature,
where there is one, covers plan.json too, so it is made last and stands in no list.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import replace
from pathlib import Path

from model_cards.signer import Signer
from release import base_licences
from release.bundle import COURSE, PLAN, build_bundle, files_of, sources_of
from release.earlier import Target, released, require_free
from release.gates.ask import ask
from release.gates.candidate import Candidate
from release.hub_client import chosen_endpoint, source_changed
from release.hub_files import HUB_OWN_FILE
from release.policy import Policy, check_waivers, load_policy, policy_digest, require_never_waived
from release.policy_told import name_of, told
from release.records import Probe, ReleasePlan, Verdict
from release.request import Request
from release.signature import SIGNATURE, sign, signer_of, subject
from training.command import log
from training.counted import counted
from training.errors import GateRefused, UsageError
from training.records import sha256_of_file
from training.run_record import now


def make_plan(run: Path, request: Request) -> ReleasePlan:
    """Build `run/bundle`, write `run/plan.json`, return the plan, refused or not. Makes no connection.

    The same request over the same bytes gives the same plan, byte for byte. Raises UsageError where it would take the
    place of what was released under this tag, or of a publication to elsewhere that has not ended.
    """
    request.check()
    done = _released_plan(run, request)
    if done is not None:
        return done
    signer = signer_of(request.sign) if request.sign else None
    policy = load_policy(request.policy)
    require_never_waived(policy, request.policy)
    sources_of(run)  # says what is missing before anything is begun
    log(f"building {run / 'bundle'}")
    digest = policy_digest(request.policy)  # of a file that may lie in the bundle which is about to be replaced
    candidate = _candidate(run, request, policy, run / "bundle", signer)
    verdicts = _ask(candidate)
    plan = ReleasePlan(
        endpoint=chosen_endpoint(),
        repo_id=request.repo_id,
        tag=request.tag,
        private=request.private,
        checkpoint_digest=candidate.digest,
        parent_digest=_parent_digest(candidate),
        scorecard_digest=_digest_of(candidate, "scorecard.json"),
        run_record_digest=_digest_of(candidate, "run.json"),
        policy=name_of(request.policy),
        policy_digest=digest,
        files=list(candidate.files),
        verdicts=verdicts,
        probe=_probe(candidate),
        space=request.space,
        waivers=dict(candidate.waivers),
        signer=signer,
        space_flavour=request.space_flavour,
        gated=request.gated,
        created=now(),
    )
    before = _existing(run)
    if before is not None and before.model_copy(update={"created": plan.created}) == plan:
        plan = before
    plan.write(run / "bundle" / PLAN)
    if request.sign is not None and not plan.refused:  # what is refused is never sent, and a log would keep it for ever
        sign(run / "bundle", request.sign, subject(plan.repo_id, plan.tag), keep=run / SIGNATURE)
    plan.write(run / PLAN)
    return plan


def check_run(run: Path, request: Request) -> list[Verdict]:
    """The gates' verdicts on a bundle in a temporary directory; nothing is written to the run."""
    request.check()
    with tempfile.TemporaryDirectory(dir=run, prefix=".check-") as scratch:
        return _ask(_candidate(run, request, load_policy(request.policy), Path(scratch) / "bundle", None))


def check_files(directory: Path, request: Request, lineage: base_licences.Lineage | None = None) -> list[Verdict]:
    """The gates' verdicts on a checkpoint's directory as it is, with whatever card and records lie in it.

    `lineage` is what a Hub told of the bases which the card names.
    """
    request.check()
    policy = load_policy(request.policy)
    check_waivers(_waivers(request, policy), policy, "--waive")
    beside = (PLAN, SIGNATURE, HUB_OWN_FILE)
    entries = tuple(
        entry for entry in files_of(directory, without=beside) if not entry.path.startswith((".git/", ".cache/"))
    )
    waivers = _waivers(request, policy)
    return _ask(
        Candidate(
            directory,
            directory,
            entries,
            policy,
            request.repo_id,
            waivers=waivers,
            space=request.space,
            base_licences=lineage.licences if lineage else {},
            base_models=lineage.bases if lineage else {},
        )
    )


def plan_for(run: Path, request: Request) -> ReleasePlan:
    """The run's plan where it is what `request` asks for and was not refused, else a new one.

    A plan that stands is not made again over changed files: `require_current` refuses it, so that whoever read the
    plan releases what they read.
    """
    request.check()
    done = _released_plan(run, request)
    if done is not None:
        return done
    plan = _existing(run)
    if plan is None or plan.refused or not _answers(plan, request):
        return make_plan(run, request)
    log(f"using the plan of {plan.created} ({run / PLAN})")
    return plan


def read_plan(run: Path) -> ReleasePlan:
    """The plan that stands in the run. Raises UsageError where there is none."""
    if not (run / PLAN).is_file():
        raise UsageError(
            "this run has no plan", where=str(run), next_step=f"python -m release plan --run {run} --repo OWNER/NAME"
        )
    return ReleasePlan.read(run / PLAN)


def refusal(verdicts: list[Verdict], subject: str, *, checked_only: bool = False) -> GateRefused | None:
    """The error that names every gate that refused, with its numbers and remedies; None where all passed.

    `checked_only`: nothing was to be released, so it does not say that nothing was.
    """
    refused = [verdict for verdict in verdicts if verdict.outcome == "refused"]
    if not refused:
        return None
    remedies = list(dict.fromkeys(verdict.remedy for verdict in refused if verdict.remedy))
    lines = []
    for verdict in refused:
        lines.append(f"  {verdict.gate}: {verdict.explanation}")
        lines += [f"    -> {verdict.remedy}"] if verdict.remedy and len(remedies) > 1 else []
    return GateRefused(
        f"{len(refused)} of {len(verdicts)} gates refused{'' if checked_only else ', so nothing was sent to the Hub'}\n"
        + "\n".join(lines),
        where=subject,
        next_step="; ".join(remedies) if len(remedies) < 2 else "mend what each gate says, then the same command again",
    )


def require_passed(plan: ReleasePlan) -> None:
    """Raises GateRefused where a gate refused."""
    error = refusal(plan.verdicts, f"{plan.repo_id} {plan.tag}, policy {plan.policy}")
    if error is not None:
        raise error


def require_current(run: Path, plan: ReleasePlan) -> None:
    """Raises GateRefused where the bundle, or the file that a part of it came from, is not what the plan hashed."""
    bundle = run / "bundle"
    content = plan.to_json()
    planned = {entry.path: entry.sha256 for entry in plan.files}
    for name in [*planned, PLAN]:
        if not (bundle / name).is_file():
            raise source_changed(str(bundle / name), planned.get(name, plan.content_digest()), "no such file")
    if (bundle / PLAN).read_bytes() != content:
        raise source_changed(str(bundle / PLAN), plan.content_digest(), sha256_of_file(bundle / PLAN))
    if plan.signer is not None:
        _require_signature(run)
    sources = sources_of(run)
    for name, expected in planned.items():
        copies = [bundle / name]
        source = sources.get(name)
        if source is not None and not source.samefile(bundle / name):
            copies.append(source)
        for copy in copies:
            found = sha256_of_file(copy)
            if found != expected:
                raise source_changed(str(copy), expected, found)
    for name, source in sources.items():
        if name not in planned and name != COURSE:  # which plans of before 2026-11-29 do not have
            raise source_changed(str(source), "of no file: it was not there", sha256_of_file(source))


def _require_signature(run: Path) -> None:
    """Raises GateRefused where the bundle does not hold the signature that was made with the plan."""
    kept, sent = (
        sha256_of_file(file) if file.is_file() else "no such file"
        for file in (run / SIGNATURE, run / "bundle" / SIGNATURE)
    )
    if kept != sent or kept == "no such file":
        raise source_changed(str(run / "bundle" / SIGNATURE), kept, sent)


def describe(verdicts: list[Verdict]) -> str:
    """Each gate on a line. Why one refused, and what to do, stands in the error (`refusal`), and not here a second time."""
    lines = []
    for verdict in verdicts:
        said = "see the error" if verdict.outcome == "refused" else verdict.explanation
        lines.append(f"  {verdict.outcome:<8}{verdict.gate:<28}{said}")
    return "\n".join(lines)


def _candidate(run: Path, request: Request, policy: Policy, bundle: Path, signer: Signer | None) -> Candidate:
    waivers = _waivers(request, policy)
    check_waivers(waivers, policy, f"--waive, or waive in the policy {request.policy}")
    error = build_bundle(
        run,
        repo_id=request.repo_id,
        tag=request.tag,
        space_id=request.space,
        endpoint=chosen_endpoint(),
        target=bundle,
        signer=signer,
        waivers=waivers,
        policy=told(request.policy),
    )
    lineage = base_licences.read(run)
    return Candidate(
        run,
        bundle,
        tuple(files_of(bundle)),
        policy,
        request.repo_id,
        error,
        waivers,
        signer,
        request.space,
        lineage.licences,
        lineage.bases,
    )


def _waivers(request: Request, policy: Policy) -> dict[str, str]:
    return {str(gate): reason for gate, reason in [*policy.waive.items(), *request.waive.items()]}


def _ask(candidate: Candidate) -> list[Verdict]:
    log(f"asking {counted(len(candidate.policy.gates), 'gate')} about {candidate.digest}")
    return ask(candidate)


def _probe(candidate: Candidate) -> Probe | None:
    """None where the model does not load, or says what is no number; such a plan can only be a refused one."""
    try:
        probe = candidate.probe
    except UsageError as error:
        log(f"no probe: {error.what}")
        return None
    return probe if all(map(math.isfinite, probe.top_logits)) else None


def _parent_digest(candidate: Candidate) -> str | None:
    try:
        return candidate.parent_digest
    except UsageError as error:  # run.json is broken; its gate says so
        log(f"no parent: {error.what}")
        return None


def _digest_of(candidate: Candidate, name: str) -> str | None:
    return next((f"sha256:{entry.sha256}" for entry in candidate.files if entry.path == name), None)


def _released_plan(run: Path, request: Request) -> ReleasePlan | None:
    """The plan by which the run was released as `request` asks; None where it was not. Raises UsageError as require_free."""
    plan, target = _existing(run), Target(chosen_endpoint(), request.repo_id, request.tag, request.space)
    if plan is not None and (target.endpoint, target.repo_id, target.tag) in released(run) and _answers(plan, request):
        try:
            require_current(run, plan)
        except GateRefused as error:
            log(error.what)
        else:
            return plan
    if plan is not None and (target.endpoint, target.repo_id, target.tag) in released(run):
        _require_same_readers(plan, request)
    require_free(run, target)
    return None


def _require_same_readers(plan: ReleasePlan, request: Request) -> None:
    """Raises UsageError where nothing but who may read it is asked for otherwise than it was released."""
    wanted = {"private": request.private, "gated": request.gated}
    if wanted == {"private": plan.private, "gated": plan.gated}:
        return
    if _answers(plan, replace(request, private=plan.private, gated=plan.gated)):
        gate = f" --gated {'false' if request.gated == 'no' else request.gated}" if request.gated else ""
        raise UsageError(
            f"{plan.repo_id} {plan.tag} was released already; who may read it is changed on the Hub, not by a release",
            where=plan.endpoint,
            expected=f"private: {plan.private}, gated: {plan.gated}, as it was released",
            found=f"private: {request.private}, gated: {request.gated}",
            next_step=f"hf repos settings {plan.repo_id} {'--private' if request.private else '--public'}{gate}",
        )


def _existing(run: Path) -> ReleasePlan | None:
    return ReleasePlan.read(run / PLAN) if (run / PLAN).is_file() else None


def _answers(plan: ReleasePlan, request: Request) -> bool:
    if request.sign is not None and signer_of(request.sign) != plan.signer:
        return False
    if _waivers(request, load_policy(request.policy)) != plan.waivers:
        return False
    asked = (request.private, request.gated, request.space, request.space_flavour)
    return (chosen_endpoint(), request.repo_id, request.tag, *asked) == (
        plan.endpoint,
        plan.repo_id,
        plan.tag,
        plan.private,
        plan.gated,
        plan.space,
        plan.space_flavour,
    ) and policy_digest(request.policy) == plan.policy_digest
