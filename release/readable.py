"""Which files of a release some gate can read: texts, pictures, and weights that were loaded; and which of them run code.

why_unread("notes.txt.gz", file)     # "binary, so no gate can read it"
runs_code("scaler.joblib", file)     # True: a pickle, whatever its name
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path

from release.text_file import encoding_of
from training.checkpoint import PICKLED_SUFFIXES, read_safetensors_header
from training.errors import UsageError

OTHER_WEIGHTS = (".safetensors", ".gguf", ".onnx", ".tflite", ".ot", ".mlmodel", ".npz")
VOCABULARIES = (".model", ".spm")  # of SentencePiece, by names that no digest has: spm.model, source.spm
# By their first bytes: PNG, JPEG, GIF, WebP (in RIFF), ICO. SVG is text.
PICTURES = re.compile(
    rb"\x89PNG\r\n\x1a\n|\xff\xd8\xff|GIF8[79]a|RIFF.{4}WEBP|\x00\x00\x01\x00[\x01-\xff]\x00", re.DOTALL
)
HDF5 = b"\x89HDF\r\n\x1a\n"  # Keras models keep code in it
HEAD = 16 << 20  # bytes that are looked at: an opcode may ask for gigabytes
IMPORTS = ("GLOBAL", "INST")  # of pickles in letters
NAME = re.compile(r"[\w.]+ [\w.]+")  # what they import: a module and a name
STRINGS = re.compile(rb"[\x20-\x7e]{12,}")  # shorter ones stand in any compressed picture


def runs_code(path: str, file: Path) -> bool:
    """Whether reading it as what it is can run code: pickles by name and by content, archives and arrays that hold some."""
    if path.casefold().endswith(PICKLED_SUFFIXES):
        return True
    if file.name.endswith(".safetensors") and _is_whole(file):
        return False
    with file.open("rb") as opened:
        head = opened.read(512)
    if head.startswith(b"\x93NUMPY"):
        return re.search(rb"'descr':[^}]*O", head) is not None
    if head.startswith(b"PK\3\4"):
        return _holds_pickles(file)
    return head.startswith(HDF5) or _is_pickle(file)


def why_unread(path: str, file: Path) -> str | None:
    """Why no gate can read a file that is not of the model; None where one can."""
    if path.casefold().endswith(OTHER_WEIGHTS):
        return "weights that nothing here compared with the model"
    if encoding_of(file) is not None or is_picture(file):
        return None
    if path.casefold().endswith(VOCABULARIES):
        return "a vocabulary that the digest does not cover: save_pretrained of the tokenizer writes tokenizer.json"
    return "binary, so no gate can read it"


def is_picture(file: Path) -> bool:
    with file.open("rb") as opened:
        return PICTURES.match(opened.read(16)) is not None


def strings(file: Path) -> Iterator[str]:
    """Runs of letters in a binary file, as `strings` of binutils gives them: what a camera or a program wrote into a picture."""
    yield from (found.decode("ascii") for found in STRINGS.findall(file.read_bytes()))


def _holds_pickles(file: Path) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.casefold().endswith(PICKLED_SUFFIXES) for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, NotImplementedError):
        return False  # what cannot be opened is read by nobody, gates included


def _is_whole(file: Path) -> bool:
    try:
        read_safetensors_header(file)
    except UsageError:
        return False
    return True


def _is_pickle(file: Path) -> bool:
    """Whether it begins with a protocol's mark, which no text does, or parses to its end and imports something, as pickles of
    protocols 0 and 1 do, which are letters."""
    with file.open("rb") as opened:
        head = opened.read(HEAD)
    marked = imports = False
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(head)):
            marked = marked or (count == 0 and opcode.name == "PROTO")
            if marked and count > 0:
                return True
            imports = imports or (opcode.name in IMPORTS and NAME.fullmatch(str(argument)) is not None)
    except Exception:  # noqa: BLE001 - texts fail in many ways, mostly at their first letter
        return imports and len(head) == HEAD  # what was cut there could have gone on
    return imports
