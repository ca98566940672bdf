"""Numbers for formulas: three significant digits, and powers of ten where they are needed."""

from __future__ import annotations

import math


def tex(value: float, digits: int = 3) -> str:
    """``0.012345`` → ``0.0123``; ``1.2e-7`` → ``1.20\\times 10^{-7}``; ``12345.6`` → ``12\\,346``."""
    if value == 0 or not math.isfinite(value):
        return f"{abs(value) if value == 0 else value:.0f}".replace("inf", r"\infty")
    power = math.floor(math.log10(abs(value)))
    if -4 <= power < 7:
        return f"{value:,.{max(0, digits - 1 - power)}f}".replace(",", r"\,")
    return rf"{value / 10**power:.{digits - 1}f}\times 10^{{{power}}}"
