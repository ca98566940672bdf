"""``export``: a finished run as one zip that runs without this program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from compression import home
from compression.cli.options import COUNT, BundleOut, Json, Run, Runs
from compression.cli.output import answer, columns, size
from compression.cli.progress import progress_bar
from compression.errors import CompressionError
from compression.runs.folder import RunFolder

if TYPE_CHECKING:
    from compression.export.layered import Layering

NoOnnx = Annotated[bool, Parameter(help="leave the ONNX files out (and the latency with them)")]
NoLatency = Annotated[bool, Parameter(help="do not time the ONNX files on this machine")]
Multiple = Annotated[
    int, COUNT, Parameter(metavar="N", help="keep channel counts at multiples of N (8 is often faster)")
]
Layered = Annotated[
    bool,
    Parameter(help="add weights.layered, of which every prefix between two bit planes is a model, and measure some"),
]
Bits = Annotated[
    float | None,
    Parameter(
        metavar="N",
        help="of a run whose weights serve several bit-widths, the precision of at most N bits a weight (default: its "
        "most)",
    ),
]
LayeredBits = Annotated[
    int | None,
    COUNT,
    Parameter(
        metavar="N",
        help="with --layered: bits of the whole file, sign included, where the run only rounded its weights; else it "
        "has the run's (default: 8)",
    ),
]
Statistics = Annotated[
    str | None,
    Parameter(
        choices=("one", "each"),
        help="with --layered: one set of batch norm statistics for all prefixes, or each measured one its own "
        "(default: each)",
    ),
]


def export(
    run: Run, /, *, out: BundleOut = "bundle.zip", no_onnx: NoOnnx = False, no_latency: NoLatency = False,
    multiple: Multiple = 1, bits: Bits = None, layered: Layered = False, layered_bits: LayeredBits = None,
    layered_statistics: Statistics = None, runs: Runs = home.RUNS, json: Json = None,
) -> None:  # fmt: skip
    """Write the bundle and list what is in it."""
    from compression import export as bundles

    layering = _layering(layered, layered_bits, layered_statistics)
    folder, latency = RunFolder.open(runs, run), not (no_onnx or no_latency)
    with progress_bar() as show:
        bundle = bundles.export(
            folder, out, onnx=not no_onnx, latency=latency, multiple=multiple, layered=layering, bits=bits, say=show
        )
    value = bundle.to_dict()
    answer(value, describe(value), json)


def _layering(layered: bool, bits: int | None, statistics: str | None) -> Layering | None:
    """What is asked of the layered file; ``None`` where none is.

    Raises:
        CompressionError: an option is impossible, or belongs to a layered file that was not asked for.
    """
    from compression.export.layered import Layering

    if not layered:
        if bits is not None or statistics is not None:
            option = "--layered-bits" if bits is not None else "--layered-statistics"
            raise CompressionError(f"{option} says how the layered file is: add --layered")
        return None
    chosen = {"bits": bits, "statistics": statistics}
    return Layering(**{name: value for name, value in chosen.items() if value is not None})  # type: ignore[arg-type]


def describe(value: dict[str, Any]) -> str:
    """The bundle and its files."""
    rows = [{"name": name, **about} for name, about in value["files"].items()]
    missing = "".join(f"\nwithout {name}: {why}" for name, why in value.get("left_out", {}).items())
    files = columns({"file": "{name}", "size": "{bytes:size}"}, rows)
    return f"{value['bundle']}: {size(value['bytes'])}, run {value['run']}\n\n{files}{missing}{_prefixes(value)}"


def _prefixes(value: dict[str, Any]) -> str:
    """The measured prefixes of the layered file as lines; nothing without one."""
    from compression.export.layered_table import described, read

    if "layered" not in value:
        return ""
    rows = [{name: str(cell) for name, cell in row.items()} for row in read(value["layered"]).rows]
    return f"\n\n{described(value['layered'])}\n\n{columns({name: f'{{{name}}}' for name in rows[0]}, rows)}"
