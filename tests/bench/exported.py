"""What was exported and measured, in words: goals, and two Markdown tables."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnxruntime

from compression.export import latency
from tests.bench.report import machine

TITLE = "Export: latency, size, agreement"
FASTER_REACH, LEDGER_REACH, AGREEMENT_REACH, SECONDS_REACH = 2.0, 0.02, 0.995, 60.0
TURNS = 3
TRAINED = "resnet20"
LEGEND = """\
Each model loses half of its units in a GETA run (weights of 4 to 8 bits, activations in floats) and is exported by the
same function as on the Export page. ResNet-20 begins with trained weights and real data (CIFAR-10, JPEG-75) and takes
{epochs:g} epochs; the torchvision networks have random weights, their norms' statistics taken from digits at 3 x 224 x
224, because speed does not depend on what was learned (their accuracy and `same class` tell nothing). Times: ONNX
Runtime, one image at a time, {runs} runs by turns with the other variants; median and where the middle half lies.
`times as fast`: than the dense fp32 file, the median of {turns} such measurements with the lowest and the highest. BOPs
relative to dense fp32. `file / ledger`: `weights.packed` in the bundle over the sum that the run's ledger gave.
`same class`: share of test images to which ONNX Runtime and torch give the same class. `export`: seconds of processor
time on one thread, for everything but the latency measurement."""


@dataclass(frozen=True)
class Timed:
    """One variant: milliseconds and quartiles of the first turn; ``ratios`` to dense, one of each turn."""

    name: str
    median: float
    low: float
    high: float
    bops: float
    bytes: int
    runs: int
    ratios: tuple[float, ...]

    @property
    def ratio(self) -> float:
        """How many times as fast as dense, the median turn."""
        return statistics.median(self.ratios)


@dataclass(frozen=True)
class Exported:
    """What came of one model."""

    model: str
    removed: float
    accuracy: tuple[float, float]
    variants: tuple[Timed, ...]
    ledger: float
    images: int
    same: tuple[float, float]
    packed: tuple[int, int]
    seconds: float
    epochs: float


def from_dict(raw: Mapping[str, Any]) -> Exported:
    """What :func:`dataclasses.asdict` made plain, after it was a JSON file."""
    variants = tuple(Timed(**{**entry, "ratios": tuple(entry["ratios"])}) for entry in raw["variants"])
    pairs = {name: tuple(raw[name]) for name in ("accuracy", "same", "packed")}
    return Exported(**{**raw, **pairs, "variants": variants})


def section(entries: Sequence[Exported]) -> str:
    """The whole section of BENCHMARKS.md, title included."""
    runs = min(timed.runs for entry in entries for timed in entry.variants)
    legend = LEGEND.format(runs=runs, turns=TURNS, epochs=entries[0].epochs)
    about = machine(f"ONNX Runtime {onnxruntime.__version__}")
    about += [f"- flags of the processor: {', '.join(latency.processor().flags)}", *reached(entries)]
    parts = [f"## {TITLE}", "\n".join(about), legend, speeds(entries), sizes(entries)]
    return "\n\n".join(parts) + "\n"


def reached(entries: Sequence[Exported]) -> list[str]:
    """What was to be reached, line by line."""
    lines = []
    for entry in entries:
        best = max(entry.variants[1:], key=lambda timed: timed.ratio)
        goal = f", to reach: {FASTER_REACH:g}" if entry.model == TRAINED else ""
        lines.append(f"- {entry.model}: fastest is {best.name}, {best.ratio:.2f} times as fast as dense fp32{goal}")
    off = max(abs(entry.ledger - 1) for entry in entries)
    slowest = max(entries, key=lambda entry: entry.seconds)
    return [
        *lines,
        f"- `weights.packed` within {off:.2%} of the ledger, to reach: {LEDGER_REACH:.0%}",
        *(
            f"- {entry.model}: `model.onnx` gives torch's class to {entry.same[0]:.2%} of {entry.images} test images, "
            f"to reach: {AGREEMENT_REACH:.1%}"
            for entry in entries
            if entry.model == TRAINED
        ),
        f"- an export takes at most {slowest.seconds:.0f} s ({slowest.model}), to reach: {SECONDS_REACH:g}",
    ]


def speeds(entries: Sequence[Exported]) -> str:
    """A line for each variant of each model."""
    head = "model | variant | ms | middle half, ms | times as fast | lowest to highest | BOPs | bytes"
    rows = [
        f"{entry.model} | {v.name} | {v.median:.3f} | {v.low:.3f} to {v.high:.3f} | {v.ratio:.2f} | "
        f"{min(v.ratios):.2f} to {max(v.ratios):.2f} | {v.bops / entry.variants[0].bops:.2%} | {v.bytes:,}"
        for entry in entries
        for v in entry.variants
    ]
    return _table(head, 2, rows)


def sizes(entries: Sequence[Exported]) -> str:
    """A line for each model: what the bundle holds, and how true it is."""
    head = (
        "model | units removed | accuracy dense | compressed | fp32 bytes | packed bytes | file / ledger | images | "
        "same class | same class, 8-bit | export, s"
    )
    rows = [
        f"{e.model} | {e.removed:.0%} | {e.accuracy[0]:.2%} | {e.accuracy[1]:.2%} | {e.packed[0]:,} | "
        f"{e.packed[1]:,} | {e.ledger:.4f} | {e.images} | {e.same[0]:.2%} | {e.same[1]:.2%} | {e.seconds:.0f}"
        for e in entries
    ]
    return _table(head, 1, rows)


def _table(head: str, words: int, rows: Sequence[str]) -> str:
    rule = " | ".join(["---"] * words + ["---:"] * (head.count("|") + 1 - words))
    return "\n".join(f"| {line} |" for line in (head, rule, *rows))
