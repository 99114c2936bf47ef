"""RO-Crate 1.2: what an exported folder holds, who made it and when, as JSON-LD.

References:
    RO-Crate Metadata Specification 1.2, https://w3id.org/ro/crate/1.2
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.records.files import dumps, replace
from harness.records.folder import Record
from harness.records.version import __version__

__all__ = ["NAME", "write_crate"]

NAME = "ro-crate-metadata.json"
_VERSION = "https://w3id.org/ro/crate/1.2"
_SOFTWARE = f"#cnf-harness-{__version__}"

_KINDS = {
    ".csv": ("text/csv", "One row a trial."),
    ".parquet": ("application/vnd.apache.parquet", "One row a trial."),
    ".tex": ("application/x-tex", "Tables of results, mean and standard deviation over seeds."),
    ".json": ("application/json", "One result as the model-index of a model card."),
}
_COLUMNS = "What the columns of the tables mean."


def write_crate(
    records: Sequence[Record], files: Sequence[Path], folder: Path, license: str | None
) -> list[Path]:
    """Writes `ro-crate-metadata.json` for the files of an export.

    Arguments:
        records: What was exported.
        files: The files, inside `folder`.
        folder: The crate.
        license: Address of the licence of the results; None says that none was stated.
    """
    path = folder / NAME
    graph = [
        {
            "@id": NAME,
            "@type": "CreativeWork",
            "about": {"@id": "./"},
            "conformsTo": {"@id": _VERSION},
        },
        _root(records, files, folder, license),
        *(_file(each, folder) for each in files),
        {
            "@id": _SOFTWARE,
            "@type": "SoftwareApplication",
            "name": "cnf-harness",
            "description": "A harness that compares continuous normalizing flows.",
            # The specification demands an address; this is the one of the distribution's name.
            "url": "https://pypi.org/project/cnf-harness/",
            "version": __version__,
            "softwareVersion": __version__,
        },
        _action(records, files, folder),
        _licence(license),
    ]
    document = {"@context": f"{_VERSION}/context", "@graph": graph}
    replace(path, dumps(document, indent=1))
    return [path]


def _root(
    records: Sequence[Record], files: Sequence[Path], folder: Path, license: str | None
) -> dict[str, Any]:
    datasets = sorted({record.trial.dataset.name for record in records})
    backends = sorted({record.trial.backend for record in records})
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Results of {len(records)} trials of continuous normalizing flows",
        "description": (
            f"Likelihoods, counts of evaluations and timings of {len(records)} trials on "
            f"{', '.join(datasets)} in {', '.join(backends)}, recorded by cnf-harness."
        ),
        "datePublished": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "license": {"@id": _licence(license)["@id"]},
        "hasPart": [{"@id": _id(each, folder)} for each in files],
        "mentions": {"@id": "#trials"},
    }


def _licence(address: str | None) -> dict[str, Any]:
    if address is None:
        name, text = (
            "No licence stated",
            "Whoever exported the results stated no licence for them.",
        )
        return {"@id": "#no-licence", "@type": "CreativeWork", "name": name, "description": text}
    text = "Licence of the results, as stated by whoever exported them."
    return {"@id": address, "@type": "CreativeWork", "name": address, "description": text}


def _file(path: Path, folder: Path) -> dict[str, Any]:
    content = path.read_bytes()
    encoding, description = _KINDS[path.suffix]
    return {
        "@id": _id(path, folder),
        "@type": "File",
        "name": path.name,
        "description": _COLUMNS if path.name == "columns.csv" else description,
        "encodingFormat": encoding,
        "contentSize": str(len(content)),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _action(records: Sequence[Record], files: Sequence[Path], folder: Path) -> dict[str, Any]:
    """What made the results, until when."""
    last = max(int(record.result["finished_ms"]) for record in records)
    ended = datetime.datetime.fromtimestamp(last / 1000, datetime.UTC)
    return {
        "@id": "#trials",
        "@type": "CreateAction",
        "name": f"Training and testing of {len(records)} trials",
        "description": "Every trial is in the files by its id, with its whole specification.",
        "instrument": {"@id": _SOFTWARE},
        "endTime": ended.isoformat(timespec="seconds"),
        "result": [{"@id": _id(each, folder)} for each in files],
    }


def _id(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()
