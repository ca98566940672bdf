"""GETA: joint structured pruning and quantization-aware training (arXiv 2502.16638) with the QASSO optimizer."""

from typing import TYPE_CHECKING

from compression.lazy import on_first_use
from compression.methods.geta.method import GETA, METHOD

if TYPE_CHECKING:
    from compression.methods.geta.qasso import QASSO
else:
    __getattr__, __dir__ = on_first_use(__name__, {"QASSO": "compression.methods.geta.qasso"})

__all__ = ["GETA", "METHOD", "QASSO"]
