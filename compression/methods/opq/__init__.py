"""OPQ: one-shot pruning and quantization (Hu, Peng, Zhu, Aly, Lin, AAAI 2021, arXiv 2205.11141), re-derived.

Masks and steps are computed from the trained weights alone, before fine-tuning, and stay fixed. The equations here are
derived from the published objective; they are not copied from the paper, whose code is not public.

In a loop of one's own (``import compression as cx``)::

    tables = cx.opq.LayerTables.prepare(model)                 # once; channels=True where codebook="channel" is to come
    plan = cx.opq.allocate(tables, sparsity=0.7, bits=4)       # at once, for every further budget too
    plan = cx.opq.allocate(model, 0.7, 4, grid="survivor")     # levels counted from the pruning threshold
    cx.opq.attach(model, plan)                                 # masks and fixed quantizers; then train as usual
    json.dump(plan.to_dict(), file)                            # and back: cx.opq.Allocation.from_dict(json.load(file))

What there is to choose is in :class:`compression.methods.opq.options.OpqOptions`; a run takes the same as ``--option
grid=survivor``, a budget as ``"options": {"grid": "survivor"}``.
"""

from typing import TYPE_CHECKING

from compression.lazy import on_first_use
from compression.methods.opq.method import METHOD, OPQ

if TYPE_CHECKING:
    from compression.methods.opq.allocator import allocate, allocate_from
    from compression.quant.allocation import Allocation, LayerAllocation
    from compression.quant.fixed_steps import FixedQuantizer, attach
    from compression.quant.tables import LayerTables
    from compression.training.recalibrate import recompute_statistics
else:
    __getattr__, __dir__ = on_first_use(
        __name__,
        {
            "Allocation": "compression.quant.allocation",
            "FixedQuantizer": "compression.quant.fixed_steps",
            "LayerAllocation": "compression.quant.allocation",
            "LayerTables": "compression.quant.tables",
            "allocate": "compression.methods.opq.allocator",
            "allocate_from": "compression.methods.opq.allocator",
            "attach": "compression.quant.fixed_steps",
            "recompute_statistics": "compression.training.recalibrate",
        },
    )

__all__ = [
    "METHOD",
    "OPQ",
    "Allocation",
    "FixedQuantizer",
    "LayerAllocation",
    "LayerTables",
    "allocate",
    "allocate_from",
    "attach",
    "recompute_statistics",
]
