"""``export``: a finished run as one zip that runs without this program."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from compression.cli.options import Commands, add_json, add_runs, check_target
from compression.cli.output import answer, size, table


def add(commands: Commands[Any]) -> None:
    """Register the command."""
    parser = commands.add_parser("export", help="a bundle from a finished run: smaller files that run without us")
    parser.add_argument("run", metavar="RUN", help="its id, as `runs` lists it")
    parser.add_argument("--out", metavar="FILE", default="bundle.zip", help="the zip to write (default: %(default)s)")
    parser.add_argument("--no-onnx", action="store_true", help="leave the ONNX files out (and the latency with them)")
    parser.add_argument("--no-latency", action="store_true", help="do not time the ONNX files on this machine")
    parser.add_argument(
        "--multiple", metavar="N", type=int, default=1, help="keep channel counts at multiples of N (8 is often faster)"
    )
    add_runs(parser)
    add_json(parser)
    parser.set_defaults(command=export)


def export(asked: argparse.Namespace) -> int:
    """Write the bundle and tell what is in it."""
    check_target(asked.json, "--json")
    check_target(asked.out, "--out")
    from compression import export as bundles
    from compression.runs.folder import RunFolder

    folder = RunFolder.open(asked.runs, asked.run)
    onnx = not asked.no_onnx
    latency = onnx and not asked.no_latency
    made = bundles.export(folder, asked.out, onnx=onnx, latency=latency, multiple=asked.multiple, say=_progress())
    _clear()
    value = made.to_dict()
    answer(value, describe(value), asked.json)
    return 0


def describe(value: dict[str, Any]) -> str:
    """The bundle and its files."""
    rows = [(name, size(about["bytes"])) for name, about in value["files"].items()]
    missing = "".join(f"\nwithout {name}: {why}" for name, why in value.get("left_out", {}).items())
    return (
        f"{value['bundle']}: {size(value['bytes'])}, run {value['run']}\n\n" + table(("file", "size"), rows) + missing
    )


def _progress() -> Any:
    def say(text: str, share: float) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{share:4.0%}  {text}", end="", file=sys.stderr, flush=True)

    return say


def _clear() -> None:
    if sys.stderr.isatty():
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)
