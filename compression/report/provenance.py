"""Where a run comes from and what was requested: enough to judge it, and to run it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from compression import methods
from compression.commands import line
from compression.errors import CompressionError
from compression.plots import words
from compression.reading import Text, read_object, typed
from compression.runs import names, summary
from compression.runs.files import sha256
from compression.runs.folder import RunFolder

BUDGET = "budget.json"
_USUAL = (None, "", 0, "auto")
_TRAINING = ("epochs", "batch_size", "optimizer", "lr", "lr_schedule", "weight_decay", "precision")


def budget(folder: RunFolder) -> dict[str, Any]:
    """What was requested: in the method's words, every ask and option and how it was trained, and the file."""
    requested = names.shared(folder.budget())
    method = methods.get(requested.method)
    values = requested.to_dict()
    rows: list[tuple[str, Any]] = [("method", method.info.label), ("model", requested.model), ("data", requested.data)]
    asks = {name: value for name, value in values["asks"].items() if name in method.values(requested)}
    rows += summary.flat(asks) + summary.flat(values["options"])
    rows += [(name, values[name]) for name in _TRAINING if values.get(name) not in _USUAL and method.trains(requested)]
    rows += [(f"bounded {group}", len(values[group])) for group in ("groups", "layers") if values.get(group)]
    return {
        "sentence": method.describe(requested),
        "rows": [
            (name.replace("_", " ").replace(".", ": "), _text(value)) for name, value in rows if value not in (None, "")
        ],
        "file": json.dumps(values, indent=2),
        "name": BUDGET,
    }


class _Weights(TypedDict):
    file: NotRequired[Text]
    sha256: NotRequired[Text]
    command: NotRequired[Text]


class _Record(TypedDict):
    """What a run of the gallery says of its origin, as far as it is shown."""

    weights: NotRequired[_Weights]
    commit: NotRequired[Text]
    command: NotRequired[Text]
    processor: NotRequired[Text]


_RECORD: TypeAdapter[Any] = TypeAdapter(_Record)


def origin(folder: RunFolder) -> Mapping[str, Any]:
    """The record of a run of the gallery; nothing for others.

    Raises:
        CompressionError: it is damaged.
    """
    path = folder.path / "record.json"
    record: Mapping[str, Any] = read_object(path, "record") if path.is_file() else {}
    typed(_RECORD, record, f"record {path}")
    return record


def provenance(run: str, folder: RunFolder, result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Data set, seed, length, versions, device, digests of weights and the command, what is known of each.

    Raises:
        CompressionError: a file of the run is damaged.
    """
    requested = names.shared(folder.budget())
    flat = summary.record(folder, run)
    record = origin(folder)
    weights = record.get("weights", {})
    dense = weights.get("file") or result.get("weights") or requested.weights
    rows = {
        "run": run,
        "created": str(flat["created"]).replace("T", " ").replace("+00:00", " UTC"),
        "data set": names.data_name(str(result.get("data") or requested.data)),
        "seed": requested.seed,
        "epochs": requested.epochs if methods.get(requested.method).trains(requested) else "nothing is trained",
        "took": words.duration(result["seconds"]),
        "attempts": result.get("attempts"),
        "device": result.get("device") or record.get("processor"),
        "versions": ", ".join(f"{name} {version}" for name, version in summary.versions(folder.spec()).items()),
        "commit": flat["commit"],
        "dense weights": names.data_name(str(dense)) if dense else None,
        "SHA-256 of the dense weights": weights.get("sha256")
        or result.get("weights_digest")
        or flat["dense weights SHA-256"],
        "made by": weights.get("command"),
        "SHA-256 of the packed file": _packed(folder, result),
        "answers as measured, to within": None if result.get("equality") is None else f"{result['equality']:.1e}",
        "command": record.get("command") or line("run", "--config", BUDGET),
    }
    return [(name, _text(value)) for name, value in rows.items() if value not in (None, "")]


def _packed(folder: RunFolder, result: Mapping[str, Any]) -> str | None:
    """The digest that the run recorded, else that of the file, else none."""
    recorded = result.get("packed_sha256")
    if recorded:
        return str(recorded)
    path = folder.bundle / "weights.packed"
    try:
        return sha256(path) if path.is_file() else None
    except OSError as error:
        raise CompressionError(f"the packed file cannot be read: {error.strerror or error}") from error


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) and value > 9999 else str(value)
