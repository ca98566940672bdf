"""Numbers and terms in words: units for figures, one plain sentence for each term of the field."""

from __future__ import annotations

from collections.abc import Callable

_PREFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))

CHANCE = (
    "These weights are no better than always answering the largest class: what is compressed from them says nothing. "
    "Train longer, or with another learning rate."
)
HELP = {
    "latency": "Median time for one example with ONNX Runtime on this machine, one thread, the fastest of a run's "
    "exported files; measured while its bundle is made on the Export page.",
    "bops": "Bit operations: multiply-accumulates × weight bits × activation bits. A measure of work that no hardware "
    "colours; they are not milliseconds.",
    "macs": "Multiply-accumulates for one image: the arithmetic of all convolution and linear layers.",
    "bytes": "Size of the file that holds the weights. While a run goes it is estimated from the entropy of the codes; "
    "at the end it is the packed file, counted.",
    "planned_bytes": "Weights at their bit-widths, everything else in fp32. Packing makes the file smaller still.",
    "equality": "Largest absolute difference between the outputs of the model with zeroed units and the really smaller "
    "one. Anything near 1e-6 is the rounding of fp32.",
    "unit": "One channel (or attention head) together with everything that must go with it.",
    "group": "A minimal set of parameter slices that can only be removed together, made of units.",
}


def count(value: float) -> str:
    """``19810`` → ``19.8 k``: three significant digits with a decimal prefix."""
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor:
            return f"{_three(value / factor)} {prefix}"
    return f"{value:.0f}"


def size(value: float) -> str:
    """Bytes with a decimal unit: ``79240`` → ``79.2 kB``."""
    text = count(value)
    return f"{text}B" if " " in text else f"{text} B"


def share(value: float | None, digits: int = 1) -> str:
    """A share in 0..1 as a percentage: ``0.9812`` → ``98.1 %``."""
    return "–" if value is None else f"{100 * value:.{digits}f} %"


def between(low: float, high: float, show: Callable[[float], str]) -> str:
    """``3.2–5.7 kB``: the unit once when both ends have the same."""
    first, last = show(low), show(high)
    if first == last:
        return first
    number, space, unit = first.partition(" ")
    if space and last.endswith(f" {unit}"):
        return f"{number}–{last}"
    return f"{first.rstrip('×')}–{last}" if first.endswith("×") else f"{first}–{last}"


def signed(difference: float, show: Callable[[float], str]) -> str:
    """A difference with its sign; ``same`` when it shows as nothing."""
    text = show(abs(difference))
    if text == show(0.0):
        return "same"
    return f"{'+' if difference > 0 else '−'}{text}"


def ratio(value: float) -> str:
    """How many times smaller: ``7.64`` → ``7.6×``."""
    return f"{value:.0f}×" if value >= 100 else f"{value:.1f}×"


def duration(seconds: float) -> str:
    """Seconds for people: ``75`` → ``1 min 15 s``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def ago(seconds: float) -> str:
    """How long ago: ``75`` → ``1 min ago``."""
    whole = max(0, int(seconds))
    for unit, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if whole >= unit:
            return f"{whole // unit} {name} ago"
    return "just now"


def shape(sizes: tuple[int, ...] | list[int]) -> str:
    """``(1, 28, 28)`` → ``1×28×28``."""
    return "×".join(str(s) for s in sizes)


def bits(bounds: tuple[float, float] | list[float]) -> str:
    """A bit range: ``(4, 8)`` → ``4–8 bits``; one number when both ends agree."""
    low, high = bounds
    return f"{low:g} bits" if low == high else f"{low:g}–{high:g} bits"


def plural(number: int, word: str) -> str:
    """``1 unit``, ``2 units``."""
    return f"{number:,} {word}" + ("" if number == 1 else "s")


def _three(value: float) -> str:
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 100 else f"{value:.0f}"
