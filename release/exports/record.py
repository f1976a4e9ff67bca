"""export.json: which GGUF files were made of which checkpoint, and what each of them loses against it."""

from __future__ import annotations

from release.exports.parity import Loss
from training.checkpoint import FileEntry
from training.records import Record

EXPORT = "export.json"
RECEIPT = "export-receipt.json"


class ExportedFile(Record):
    """A GGUF file that passed its bound. `tensors` counts them by type; `sha256` is of its bytes, in hex."""

    path: str
    size: int
    sha256: str
    precision: str
    tensors: dict[str, int]
    loss: Loss


class ExportRecord(Record):
    """Every file of an export directory. `prompts_digest` and `packages` say what the losses were measured with."""

    schema_version: int = 1
    name: str
    checkpoint_digest: str
    base_model: str | None
    base_revision: str | None
    license: str | None
    reference: str
    prompts_digest: str
    files: list[ExportedFile]
    packages: dict[str, str]
    created: str

    def file(self, precision: str) -> ExportedFile | None:
        return next((file for file in self.files if file.precision == precision), None)


class ExportReceipt(Record):
    """What stands on the Hub of an export: the repository, its commit, and every file by its hash."""

    schema_version: int = 1
    endpoint: str
    repo_id: str
    commit: str
    export_digest: str
    files: list[FileEntry]
    created: str
