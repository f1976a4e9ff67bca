"""The pages for people: what they show, and what they can never run or load."""

from __future__ import annotations

import base64
import html
import io
import re
from pathlib import Path

import pytest
from elements import Elements
from huggingface_hub import CommitOperationAdd

from release.local_hub.pages.format import count, size

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

HOSTILE = """---
license: mit
tags: ["<script>alert(1)</script>"]
---
# Demo & <script>alert(1)</script>

<img src="plots/loss%20one.png" onerror=alert(1)> [click](javascript:alert(1)) ![plot](./plots/loss%20one.png)
![tracker](https://example.com/pixel.png) [recipe](recipe.yaml) [paper](https://arxiv.org/abs/2203.02155)

| task | score |
|---|---:|
| mc2 | 0.47 |
"""
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def demo(api):
    """A model with a hostile card, a release, a pull request; a data set and a Space."""
    api.create_repo("slipway/demo")
    files = {
        "README.md": HOSTILE.encode(),
        "recipe.yaml": b"steps: 1\n",
        "sub/deep file.txt": b"x < y\n",
        "page.html": b"<script>alert(1)</script>",
        "drawing.svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    }
    operations = [CommitOperationAdd(path, content) for path, content in files.items()]
    operations.append(CommitOperationAdd("plots/loss one.png", io.BytesIO(PIXEL)))
    operations.append(CommitOperationAdd("model.safetensors", io.BytesIO(b"\0not really")))
    api.create_commit("slipway/demo", operations, commit_message="First <b>commit</b>")
    api.create_tag("slipway/demo", tag="v1.0")
    changed = [CommitOperationAdd("recipe.yaml", b"steps: 2\n")]
    api.create_commit("slipway/demo", changed, commit_message="More steps")
    api.create_commit("slipway/demo", [CommitOperationAdd("z", b"1\n")], commit_message="Propose z", create_pr=True)
    api.create_repo("slipway/data", repo_type="dataset")
    rows = [CommitOperationAdd("train.jsonl", b'{"prompt": "<i>hello</i>", "n": [1, 2]}\n')]
    api.create_commit("slipway/data", rows, commit_message="rows", repo_type="dataset")
    api.create_repo("slipway/chat", repo_type="space", space_sdk="gradio")
    return api.model_info("slipway/demo").sha


def addresses(sha: str) -> dict[str, str]:
    """Every page, with something that it must show."""
    return {
        "/": "slipway/</span>demo",
        "/models": "slipway/</span>demo",
        "/datasets": "slipway/</span>data",
        "/spaces": "Chat",
        "/slipway": "slipway/</span>demo",
        "/collections": "no collections that you may see",
        "/?search=dem": "slipway/</span>demo",
        "/slipway/demo": "Demo &amp; </h1>",
        "/SLIPWAY/demo": "slipway",
        "/slipway/demo/tree/main": "model.safetensors",
        "/slipway/demo/tree/v1.0/sub": "deep file.txt",
        "/slipway/demo/tree/refs%2Fpr%2F1": ">z</a>",
        "/slipway/demo/blob/main/sub/deep%20file.txt": "x &lt; y",
        "/slipway/demo/blob/main/model.safetensors": "This file is not text",
        "/slipway/demo/blob/main/drawing.svg": "<img",
        "/slipway/demo/blob/main/README.md": "<table>",
        "/slipway/demo/commits/main": "First &lt;b&gt;commit&lt;/b&gt;",
        f"/slipway/demo/commit/{sha}": "+steps: 2",
        "/slipway/demo/discussions": "Propose z",
        "/slipway/demo/discussions/1": "pull request, open",
        "/datasets/slipway/data": "&lt;i&gt;hello&lt;/i&gt;",
        "/spaces/slipway/chat": "does not run it",
        "/icon.svg": "<svg",
    }


def test_every_page_shows_its_repository_and_can_run_nothing(ask, demo):
    for address, expected in addresses(demo).items():
        answer = ask("GET", address)
        page = answer.body.decode()
        assert (address, answer.status) == (address, 200)
        assert expected in page, address
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        elements = Elements(page)
        assert elements.open == [], address
        for tag, attributes in elements.found:
            assert tag not in {"script", "iframe", "object", "embed", "base"}, address
            assert not [name for name in attributes if name.startswith("on") or name == "style"], (address, tag)
            for name in ("src", "href", "action"):
                assert not (attributes.get(name) or "").lower().startswith(("javascript:", "data:")), address
            if tag == "img":
                assert (attributes["src"] or "").startswith("/"), "images come from this Hub only"
        assert ask("HEAD", address).status == 200


def test_every_link_of_every_page_leads_somewhere(ask, demo):
    seen: set[str] = set()
    waiting = ["/"]
    while waiting:
        address = waiting.pop()
        seen.add(address)
        answer = ask("GET", address)
        assert (address, answer.status) == (address, 200)
        if "text/html" in answer.headers["content-type"]:
            links = {
                attributes.get("href") or "" for tag, attributes in Elements(answer.body.decode()).found if tag == "a"
            }
            local = {link.partition("#")[0] for link in links if link.startswith("/") and not link.startswith("/login")}
            waiting += sorted(local - seen - set(waiting))
    assert len(seen) > 40


def test_a_cards_images_and_links_lead_into_the_repository(ask, demo):
    page = ask("GET", "/slipway/demo").body.decode()
    assert 'src="/slipway/demo/resolve/main/plots/loss%20one.png"' in page
    assert 'href="/slipway/demo/blob/main/recipe.yaml"' in page
    assert 'src="https://example.com' not in page
    assert "[tracker: https://example.com/pixel.png]" in page
    assert 'rel="nofollow noopener noreferrer"' in page


@pytest.mark.parametrize("name", ["page.html", "drawing.svg", "README.md", "model.safetensors"])
def test_a_repositorys_files_cannot_act_in_the_hubs_name(ask, demo, name):
    answer = ask("GET", f"/slipway/demo/resolve/main/{name}")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "html" not in answer.headers["content-type"]
    attached = ask("GET", f"/slipway/demo/resolve/main/{name}?download=1").headers["content-disposition"]
    assert attached.startswith("attachment; filename*=UTF-8''")


def test_private_repositories_have_no_pages_for_others(api, ask, demo, token, hub):
    api.update_repo_settings("slipway/demo", private=True)
    stranger = hub.store.create_user("stranger")
    about_demo = [address for address in addresses(demo) if "demo" in address.lower() and "search" not in address]
    for address in about_demo:
        answer, missing = ask("GET", address), ask("GET", re.sub("(?i)demo", "nope", address))
        assert (address, answer.status, missing.status) == (address, 401, 401)
        assert b"steps" not in answer.body
        assert ask("GET", address, stranger).status == 404
        assert ask("GET", address, token).status == 200
    for address in ("/", "/models", "/slipway", "/?search=demo"):
        assert b"/slipway/demo" not in ask("GET", address).body
        assert b"/slipway/demo" in ask("GET", address, token).body


def test_signing_in_asks_the_browser_and_returns_only_to_this_hub(ask, token):
    asked = ask("GET", "/login?next=/slipway/demo")
    assert (asked.status, asked.headers["www-authenticate"][:5]) == (401, "Basic")
    assert ask("GET", "/login?next=/slipway/demo", token).headers["location"] == "/slipway/demo"
    for foreign in ("https://example.com", "//example.com", "/\\example.com"):
        assert ask("GET", f"/login?next={foreign}", token).headers["location"] == "/"


def test_a_person_gets_a_page_and_a_program_gets_json_for_what_is_not_there(ask, demo):
    browser = {"Accept": "text/html"}
    for address in ("/slipway/demo/tree/v9", "/slipway/demo/blob/main/nope", "/nobody", "/slipway/demo/discussions/9"):
        answer = ask("GET", address, headers=browser)
        assert (address, answer.status) == (address, 404)
        assert b"<!doctype html>" in answer.body
    assert ask("GET", "/a/b/c/d/e", headers=browser).body.startswith(b"<!doctype html>")
    assert ask("GET", "/a/b/c/d/e").json()["error"]


def test_use_it_says_what_works_with_the_files_that_are_there(hub, ask, api):
    def snippet(name: str, files: dict[str, bytes], kind: str = "model", sdk: str | None = None) -> str:
        api.create_repo(f"slipway/{name}", repo_type=kind, space_sdk=sdk)
        added = [CommitOperationAdd(path, content) for path, content in files.items()]
        api.create_commit(f"slipway/{name}", added, commit_message="files", repo_type=kind)
        page = ask("GET", f"/{'spaces/' if kind == 'space' else ''}slipway/{name}").body.decode()
        return " ".join(html.unescape(page.partition("<h2>Use it</h2>")[2]).replace("\\\n", "").split())

    ggufs = {"m-F16.gguf": b"\0" * 9, "m-Q8_0.gguf": b"\0" * 5}
    served = snippet("quantised", ggufs)
    assert f"export HF_ENDPOINT={hub.endpoint}" in served
    assert "hf download slipway/quantised m-Q8_0.gguf --local-dir . llama-server -m m-Q8_0.gguf" in served
    assert "pipeline(" not in served
    assert "AutoPeftModelForCausalLM" in snippet("adapter", {"adapter_config.json": b"{}"})
    assert "pipeline(" in snippet("whole", {"config.json": b"{}"})
    opened = snippet("board", {"index.html": b"<p>"}, "space", "static")
    assert "python -m http.server --directory app 8000 # http://127.0.0.1:8000/" in opened
    assert "python app/" not in opened
    assert "python app/app.py" in snippet("chat", {"app.py": b""}, "space", "gradio")


def test_a_pull_requests_page_shows_its_state_and_what_it_changes(ask, api):
    api.create_repo("slipway/changed")
    first = [CommitOperationAdd("a.txt", b"one\ntwo\n"), CommitOperationAdd("w.bin", io.BytesIO(b"\0"))]
    api.create_commit("slipway/changed", first, commit_message="first")
    then = [CommitOperationAdd("a.txt", b"one\nthree\n"), CommitOperationAdd("w.bin", io.BytesIO(b"\0\0"))]
    number = api.create_commit("slipway/changed", then, commit_message="Propose", create_pr=True).pr_num

    def page() -> str:
        return ask("GET", f"/slipway/changed/discussions/{number}").body.decode()

    assert "pull request, open" in page()
    api.merge_pull_request("slipway/changed", number)
    merged = page()
    assert "pull request, merged" in merged
    assert "2 changed files" in merged
    assert '<span class="minus">-two</span><span class="plus">+three</span>' in merged
    assert "1 B → 2 B" in merged
    api.update_repo_settings("slipway/changed", gated="manual")
    assert "three" not in page()
    assert "a.txt" in page()


def test_odd_metadata_does_not_break_a_page(hub, ask, tmp_path):
    odd = "license: {a: 1}\nbase_model: [1, {b: 2}]\ntitle: [x]\nconfigs: {a: 1}\nmodel-index: [1, {results: [{metrics: 3}]}]\n"
    for kind in ("models", "datasets", "spaces"):
        folder = tmp_path / "mirror" / kind / "odd" / "odd"
        folder.mkdir(parents=True)
        (folder / "README.md").write_text(f"---\n{odd}---\n# Odd\n")
        (folder / "config.json").write_text('{"model_type": 3, "architectures": {"x": 1}}')
        (folder / "x.safetensors").write_bytes(b"\xff" * 100)
        (folder / "x.jsonl").write_text("[1]\n{broken\n")
    hub.store.import_folder(tmp_path / "mirror")
    for prefix in ("", "/datasets", "/spaces"):
        assert ask("GET", f"{prefix}/odd/odd").status == 200
        assert ask("GET", f"/api{prefix or '/models'}/odd/odd?blobs=true").status == 200
    assert ask("GET", "/").status == 200


def test_numbers_are_written_for_people():
    assert [size(number) for number in (0, 999, 1601, 98_000_000, 4_200_000_000)] == [
        "0 B",
        "999 B",
        "1.6 kB",
        "98 MB",
        "4.2 GB",
    ]
    assert [count(number) for number in (3, 134_515_008, 7_000_000_000)] == ["3", "135M", "7B"]


@pytest.mark.skipif(not CHROMIUM.exists(), reason="needs the distribution's Chromium at /usr/bin/chromium")
def test_pages_fit_a_phone_and_load_without_a_complaint(hub, demo):
    playwright = pytest.importorskip("playwright.sync_api")
    switches = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
    switches += ["--disable-component-update", "--disable-sync"]
    complaints: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=str(CHROMIUM), args=switches)
        page = browser.new_page(viewport={"width": 360, "height": 740})
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        for address in addresses(demo).keys() - {"/icon.svg"}:
            page.goto(hub.endpoint + address)
            width = page.evaluate("document.documentElement.scrollWidth")
            assert (address, width <= 360) == (address, True)
        browser.close()
    assert complaints == []
