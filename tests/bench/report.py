"""The measurements in words: a summary against what is to be reached, and a Markdown table."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Sequence
from datetime import date
from pathlib import Path

import torch

from tests.bench.oracle import Equality
from tests.bench.subjects import HERE, LIMIT, THERE, Row

TITLE = "Graphs and groups of the torchvision classifiers"
TRACE_REACH = 0.5  # seconds
AHEAD_FROM = 0.1  # seconds of Torch-Pruning from which this project should be ahead
FP32_REACH, FP64_REACH = 1e-5, 1e-10
HEAD = (
    "model | parameters | nodes | groups | prunable | units | of them frozen, and why"
    " | seconds | Torch-Pruning | ratio | equality fp32 | fp64"
)
LEGEND = """\
`seconds`: `cx.trace(model, example)`, the best run; `Torch-Pruning`: `DependencyGraph().build_dependency(...)` and the
list of `get_all_groups()`, in the same process by turns, on one image (3 x 224 x 224, Inception 299), both in seconds
of processor time on one thread, so that other work on the machine does not count; `ratio`: theirs over ours.
`equality`: a random 30 to 70 % of the units of every prunable group zeroed, then slimmed; the largest difference of the
outputs over the masked output's largest magnitude, with constant parameters made random and batch norms calibrated so
that every slice counts (two random images; one above 150 M parameters; fp64 up to 30 M)."""


def section(rows: Sequence[Row], *, repetitions: int) -> str:
    """The whole section of BENCHMARKS.md, title included."""
    parts = [f"## {TITLE}", "\n".join(machine(f"best of {repetitions}")), "\n".join(summary(rows)), LEGEND, table(rows)]
    return "\n\n".join(parts) + "\n"


def machine(how: str) -> list[str]:
    """What it was measured on and with, and ``how``."""
    threads = torch.get_num_threads()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "torchvision"))
    return [
        f"- {date.today().isoformat()}, commit {_commit()}, {how}",
        f"- {_processor()}, {os.cpu_count()} cores, {threads} thread{'s' * (threads != 1)}, Python "
        f"{platform.python_version()}, {versions}, Torch-Pruning {_peer_version()}",
    ]


def summary(rows: Sequence[Row]) -> list[str]:
    """What was reached and where not, one line each."""
    slow = [row for row in rows if row.seconds.get(HERE, 0) > TRACE_REACH]
    both = [row for row in rows if HERE in row.seconds and THERE in row.seconds]
    ratios = [_ratio(row) for row in both]
    behind = [r for r in both if r.seconds[THERE] > AHEAD_FROM and _ratio(r) < 1]
    twice = [r for r in both if r.seconds[THERE] <= AHEAD_FROM and _ratio(r) < 0.5]
    lines = [
        f"{len(rows)} models, traced here: {sum(HERE in r.seconds for r in rows)}"
        + _listed("failed", (r for r in rows if HERE in r.errors)),
        _counted(f"above {TRACE_REACH} s here", slow, HERE),
    ]
    if ratios or any(THERE in row.errors for row in rows):
        unfinished = [r for r in rows if r.errors.get(THERE, "").startswith(">")]
        failed = [r for r in rows if THERE in r.errors and r not in unfinished]
        lines += [
            f"Torch-Pruning: done {len(both)}"
            + _listed("failed", failed)
            + _listed(f"not done in {LIMIT:g} s", unfinished),
            _counted(f"behind it where it takes over {AHEAD_FROM} s", behind, HERE),
            _counted("above twice its time elsewhere", twice, HERE),
        ]
    if ratios:
        lines.append(f"its time over ours: median {statistics.median(ratios):.1f}, least {min(ratios):.2f}")
    return [f"- {line}" for line in [*lines, *_equalities(rows)]]


def _equalities(rows: Sequence[Row]) -> list[str]:
    measured = [(row, row.equality) for row in rows if isinstance(row.equality, Equality)]
    refused = [row for row in rows if isinstance(row.equality, str) and row.equality != "not measured"]
    if not measured and not refused:
        return []
    above = [row for row, e in measured if e.fp32 > FP32_REACH or (e.fp64 or 0.0) > FP64_REACH]
    worst = max((e.fp32 for _, e in measured), default=float("nan"))
    worst64 = max((e.fp64 for _, e in measured if e.fp64 is not None), default=float("nan"))
    return [
        f"slim equals masked: {len(measured) - len(above)} of {len(measured) + len(refused)}, worst {worst:.1e} in "
        f"fp32, {worst64:.1e} in fp64"
        + _listed(f"above {FP32_REACH:g} or {FP64_REACH:g}", above)
        + _listed("refused", refused)
    ]


def _listed(label: str, rows: Iterable[Row]) -> str:
    """ "; label N: names", empty without any."""
    names = [row.name for row in rows]
    return f"; {label} {len(names)}: {', '.join(names)}" if names else ""


def _counted(label: str, rows: Sequence[Row], side: str) -> str:
    """ "label: N (name seconds, …)", slowest first."""
    ordered = sorted(rows, key=lambda row: -row.seconds[side])
    names = ", ".join(f"{row.name} {row.seconds[side]:.2f}" for row in ordered)
    return f"{label}: {len(rows)}" + (f" ({names})" if names else "")


def table(rows: Sequence[Row]) -> str:
    """One line a model."""
    columns = HEAD.split(" | ")
    rule = ["---", *("---" if "why" in c else "---:" for c in columns[1:])]
    lines = [_line(columns), _line(rule), *(_line(_cells(row)) for row in rows)]
    return "\n".join(lines)


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _cells(row: Row) -> list[str]:
    facts = row.facts
    counts = ["", "", "", "", "", ""]
    if facts is not None:
        why = "; ".join(f"{units} {reason}" for reason, units in facts.frozen.items())
        counts = [
            f"{facts.parameters / 1e6:.1f} M",
            *map(str, (facts.nodes, facts.groups, facts.prunable, facts.units)),
        ]
        counts.append(f"{sum(facts.frozen.values())}: {why}" if why else "0")
    ratio = f"{_ratio(row):.1f}" if HERE in row.seconds and THERE in row.seconds else ""
    return [row.name, *counts, _seconds(row, HERE), _seconds(row, THERE), ratio, *_equal(row.equality)]


def _seconds(row: Row, side: str) -> str:
    return f"{row.seconds[side]:.3f}" if side in row.seconds else row.errors.get(side, "")


def _equal(equality: Equality | str) -> list[str]:
    if isinstance(equality, str):
        return ["" if equality == "not measured" else equality, ""]
    deaf = " (zeroing changes nothing)" if equality.effect < 1e-3 and equality.removed else ""
    return [f"{equality.fp32:.1e}{deaf}", "" if equality.fp64 is None else f"{equality.fp64:.1e}"]


def _ratio(row: Row) -> float:
    return row.seconds[THERE] / row.seconds[HERE]


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _commit() -> str:
    def git(*words: str) -> str:
        return subprocess.run(["git", *words], capture_output=True, text=True).stdout.strip()

    return (git("rev-parse", "--short", "HEAD") or "unknown") + (
        " with changes" if git("status", "--porcelain", "--", "compression", "tests/bench") else ""
    )


def _peer_version() -> str:
    try:
        return importlib.metadata.version("torch-pruning")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
