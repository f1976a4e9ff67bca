"""Gates on the files: what is downloaded on another system must be what was checked here, and all of it was read."""

from __future__ import annotations

from pathlib import Path

from release.file_names import lookalikes, name_problem, shown
from release.gates.candidate import Candidate, passed, refused
from release.readable import why_unread
from release.records import Verdict
from training.checkpoint import changes_behaviour

NAMED = 3  # how many faults an explanation carries


def file_names_portable(candidate: Candidate) -> Verdict:
    """No two files become one where case is ignored, none is shown as something else, and every system can hold each."""
    gate, paths = "file_names_portable", [entry.path for entry in candidate.files]
    wrong = [f"{shown(path)}: {problem}" for path in paths if (problem := name_problem(path)) is not None]
    wrong += [
        f"{shown(one)} and {shown(other)} are one where case and the form of accents are ignored, as on macOS and Windows"
        for one, other in lookalikes(paths)
    ]
    if wrong:
        rest = f"; and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        return refused(
            gate,
            "; ".join(wrong[:NAMED]) + rest,
            remedy="rename or delete these files in the checkpoint: readers elsewhere would get another file, or none",
            wrong=wrong[:50],
            files=len(paths),
        )
    return passed(gate, f"{len(paths)} names that are the same files on every system", files=len(paths))


def files_readable(candidate: Candidate) -> Verdict:
    """Every file but weights and vocabularies, which are loaded, is text or a picture, which gates read.

    Of a directory that is only looked at the others are noted: a release of it leaves them out.
    """
    gate = "files_readable"
    beside = [entry.path for entry in candidate.files if not _is_loaded(entry.path)]
    unread = {path: why for path in beside if (why := why_unread(path, candidate.bundle / path)) is not None}
    told = "; ".join(f"{shown(path)}: {why}" for path, why in list(unread.items())[:NAMED])
    told += f"; and {len(unread) - NAMED} more" if len(unread) > NAMED else ""
    if unread and not candidate.only_looked_at:
        return refused(
            gate,
            told,
            remedy="take it out of the run's checkpoint/, or let it be read: unpack archives, write texts in UTF-8, weights as "
            "the model's own safetensors; where it is meant to be released: --waive files_readable=REASON",
            unread=unread,
        )
    if unread:
        return passed(gate, f"noted: {told}; `release publish --checkpoint` leaves it out", unread=unread)
    return passed(gate, f"{len(beside)} texts and pictures beside weights and vocabularies", unread={})


def _is_loaded(path: str) -> bool:
    """Whether it is one of the model's own binaries."""
    return "/" not in path and path.endswith((".safetensors", ".model")) and changes_behaviour(Path(path))
