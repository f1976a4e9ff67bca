"""Gates on text that must not leave the machine: secrets, personal data, paths."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

from model_cards.facts import PLACES
from model_cards.signer import told
from release.gates.candidate import Candidate, passed, refused
from release.gates.texts import VOCABULARIES, lines, quoted, vocabulary_lines
from release.records import Verdict
from training.counted import counted

# What Yelp's detect-secrets, in the fork that is kept up, has no detector for.
SECRETS = {
    "Hub token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "GitHub token": re.compile(r"\bgithub_pat_\w{60,}"),
    "API key": re.compile(r"\bsk-(?:proj-|ant-)?[A-Za-z0-9_-]{32,}"),
    "Google API key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "GitLab token": re.compile(r"\bgl(?:pat|dt|rt|ptt|cbt|soat)-[A-Za-z0-9_-]{20,}"),
    "W&B key": re.compile(
        r"(?i:\bwandb(?:[\w.-]*key)?\b[\"']?(?:\s*[:=]\s*|\s+login\s+)[\"']?)[0-9a-f]{40}\b|\bwandb_v\d_\w{60,}"
    ),
}
# A name and what it is set to, of letters and digits: a password is seldom a word, and a placeholder seldom has a digit.
# detect-secrets' detector of keywords is not asked, for `token` is one of them: half of a tokenizer's settings are found.
ASSIGNED = re.compile(
    r"(?i)(?<![a-z])(?:password|passwd|passphrase|secret(?:[_-]?access)?[_-]?key|api[_-]?key|auth[_-]?token|client[_-]?secret)"
    r"[\"']?\s*[:=]\s*[\"']?(?=[^\s\"']*\d)(?=[^\s\"']*[a-z])[^\s\"'<>{}()$*,;]{8,}"
)
PLACEHOLDER = re.compile(r"(?i)example|your|xxx|abc-?123|dummy|changeme|\.\.\.|env|none|null")
PASSWORD = "password or key by its name"
REMOVE = "remove it from the run's files (of a --checkpoint: from its directory, or --leave-out FILE)"
WORDS_IN_CAPITALS = "ArtifactoryDetector"  # it takes APACHELICENSE for a credential
# Of one part more than the places, for /tmp/cache and /data/train are everybody's.
LOCAL_PATHS = re.compile(rf"(?<![\w/.:])(?:/(?:{PLACES})/[\w.-]+|/root)/[\w./-]+|\b[A-Z]:\\+Users\\+[\w.-]+")
EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]+@(?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,}\b")
NO_ONES_MAIL = re.compile(
    r"@(?:[\w.-]+\.)?(?:example\.(?:com|org|net)|[\w-]+\.(?:example|invalid|test))$", re.IGNORECASE
)
# Not within letters: a digest has runs of digits that pass for a card.
CARD = re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?![\w.])")
IBAN = re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")


def no_secrets(candidate: Candidate) -> Verdict:
    """No token, key, password or private key in any text file, picture or header of weights.

    What was found is named by kind and line, never shown.
    """
    gate = "no_secrets"
    found = [
        {"file": name, "line": number, "kind": kind}
        for name, number, line in lines(candidate)
        for kind in dict.fromkeys(chain(_secrets(line), _passwords(name, line)))
    ]
    # The scanner's detectors take a minute for a vocabulary, and its pieces of words for what they look for.
    found += [
        {"file": name, "line": number, "kind": kind}
        for name, number, line in vocabulary_lines(candidate)
        for kind in _tokens(line)
    ]
    kinds = sorted({*SECRETS, PASSWORD, *(str(detector.secret_type) for detector in _detectors())})
    if found:
        first = found[0]
        return refused(
            gate,
            f"{counted(len(found), 'secret')} in the files; first: a {first['kind']} in {first['file']}, line {first['line']}",
            remedy=f"{REMOVE}, revoke it where it was issued, then plan again",
            found=found[:50],
        )
    return passed(gate, f"none of {len(kinds)} kinds of secrets in the text files", kinds=kinds)


def no_personal_data(candidate: Candidate) -> Verdict:
    """No e-mail address, phone number, payment card or bank account in what is written about the model.

    Prompts and answers of the evaluation are counted and not refused: they are public items and the model's words. The
    address of whoever signs the release is public by the signature.
    """
    gate = "no_personal_data"
    found: list[dict[str, Any]] = []
    in_samples: Counter[str] = Counter()
    public = frozenset(EMAIL.findall(told(candidate.signer))) if candidate.signer else frozenset()
    for name, number, line in lines(candidate):
        for kind in _personal(line, public):
            if quoted(name):
                in_samples[kind] += 1
            else:
                found.append({"file": name, "line": number, "kind": kind})
    evidence = {"in_samples": dict(sorted(in_samples.items()))}
    if found:
        first = found[0]
        return refused(
            gate,
            f"{counted(len(found), 'piece')} of personal data; first: a {first['kind']} in {first['file']}, line {first['line']}",
            remedy=f"{REMOVE}, then plan again; of an address that is meant to be public say so: "
            "--waive no_personal_data=REASON",
            found=found[:50],
            **evidence,
        )
    said = ", ".join(f"{count} of a {kind}" for kind, count in sorted(in_samples.items()))
    return passed(gate, f"none in the words about the model{f'; in samples: {said}' if said else ''}", **evidence)


def no_local_paths(candidate: Candidate) -> Verdict:
    """No path of this machine, and none into places where people keep files, in what would be read by strangers."""
    gate = "no_local_paths"
    own = {str(path) for path in (Path.home(), Path.cwd(), candidate.run.resolve()) if len(path.parts) > 1}
    found = []
    for name, number, line in chain(lines(candidate), vocabulary_lines(candidate)):
        match = next(
            (path for path in sorted(own, key=len, reverse=True) if re.search(re.escape(path) + r"(?!\w)", line)), None
        )
        if match is None and not (quoted(name) or name.startswith(VOCABULARIES)) and (home := LOCAL_PATHS.search(line)):
            match = home.group()
        if match is not None:
            found.append({"file": name, "line": number, "path": match})
    if found:
        first = found[0]
        return refused(
            gate,
            f"{counted(len(found), 'line')} with paths of a machine, as {first['path']} in {first['file']}, line {first['line']}",
            remedy="run the commands with relative paths, so that the records do too, then plan again; of a --checkpoint: take it "
            "out of its files, or --leave-out FILE; where it is meant to be read: --waive no_local_paths=REASON",
            found=found[:50],
        )
    return passed(gate, "no path of this machine in the text files")


def _tokens(line: str) -> Iterator[str]:
    yield from (kind for kind, pattern in SECRETS.items() if pattern.search(line))


def _secrets(line: str) -> Iterator[str]:
    yield from _tokens(line)
    yield from (detector.secret_type for detector in _detectors() if next(iter(detector.analyze_string(line)), None))


def _passwords(name: str, line: str) -> Iterator[str]:
    """Of settings, not of prose: cards show how a key is set, and samples say whatever they like."""
    if quoted(name) or name.casefold().endswith(".md"):
        return
    yield from (PASSWORD for found in ASSIGNED.finditer(line) if not PLACEHOLDER.search(found.group()))


@cache
def _detectors() -> list[Any]:
    """The scanner's detectors of secrets by their form; those by entropy or by words beside them see one in any hash."""
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class
    from detect_secrets.plugins.base import RegexBasedDetector

    kinds = get_mapping_from_secret_type_to_class().values()
    return [kind() for kind in kinds if issubclass(kind, RegexBasedDetector) and kind.__name__ != WORDS_IN_CAPITALS]


def _personal(line: str, public: frozenset[str]) -> Iterator[str]:
    from phonenumbers import PhoneNumberMatcher

    addresses = (found for found in EMAIL.findall(line) if found not in public)
    yield from ("e-mail address" for found in addresses if not NO_ONES_MAIL.search(found))
    yield from ("payment card" for found in CARD.findall(line) if _luhn(found))
    yield from ("bank account" for found in IBAN.findall(line) if _mod_97(found))
    if "+" in line:  # without a country code any row of digits could be one
        yield from ("phone number" for _ in PhoneNumberMatcher(line, None))


def _luhn(text: str) -> bool:
    """The check digit of payment cards (ISO/IEC 7812-1, annex B), on numbers that begin as issuers' do."""
    digits = [int(one) for one in text if one.isdigit()]
    doubled = [digit if place % 2 == 0 else digit * 2 - 9 * (digit > 4) for place, digit in enumerate(reversed(digits))]
    return digits[0] in (2, 3, 4, 5, 6) and sum(doubled) % 10 == 0


def _mod_97(text: str) -> bool:
    """The check digits of an IBAN (ISO 13616)."""
    letters = text.replace(" ", "")
    return int("".join(str(int(one, 36)) for one in letters[4:] + letters[:4])) % 97 == 1
