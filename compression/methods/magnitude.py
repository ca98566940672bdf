"""Magnitude pruning with equal bits: OPQ without its allocation, to see what the allocation is worth.

The smallest weights of the whole network go, whatever layer they are in; every layer gets the same bit-width and the
step with the least squared error. From there on everything is OPQ's: masks and steps fixed, norms refitted, fine-tuned.
"""

from __future__ import annotations

from compression.budget import Budget
from compression.methods.base import Compressed, Reporter, Task, Uses
from compression.methods.opq.allocator import allocate_from
from compression.methods.options import Option, resolved
from compression.methods.widths import bits_in_words, weight_widths
from compression.quant.allocation import Allocation
from compression.quant.tables import LayerTables
from compression.training.allocated import begin, tell_unused, train_allocated

OPTIONS = (
    Option(
        "scope",
        "network",
        "Where magnitudes are compared: over the whole network, or within each layer, which then all lose one share.",
        choices=("network", "layer"),
    ),
)


class Magnitude:
    """Global magnitude pruning of single weights, equal bits, fine-tuning with masks and steps fixed."""

    name = "magnitude"
    label = "Magnitude"
    summary = "Sets the smallest weights to zero, gives all layers the same bits, then fine-tunes what is left."
    structured = False
    uses = Uses(bits="equal")
    options = OPTIONS

    def check(self, budget: Budget) -> None:
        """Refuse unknown options and impossible values.

        Raises:
            CompressionError: naming the option and what it may be.
        """
        resolved(budget, OPTIONS, self.name)

    def run(self, task: Task, report: Reporter) -> Compressed:
        """Compress ``task.model`` in place: round(sparsity·N) weights to zero, ``bits`` for every layer.

        Raises:
            CompressionError: an unknown option, or bounds that cannot be met.
        """
        tell_unused(task, report, self.label)
        begin(task, report)
        allocation = smallest_weights(LayerTables.prepare(task.model), task.budget)
        report.log(f"{allocation.pruned} of {allocation.numel} weights pruned, the smallest ones")
        report.log(bits_in_words(task.budget, structured=False))
        return train_allocated(task, report, allocation)


def smallest_weights(tables: LayerTables, budget: Budget) -> Allocation:
    """The smallest weights at zero and equal bits for the others, as an allocation like OPQ's.

    As there, weights that are zero already and layers with a sparsity of their own count, and every layer keeps 2 %.

    Raises:
        CompressionError: an unknown option, or bounds that cannot be met.
    """
    scope = resolved(budget, OPTIONS, Magnitude.name)["scope"]
    widths = weight_widths(budget, [table.name for table in tables.layers], structured=False)
    bounds = {name: {**budget.layers.get(name, {}), "weight_bits": (bits, bits)} for name, bits in widths.items()}
    mode = "empirical" if scope == "network" else "uniform"
    return allocate_from(tables, budget.sparsity, max(widths.values()), bounds, prune_mode=mode, scope="layer")


METHOD = MAGNITUDE = Magnitude()
