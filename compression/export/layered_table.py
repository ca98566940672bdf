"""``layered.json``: the measured prefixes of a run's layered file, as the export writes and pages read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from compression.errors import CompressionError
from compression.reading import Measured, Name, Number, Whole, read_object, typed
from compression.runs.files import sha256
from compression.runs.folder import RunFolder
from compression.tasks import Metric

FILE, TABLE, LOADER = "weights.layered", "layered.json", "load_layered.py"
ONE, EACH = "one", "each"
TRAINED, INTEGERS = "trained weights", "integers of the run"
VERSION = 1


@dataclass(frozen=True)
class PrefixPoint:
    """One prefix of the file, measured on the test split.

    ``bits``: coded bits a weight, of the planes alone; ``error``: Σ (w - ŵ)² of all weights; ``planes``: layer → how
    many are read; ``ledger``: where its bytes are.
    """

    bytes: Whole
    bits: Number
    error: Measured
    score: Number
    loss: Measured
    planes: dict[str, Whole]
    ledger: dict[str, Whole]


@dataclass(frozen=True)
class LayeredTable:
    """The file's size, what was nested (``source``), whose ``statistics`` the norms have, and its ``prefixes``.

    ``packed_sha256``: of the run's packed file, which this one belongs to.
    """

    version: Literal[1]
    run: Name
    source: Literal["trained weights", "integers of the run"]
    statistics: Literal["one", "each"]
    metric: dict[str, Any]
    bytes: Annotated[Whole, Field(ge=1)]
    packed_bytes: Whole
    packed_sha256: Name
    prefixes: Annotated[list[PrefixPoint], Field(min_length=1, max_length=64)]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    @property
    def measure(self) -> Metric:
        """What the scores are."""
        return Metric.from_result({"metric": self.metric})

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The prefixes as a table, the smallest first."""
        metric = self.measure
        return [
            {
                "bytes": point.bytes,
                "of the file": f"{point.bytes / self.bytes:.0%}",
                "bits a weight": round(point.bits, 2),
                f"test {metric.axis}": round(metric.shown(point.score), 2),
                "squared error": None if point.error is None else round(point.error, 3),
                "planes": f"{min(point.planes.values(), default=0)} to {max(point.planes.values(), default=0)}",
            }
            for point in self.prefixes
        ]


_TABLE = TypeAdapter(LayeredTable)


def read(value: Mapping[str, Any], what: str = "layered table") -> LayeredTable:
    """The table of plain JSON values.

    Raises:
        CompressionError: a field has an impossible value.
    """
    table = typed(_TABLE, dict(value), what)
    if not table.measure.name:
        raise CompressionError(f"{what}: metric has no name")
    return table


def stored(folder: RunFolder) -> LayeredTable | None:
    """The table of a run's layered file beside its packed one; ``None`` where there is none of this packed file.

    Raises:
        CompressionError: the table is damaged.
    """
    path, packed = folder.bundle / TABLE, folder.bundle / "weights.packed"
    if not path.is_file() or not (folder.bundle / FILE).is_file() or not packed.is_file():
        return None
    table = read(read_object(path, "layered table"), f"layered table {path}")
    return table if table.packed_sha256 == sha256(packed) else None


def described(table: Mapping[str, Any]) -> str:
    """In a sentence: what was nested, and what the norms have in each prefix."""
    nested = (
        "cut from the weights that the run rounded"
        if table["source"] == TRAINED
        else "the run's own integers, since run folders keep no others: the whole file is the run's model, bit for bit"
    )
    norms = (
        "each measured prefix has its own statistics of batch norms"
        if table["statistics"] == EACH
        else "all prefixes have one set of statistics"
    )
    return f"Planes {nested}; {norms}."
