"""A gate on the files' names: what is downloaded on another system must be what was checked here."""

from __future__ import annotations

from release.file_names import lookalikes, name_problem, shown
from release.gates.candidate import Candidate, passed, refused
from release.records import Verdict

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
