"""Explore and run the compression of neural networks: dependency groups, GETA, OPQ, and what they cost.

Importing this package imports neither torch nor any user interface: a public name is imported when it is first used.
Type checkers and editors read the imports under ``TYPE_CHECKING``.

The folder shares its name with a package of the standard library since Python 3.14 (``gzip``, ``bz2`` and ``lzma``
import ``compression._common``); extending ``__path__`` keeps both reachable under the one name.
"""

import pkgutil
from typing import TYPE_CHECKING

__path__ = pkgutil.extend_path(__path__, __name__)

from compression.lazy import on_first_use

__version__ = "0.1.0"

_MODULES = {
    "cost": "compression.counting.cost",
    "data": "compression.data",
    "explain": "compression.explain",
    "export": "compression.export",
    "graph": "compression.graph",
    "methods": "compression.methods",
    "opq": "compression.methods.opq",
    "quant": "compression.quant",
    "runs": "compression.runs",
    "zoo": "compression.zoo",
}
_OBJECTS = {
    "Budget": "compression.budget",
    "CompressionError": "compression.errors",
    "QASSO": "compression.methods.geta.qasso",
    "Schedule": "compression.methods.geta.schedule",
    "apply": "compression.export.apply",
    "compress": "compression.one_call",
    "explore": "compression.widgets.explore",
    "from_pretrained": "compression.export.hub",
    "load": "compression.export.reader",
    "push": "compression.export.hub",
    "quantize": "compression.quant.attach",
    "slim": "compression.graph.slim",
    "slim_report": "compression.graph.slim",
    "trace": "compression.graph.trace",
    "zero_units": "compression.graph.slim",
}

if TYPE_CHECKING:
    from compression import data, explain, export, graph, methods, quant, zoo
    from compression.budget import Budget
    from compression.counting import cost
    from compression.errors import CompressionError
    from compression.export.apply import apply
    from compression.export.hub import from_pretrained, push
    from compression.export.reader import load
    from compression.graph.slim import slim, slim_report, zero_units
    from compression.graph.trace import trace
    from compression.methods import opq
    from compression.methods.geta.qasso import QASSO
    from compression.methods.geta.schedule import Schedule
    from compression.one_call import compress
    from compression.quant.attach import quantize
    from compression.runs.typed import runs
    from compression.widgets.explore import explore
else:
    __getattr__, __dir__ = on_first_use(__name__, _OBJECTS, _MODULES)

__all__ = [
    "QASSO",
    "Budget",
    "CompressionError",
    "Schedule",
    "__version__",
    "apply",
    "compress",
    "cost",
    "data",
    "explain",
    "explore",
    "export",
    "from_pretrained",
    "graph",
    "load",
    "methods",
    "opq",
    "push",
    "quant",
    "quantize",
    "runs",
    "slim",
    "slim_report",
    "trace",
    "zero_units",
    "zoo",
]
