"""The graph benchmark: every torchvision classifier traced here and by Torch-Pruning, and the slim oracle on each.

python -m tests.bench.graphs [--only PATTERN] [--no-equality] [--no-peer] [--repetitions N] [--keep FILE]
                             [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import sys
import time
from pathlib import Path

import torch

from tests.bench.keep import keep, stored
from tests.bench.report import section
from tests.bench.subjects import HERE, THERE, Row, measure, names

PREFACE = "# Benchmarks\n\nEvery section is written by the command that measures it: `make bench`.\n"


def main(argv: list[str] | None = None) -> int:
    """Measure and print; 0 when done, whatever was found, 2 when asked for something that is not there."""
    arguments = _arguments(argv)
    selected = [name for name in names() if any(fnmatch.fnmatch(name, p) for p in arguments.only)]
    if not selected:
        print(f"no torchvision classifier matches {' '.join(arguments.only)!r}", file=sys.stderr)
        return 2
    if arguments.peer and importlib.util.find_spec("torch_pruning") is None:
        print("Torch-Pruning is not installed: pip install -r requirements-bench.txt, or --no-peer", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    measured, rows = stored(arguments.keep), []
    for number, name in enumerate(selected, 1):
        start = time.perf_counter()
        row = measured.get(name)
        if row is None:
            row = measure(name, repetitions=arguments.repetitions, peer=arguments.peer, check=arguments.equality)
            keep(arguments.keep, row)
        rows.append(row)
        print(f"[{number}/{len(selected)}] {_summary(row)} ({time.perf_counter() - start:.0f} s)", file=sys.stderr)
    text = section(rows, repetitions=arguments.repetitions)
    print(text)
    if arguments.write and len(rows) < len(names()):
        print(f"{arguments.write} is left as it is: only {len(rows)} of {len(names())} were measured", file=sys.stderr)
    elif arguments.write:
        write(arguments.write, text)
    return 0


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests.bench.graphs", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN", help="names, with * and ?")
    parser.add_argument("--no-equality", dest="equality", action="store_false", help="leave out the slim oracle")
    parser.add_argument("--no-peer", dest="peer", action="store_false", help="leave out Torch-Pruning")
    parser.add_argument("--repetitions", type=int, default=3, metavar="N", help="runs of each side; the best counts")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="rows measured before, and where new ones are added")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file (all models only)")
    return parser.parse_args(argv)


def _summary(row: Row) -> str:
    sides = [f"{side} {row.seconds[side]:.3f} s" for side in (HERE, THERE) if side in row.seconds]
    sides += [f"{side}: {error}" for side, error in row.errors.items()]
    equal = row.equality if isinstance(row.equality, str) else f"equality {row.equality.fp32:.1e}"
    return f"{row.name}: {', '.join(sides)}; {equal}; {row.memory / 2**30:.1f} GiB"


def write(path: Path, text: str) -> None:
    """Put this section in the file in place of its older self; other sections stay."""
    old = path.read_text(encoding="utf-8") if path.is_file() else PREFACE
    preface, *sections = old.split("\n## ")
    title = text.removeprefix("## ").partition("\n")[0]
    others = [part.rstrip("\n") for part in sections if part.partition("\n")[0] != title]
    first = text.removeprefix("## ").rstrip("\n")
    path.write_text("\n\n## ".join([preface.rstrip("\n"), first, *others]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
