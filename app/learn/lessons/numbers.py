"""Numbers for formulas: three significant digits, powers of ten where they are needed, signs as in print."""

from __future__ import annotations

import math

_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def sig(value: float, digits: int = 3) -> str:
    """``0.012345`` → ``0.0123``; ``1.2e-7`` → ``1.20·10⁻⁷``."""
    if value == 0 or not math.isfinite(value):
        return "0" if value == 0 else "∞" if value > 0 else "−∞"
    power = math.floor(math.log10(abs(value)))
    if -4 <= power < 7:
        text = f"{value:.{max(0, digits - 1 - power)}f}"
        text = f"{float(text):,.0f}".replace(",", " ") if power >= 4 else text
    else:
        text = f"{value / 10**power:.{digits - 1}f}·10{str(power).translate(_RAISED)}"
    return text.replace("-", "−")


def tex(value: float, digits: int = 3) -> str:
    """The same inside a formula."""
    text = sig(value, digits).replace("−", "-").replace("∞", r"\infty").replace(" ", r"\,")
    head, _, power = text.partition("·10")
    if not power:
        return head
    plain = power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))
    return rf"{head}\times 10^{{{plain}}}"


def percent(share: float, digits: int = 1) -> str:
    """``0.123`` → ``12.3 %``, also inside a formula."""
    return f"{100 * share:.{digits}f}".replace("-", "−") + " %"


def tex_percent(share: float, digits: int = 1) -> str:
    """A percentage inside a formula."""
    return f"{100 * share:.{digits}f}" + r"\,\%"
