"""Gated repositories: who is told of them, who gets their files, and who lets others in; asked by the unchanged client."""

from __future__ import annotations

import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError

from release.hub_errors import translated
from release.local_hub.server import running_hub
from training.errors import HubError

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

ME, VISITOR, NOBODY = "slipway", "visitor", ""
CLOSED = "slipway/closed"


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], HfApi]]:
    """The client of each user of a Hub; all tests of this file share it."""
    with running_hub(tmp_path_factory.mktemp("gated") / "hub") as hub:
        made: dict[str, HfApi] = {NOBODY: HfApi(endpoint=hub.endpoint, token=False)}

        def client(name: str) -> HfApi:
            if name not in made:
                made[name] = HfApi(endpoint=hub.endpoint, token=hub.store.create_user(name))
            return made[name]

        yield client


@pytest.fixture(scope="module")
def gate(people: Any) -> Callable[..., str]:
    """Makes a gated repository with a small and a large file, new for each test."""
    names = iter(range(100))

    def make(mode: str, kind: str = "model") -> str:
        api, name = people(ME), f"{CLOSED}-{next(names)}"
        api.create_repo(name, repo_type=kind)
        files = [
            CommitOperationAdd("data.jsonl", b'{"text": "a secret row"}\n'),
            CommitOperationAdd("w.bin", b"\0secret weights"),
        ]
        api.create_commit(name, files, commit_message="files", repo_type=kind)
        api.update_repo_settings(name, gated=mode, repo_type=kind)
        return name

    return make


def ask_for_access(api: HfApi, name: str) -> httpx2.Response:
    """huggingface_hub has no call for it: people press a button of the page."""
    token = {"Authorization": f"Bearer {api.token}"} if api.token else {}
    return httpx2.post(f"{api.endpoint}/{name}/ask-access", headers=token)


def has_files(api: HfApi, name: str, folder: Path) -> bool:
    try:
        api.hf_hub_download(name, "w.bin", local_dir=folder / uuid.uuid4().hex)
    except GatedRepoError:
        return False
    return True


def test_everybody_sees_that_a_gated_model_is_there_and_only_members_get_its_files(
    people: Any, gate: Any, tmp_path: Path
) -> None:
    name = gate("manual")
    for user, status in ((NOBODY, 401), (VISITOR, 403)):
        api = people(user)
        assert api.model_info(name).gated == "manual"
        assert name in [model.id for model in api.list_models(author="slipway")]
        assert "w.bin" in api.list_repo_files(name)
        for attempt in (
            lambda api=api: api.hf_hub_download(name, "w.bin", local_dir=tmp_path),
            lambda api=api: api.snapshot_download(name, local_dir=tmp_path),
            lambda api=api: api.auth_check(name),
            lambda api=api: api.get_hf_file_metadata(url=f"{api.endpoint}/{name}/resolve/main/w.bin"),
        ):
            with pytest.raises(GatedRepoError) as refused:
                attempt()
            assert refused.value.response.status_code == status
            assert refused.value.response.headers["X-Error-Code"] == "GatedRepo"
    assert has_files(people(ME), name, tmp_path)
    people(ME).auth_check(name)


def test_git_and_git_lfs_of_a_gated_model_want_somebody_who_was_let_in(people: Any, gate: Any, tmp_path: Path) -> None:
    name = gate("manual")
    people(VISITOR), people(ME).grant_access(name, VISITOR)

    def cloned(user: str) -> bool:
        login = f"user:{people(user).token}@" if user else ""
        address = people(ME).endpoint.replace("://", f"://{login}")
        command = ["git", "-c", "credential.helper=", "clone", "-q", f"{address}/{name}", str(tmp_path / f"x{user}")]
        environment = {"GIT_TERMINAL_PROMPT": "0", "PATH": "/usr/bin:/bin", "GIT_LFS_SKIP_SMUDGE": "1"}
        return subprocess.run(command, env=environment, capture_output=True, check=False, timeout=60).returncode == 0

    assert [cloned(user) for user in (NOBODY, "passer-by", VISITOR, ME)] == [False, False, True, True]
    wanted = people(ME).get_paths_info(name, ["w.bin"])[0].lfs
    batch = {"operation": "download", "objects": [{"oid": wanted.sha256, "size": wanted.size}]}
    for user, status in ((NOBODY, 401), ("passer-by", 403), (VISITOR, 200)):
        token = {"Authorization": f"Bearer {people(user).token}"} if user else {}
        address = f"{people(ME).endpoint}/{name}.git/info/lfs/objects/batch"
        assert httpx2.post(address, headers=token, json=batch).status_code == status


def test_a_request_waits_until_it_is_accepted_and_access_may_be_taken_back(
    people: Any, gate: Any, tmp_path: Path
) -> None:
    name, me, visitor = gate("manual"), people(ME), people(VISITOR)
    assert ask_for_access(visitor, name).json() == {"status": "pending"}
    waiting = list(me.list_pending_access_requests(name))
    assert [(request.username, request.status) for request in waiting] == [(VISITOR, "pending")]
    with pytest.raises(GatedRepoError, match="awaits"):
        visitor.auth_check(name)
    me.accept_access_request(name, request_id=waiting[0].request_id)
    assert list(me.list_pending_access_requests(name)) == []
    assert [request.username for request in me.list_accepted_access_requests(name)] == [VISITOR]
    assert has_files(visitor, name, tmp_path)
    me.cancel_access_request(name, VISITOR)
    assert not has_files(visitor, name, tmp_path)
    me.reject_access_request(name, VISITOR, rejection_reason="not now")
    assert ask_for_access(visitor, name).json() == {"status": "rejected"}, "asking again undoes no rejection"
    assert [request.username for request in me.list_rejected_access_requests(name)] == [VISITOR]
    with pytest.raises(GatedRepoError, match="rejected"):
        visitor.auth_check(name)


def test_auto_lets_in_whoever_asks_and_nobody_before(people: Any, gate: Any, tmp_path: Path) -> None:
    name, visitor = gate("auto"), people(VISITOR)
    assert not has_files(visitor, name, tmp_path)
    assert ask_for_access(people(NOBODY), name).status_code == 401
    assert ask_for_access(visitor, name).json() == {"status": "accepted"}
    assert has_files(visitor, name, tmp_path)
    assert not has_files(people("passer-by"), name, tmp_path)


def test_only_those_who_may_write_let_others_in(people: Any, gate: Any) -> None:
    name, visitor = gate("manual"), people(VISITOR)
    for attempt in (
        lambda: visitor.grant_access(name, VISITOR),
        lambda: list(visitor.list_pending_access_requests(name)),
        lambda: visitor.accept_access_request(name, VISITOR),
    ):
        with pytest.raises(HfHubHTTPError, match="403"):
            attempt()
    for user, status in (("nobody-here", 404), (VISITOR, None), (VISITOR, 409)):
        if status is None:
            people(ME).grant_access(name, user)
            continue
        with pytest.raises(HfHubHTTPError) as refused:
            people(ME).grant_access(name, user)
        assert refused.value.response.status_code == status
    people(ME).update_repo_settings(name, gated=False)
    with pytest.raises(HfHubHTTPError, match="not gated"):
        people(ME).grant_access(name, VISITOR)


def test_the_page_of_a_gated_dataset_says_how_to_ask_and_shows_no_rows(people: Any, gate: Any) -> None:
    name = gate("manual", "dataset")
    address = f"{people(ME).endpoint}/datasets/{name}"

    def page(user: str, path: str = "") -> httpx2.Response:
        return httpx2.get(address + path, auth=("user", str(people(user).token)) if user else None)

    terms = b"---\nextra_gated_prompt: Agree to <b> the terms\n---\n"
    people(ME).upload_file(path_or_fileobj=terms, path_in_repo="README.md", repo_id=name, repo_type="dataset")
    assert "a secret row" in page(ME).text
    for user, status, shown in ((NOBODY, 401, "Sign in"), (VISITOR, 403, "ask-access")):
        assert shown in page(user).text
        assert "a secret row" not in page(user).text
        assert "ask for access" in page(user).text
        assert "Visit " not in page(user).text, "it is the page that one would visit"
        assert "Agree to <b> the terms" not in page(user).text
        assert "Agree to &lt;b&gt; the terms" in page(user).text
        refused = page(user, "/blob/main/data.jsonl")
        assert (refused.status_code, refused.headers["X-Error-Code"]) == (status, "GatedRepo")


def test_a_visitor_asks_by_the_form_of_the_page_and_no_other_site_asks_for_them(people: Any, gate: Any) -> None:
    name = gate("manual")
    card = "---\nextra_gated_prompt: |\n  Research only.\n  No <b>resale</b>.\n---\n# Closed\n"
    people(ME).upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=name)
    address = f"{people(ME).endpoint}/{name}"
    login = {user: ("user", str(people(user).token)) for user in (VISITOR, "passer-by")}

    def page(user: str) -> str:
        return httpx2.get(address, auth=login.get(user)).text

    def proof(user: str) -> str:
        return page(user).partition('name="proof" value="')[2].partition('"')[0]

    def sent(user: str, fields: dict[str, str]) -> int:
        return httpx2.post(f"{address}/ask-access", auth=login[user], data=fields).status_code

    def waiting() -> list[str]:
        return [request.username for request in people(ME).list_pending_access_requests(name)]

    assert "Research only.\n  No &lt;b&gt;resale".replace("  No", "No") in page(NOBODY)
    assert "You can ask for access here when you have signed in" in page(NOBODY)
    assert not proof(NOBODY)
    assert [sent(VISITOR, fields) for fields in ({}, {"proof": "1-x"}, {"proof": proof("passer-by")})] == [403] * 3
    assert waiting() == []
    assert sent(VISITOR, {"proof": proof(VISITOR)}) == 303
    assert waiting() == [VISITOR]
    assert "Your request awaits its authors" in page(VISITOR)


FIELDS = """---
extra_gated_fields:
  Affiliation: text
  Date of birth: date_picker
  Country: country
  Job title:
    type: select
    options:
    - Student
    - label: Something else
      value: other
  geo: ip_location
  I accept "the terms": checkbox
---
"""
ANSWERS = {
    "Affiliation": "Shipyard & Sons",
    "Date of birth": "1990-02-28",
    "Country": "nz",
    "Job title": "other",
    'I accept "the terms"': "on",
}
KEPT = ANSWERS | {"Country": "NZ", 'I accept "the terms"': True}


def test_the_fields_of_a_card_are_asked_for_and_the_owner_reads_the_answers(people: Any, gate: Any) -> None:
    name, me = gate("manual"), people(ME)
    me.upload_file(path_or_fileobj=FIELDS.encode(), path_in_repo="README.md", repo_id=name)
    address, login = f"{me.endpoint}/{name}", ("user", str(people(VISITOR).token))
    page = httpx2.get(address, auth=login).text
    proof = page.partition('name="proof" value="')[2].partition('"')[0]
    for shown in (
        'type="date" name="field:Date of birth"',
        '<option value="other">Something else',
        "&#34;the terms&#34;",
    ):
        assert shown in page
    assert "geo" not in page.partition('class="ask"')[2].partition("</form>")[0], "where they are is asked of nobody"

    def sent(filled: dict[str, str]) -> int:
        form = {"proof": proof, **{f"field:{label}": value for label, value in filled.items()}}
        return httpx2.post(f"{address}/ask-access", auth=login, data=form).status_code

    wrong = [{"Date of birth": "1990-02-31"}, {"Country": "New Zealand"}, {"Job title": "Pirate"}, {"Affiliation": " "}]
    left_out = {label: value for label, value in ANSWERS.items() if "terms" not in label}
    assert [sent(filled) for filled in (left_out, *(ANSWERS | one for one in wrong))] == [400] * 5
    assert list(me.list_pending_access_requests(name)) == []
    assert [sent(ANSWERS), sent(ANSWERS | {"Affiliation": "Another"})] == [303, 303]
    assert [(one.username, one.fields) for one in me.list_pending_access_requests(name)] == [(VISITOR, KEPT)]


def test_a_program_answers_the_fields_of_a_card_in_json(people: Any, gate: Any) -> None:
    name, me, asking = gate("auto"), people(ME), people("program")
    me.upload_file(path_or_fileobj=FIELDS.encode(), path_in_repo="README.md", repo_id=name)
    refused = ask_for_access(asking, name)
    assert (refused.status_code, "fills in 'Affiliation'" in refused.text) == (400, True)
    token = {"Authorization": f"Bearer {asking.token}"}
    address = f"{me.endpoint}/{name}/ask-access"
    assert httpx2.post(address, headers=token, json=KEPT).json() == {"status": "accepted"}
    assert ask_for_access(asking, name).json() == {"status": "accepted"}, "who is in is asked nothing"
    assert [one.fields for one in me.list_accepted_access_requests(name)] == [KEPT]
    with pytest.raises(HfHubHTTPError, match="403"):
        list(asking.list_accepted_access_requests(name))


@pytest.mark.parametrize("kind", ["model", "dataset"])
def test_our_commands_say_that_access_must_be_asked_for_and_where(
    people: Any, gate: Any, kind: str, tmp_path: Path
) -> None:
    name = gate("manual", kind)
    page = f"{'datasets/' if kind == 'dataset' else ''}{name}"
    for who, said in ((VISITOR, "the user of this token is not among them"), (NOBODY, "nobody without a token")):
        api = people(who)
        for ask in (
            lambda api: api.hf_hub_download(name, "w.bin", repo_type=kind, cache_dir=tmp_path),
            lambda api: api.snapshot_download(name, repo_type=kind, cache_dir=tmp_path),
            lambda api: api.auth_check(name, repo_type=kind),
        ):
            with pytest.raises(HubError) as caught, translated(api.endpoint, f"read {name}", api.token):
                ask(api)
            assert said in caught.value.what
            assert "no such repository" not in caught.value.render()
            assert f"ask for access at {api.endpoint}/{page}, logged in" in str(caught.value.next_step)
