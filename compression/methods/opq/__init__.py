"""OPQ: one-shot pruning and quantization (Hu, Peng, Zhu, Aly, Lin, AAAI 2021, arXiv 2205.11141), re-derived.

Masks and steps are computed from the trained weights alone, before fine-tuning, and stay fixed. The equations here are
derived from the published objective; they are not copied from the paper, whose code is not public.
"""

from compression.methods.opq.allocating import allocate
from compression.methods.opq.allocating import allocate_from
from compression.methods.opq.allocation import Allocation
from compression.methods.opq.allocation import LayerAllocation
from compression.methods.opq.method import METHOD
from compression.methods.opq.method import OPQ
from compression.methods.opq.quantizer import FixedQuantizer
from compression.methods.opq.quantizer import attach
from compression.methods.opq.tables import LayerTables
from compression.recalibrate import recompute_statistics

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
