"""OPQ as a method: allocate on the dense weights, fix masks and steps, refit the norms, fine-tune what is left."""

from __future__ import annotations

from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.base import Compressed, Reporter, Task, Uses
from compression.methods.opq.allocator import allocate
from compression.methods.opq.options import OPTIONS, check_names, options
from compression.quant.tables import check_numbers, layer_weights
from compression.training.allocated import begin, tell_unused, train_allocated


class Opq:
    """One-shot pruning and quantization: sparsity and bits are spent in closed form before any training."""

    name = "opq"
    label = "OPQ"
    summary = "Allocates sparsity and bits from the trained weights alone, then fine-tunes with masks and steps fixed."
    structured = False
    uses = Uses(bits="average")
    options = OPTIONS

    def check(self, budget: Budget) -> None:
        """Refuse unknown options and impossible values.

        Raises:
            CompressionError: naming the option and what it may be.
        """
        options(budget)

    def check_task(self, task: Task) -> None:
        """Refuse options and bounds naming layers that are not there or left alone, and weights that are no numbers.

        Raises:
            CompressionError: naming the option or field, and the layer.
        """
        chosen = options(task.budget)
        weights = layer_weights(task.model)
        check_names(chosen, list(weights))
        for name in chosen.get("skip", ()):
            if name in task.budget.layers:
                raise CompressionError(f"opq: skip: layer {name!r} is left alone, yet layers.{name} bounds it")
        for name, weight in weights.items():
            check_numbers(name, weight)

    def run(self, task: Task, report: Reporter) -> Compressed:
        """Compress ``task.model`` in place within ``task.budget`` (sparsity of weights, average value bits).

        Raises:
            CompressionError: an unknown option, or bounds that cannot be met.
        """
        budget = task.budget
        chosen = options(budget)
        tell_unused(task, report, self.label)
        begin(task, report)
        allocation = allocate(task.model, budget.sparsity, budget.bits, budget.layers, **chosen)
        report.log(
            f"{allocation.pruned} of {allocation.numel} weights pruned; {allocation.value_bits} of "
            f"{allocation.budget_bits} value bits spent{', proven optimal' if allocation.exact else ''}"
        )
        return train_allocated(task, report, allocation)


OPQ = Opq()
METHOD = OPQ
