"""Explore and run the compression of neural networks: dependency groups, GETA, OPQ, and what they cost.

Importing this package imports neither torch nor any user interface: names are resolved when first used.

The folder shares its name with a package of the standard library since Python 3.14 (``gzip``, ``bz2`` and ``lzma``
import ``compression._common``); extending ``__path__`` keeps both reachable under the one name.
"""

import importlib
import pkgutil

__path__ = pkgutil.extend_path(__path__, __name__)
__version__ = "0.1.0"

_EXPORTS = {
    "Budget": "compression.budget",
    "Schedule": "compression.methods.geta.schedule",
    "CompressionError": "compression.errors",
    "trace": "compression.graph",
    "zero_units": "compression.graph",
    "slim": "compression.graph",
    "slim_report": "compression.graph",
    "quantize": "compression.quant",
    "QASSO": "compression.methods.geta",
    "load": "compression.export",
    "apply": "compression.export",
}
_MODULES = ("graph", "quant", "methods", "zoo", "data", "runs", "cost", "export", "explain")

__all__ = [*_EXPORTS, *_MODULES, "opq", "__version__"]


def __getattr__(name: str) -> object:
    """Import what is asked for on first use, so that ``import compression`` stays instant."""
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name == "opq":
        return importlib.import_module("compression.methods.opq")
    if name in _MODULES:
        return importlib.import_module(f"compression.{name}")
    raise AttributeError(f"module 'compression' has no attribute {name!r}")
