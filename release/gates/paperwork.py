"""Gates on the words around the weights: the card, the licence, and text that must not leave the machine."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from release.gates.candidate import Candidate, passed, refused
from release.records import Verdict

TEXT_SUFFIXES = (".md", ".json", ".jsonl", ".txt", ".jinja", ".yaml", ".yml", ".py", ".csv", ".html", ".svg", ".cfg")
# Vocabularies hold whatever the tokenizer was trained on, which is not ours.
VOCABULARIES = ("tokenizer.json", "vocab.json", "merges.txt", "added_tokens.json", "vocab.txt")
SECRETS = {
    "Hub token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "AWS access key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "AWS secret key": re.compile(r"aws_secret_access_key\W{1,5}[A-Za-z0-9/+]{40}", re.IGNORECASE),
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "GitHub token": re.compile(r"\b(?:ghp|gho|ghs|ghu)_[A-Za-z0-9]{36}\b|\bgithub_pat_\w{60,}"),
    "API key": re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}"),
    "Slack token": re.compile(r"\bxox[abpr]-[A-Za-z0-9-]{20,}"),
    "Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
}
HOME_PATHS = re.compile(r"(?<![\w/.:])(?:/home/[\w.-]+|/Users/[\w.-]+|/root)/[\w./-]+|\b[A-Z]:\\+Users\\+[\w.-]+")


def card_complete(candidate: Candidate) -> Verdict:
    """The card could be rendered, and its metadata, sections, links and every figure are as the records have them."""
    from model_cards.check import check_card

    gate, error = "card_complete", candidate.card_error
    if error is not None:
        return refused(
            gate,
            f"no card could be rendered: {error.what}",
            remedy=error.next_step or "mend what it names, then plan again",
            **error.as_dict(),
        )
    problems = [problem.as_dict() for problem in check_card(candidate.bundle / "README.md")]
    if problems:
        first = problems[0]
        return refused(
            gate,
            f"{len(problems)} thing(s) wrong with the card; first: {first['what']} ({first['where']})",
            remedy=f"python -m model_cards check {candidate.run.as_posix()} lists them",
            problems=problems,
        )
    return passed(gate, "every figure as in the records; metadata, sections and links complete")


def license_present(candidate: Candidate) -> Verdict:
    """The card's metadata names a licence in the key that the Hub reads."""
    gate = "license_present"
    metadata = front_matter(candidate.bundle / "README.md") if candidate.has("README.md") else {}
    record = candidate.run_record
    parents = {parent.name: parent.license for parent in record.parents} if record else {}
    license = metadata.get("license")
    if not isinstance(license, str) or license.lower() in ("", "unknown", "license"):
        misspelt = f" (it has {metadata['licence']!r} as `licence`)" if "licence" in metadata else ""
        return refused(
            gate,
            f"the card's metadata names no license{misspelt}",
            remedy="name the parent's licence when the base is made: python -m training base SOURCE --license ID --out runs/base",
            license=license,
            parents=parents,
        )
    if license == "other" and not (metadata.get("license_name") and metadata.get("license_link")):
        return refused(
            gate,
            "license: other needs license_name and license_link",
            remedy="add both to the card's metadata",
            license=license,
            parents=parents,
        )
    return passed(gate, f"license: {license}", license=license, parents=parents)


def front_matter(path: Path) -> dict[str, Any]:
    """The YAML block at the top of a card; empty where there is none. Raises ValueError where it is not YAML."""
    text = path.read_text(encoding="utf-8")
    block = re.match(r"---\s*\n(.*?)\n---\s*(?:\n|$)", text, re.DOTALL)
    try:
        value = yaml.safe_load(block.group(1)) if block else {}
    except yaml.YAMLError as error:
        raise ValueError(f"the card's metadata is not YAML: {error}") from error
    return value if isinstance(value, dict) else {}


def no_secrets(candidate: Candidate) -> Verdict:
    """No token, key or private key in any text file. What was found is named by kind and line, never shown."""
    gate = "no_secrets"
    found = [
        {"file": name, "line": number, "kind": kind}
        for name, number, line in _lines(candidate)
        for kind, pattern in SECRETS.items()
        if pattern.search(line)
    ]
    if found:
        first = found[0]
        return refused(
            gate,
            f"{len(found)} secret(s) in the files; first: a {first['kind']} in {first['file']}, line {first['line']}",
            remedy="remove it from the run's files, revoke it where it was issued, then plan again",
            found=found[:50],
        )
    return passed(gate, f"none of {len(SECRETS)} kinds of secrets in the text files", kinds=list(SECRETS))


def no_local_paths(candidate: Candidate) -> Verdict:
    """No path of this machine, and no home directory, in what would be read by strangers."""
    gate = "no_local_paths"
    own = {str(path) for path in (Path.home(), Path.cwd(), candidate.run.resolve()) if len(path.parts) > 1}
    found = []
    for name, number, line in _lines(candidate):
        match = next(
            (path for path in sorted(own, key=len, reverse=True) if re.search(re.escape(path) + r"(?!\w)", line)), None
        )
        quoted = name.startswith(("samples/", "baseline/samples/"))  # prompts may speak of any path
        if match is None and not quoted and (home := HOME_PATHS.search(line)):
            match = home.group()
        if match is not None:
            found.append({"file": name, "line": number, "path": match})
    if found:
        first = found[0]
        return refused(
            gate,
            f"{len(found)} line(s) name paths of a machine; first: {first['path']} in {first['file']}, line {first['line']}",
            remedy="run the commands with relative paths, so that the records do too, then plan again",
            found=found[:50],
        )
    return passed(gate, "no path of this machine in the text files")


def _lines(candidate: Candidate) -> Iterator[tuple[str, int, str]]:
    """Path, line number from 1, and line, of every text file that people wrote or we wrote."""
    for entry in candidate.files:
        if entry.path.endswith(TEXT_SUFFIXES) and entry.path not in VOCABULARIES:
            with (candidate.bundle / entry.path).open(encoding="utf-8", errors="replace") as file:
                for number, line in enumerate(file, start=1):
                    yield entry.path, number, line
