"""``export``: a finished run as one zip that runs without this program."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import Parameter

from compression.cli.options import COUNT, BundleOut, Json, Run, Runs
from compression.cli.output import answer, columns, size
from compression.cli.progress import progress_bar
from compression.runs.folder import RunFolder

NoOnnx = Annotated[bool, Parameter(help="leave the ONNX files out (and the latency with them)")]
NoLatency = Annotated[bool, Parameter(help="do not time the ONNX files on this machine")]
Multiple = Annotated[
    int, COUNT, Parameter(metavar="N", help="keep channel counts at multiples of N (8 is often faster)")
]


def export(
    run: Run, /, *, out: BundleOut = "bundle.zip", no_onnx: NoOnnx = False, no_latency: NoLatency = False,
    multiple: Multiple = 1, runs: Runs = "runs", json: Json = None,
) -> None:  # fmt: skip
    """Write the bundle and list what is in it."""
    from compression import export as bundles

    folder, latency = RunFolder.open(runs, run), not (no_onnx or no_latency)
    with progress_bar() as show:
        bundle = bundles.export(folder, out, onnx=not no_onnx, latency=latency, multiple=multiple, say=show)
    value = bundle.to_dict()
    answer(value, describe(value), json)


def describe(value: dict[str, Any]) -> str:
    """The bundle and its files."""
    rows = [{"name": name, **about} for name, about in value["files"].items()]
    missing = "".join(f"\nwithout {name}: {why}" for name, why in value.get("left_out", {}).items())
    files = columns({"file": "{name}", "size": "{bytes:size}"}, rows)
    return f"{value['bundle']}: {size(value['bytes'])}, run {value['run']}\n\n{files}{missing}"
