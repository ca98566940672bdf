"""What of the look is Streamlit's: a method's badge. Colours of charts: :mod:`compression.plots.theme`."""

from __future__ import annotations

from compression.plots.theme import Style, style

__all__ = ["badge", "style"]

_BADGES = ("blue", "orange", "green", "violet", "yellow", "violet", "red", "green")  # near COLORS of the same slots


def badge(look: Style) -> str:
    """The badge colour next to a method's colour; grey for what is no known method."""
    return "gray" if look.slot is None else _BADGES[look.slot % len(_BADGES)]
