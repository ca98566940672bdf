"""A site without a server: the reports of the gallery, its fronts, and digits that a visitor's browser classifies.

``build(folder)`` writes it. What it shows comes from ``assets/gallery`` and ``assets/weights`` through the readers of
app. What draws is in ``assets/components`` and ``assets/site``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from compression.lazy import on_first_use

if TYPE_CHECKING:
    from compression.site.pages import build
else:
    __getattr__, __dir__ = on_first_use(__name__, {"build": "compression.site.pages"})

__all__ = ["build"]
