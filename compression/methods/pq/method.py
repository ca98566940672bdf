"""Product quantization as a method: books shared out by cost and error, then trained with their indices fixed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from compression.asks import check_taking_part
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import FLOAT_BYTES, Forecast, Subject
from compression.methods.base import Compressed, Info, Method, Reporter, Setup
from compression.methods.pq.options import BITS, PqOptions
from compression.training.setup import ALLOCATED_STAGES

if TYPE_CHECKING:
    import torch
    from torch import nn


class Pq(Method):
    """Blocks of weights share the entries of a small book for each layer; books are stored as 8-bit numbers."""

    info = Info(
        name="pq",
        label="Product quantization",
        sentence="**Product quantization** replaces blocks of weights by indices into a book of a few learned blocks "
        "for each layer, then trains the books.",
        family="codebook",
        slot=9,
        lesson="codebook",
        stages=ALLOCATED_STAGES,
        paper="arXiv 1907.05686",
    )
    asks = (BITS,)
    Config = PqOptions
    encodings = frozenset({"codebook", "uniform"})

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place within ``setup.budget`` (average bits of a weight, books counted).

        Raises:
            CompressionError: an unknown option, or bounds that cannot be met. RunFailed: training diverged.
        """
        from compression.methods.pq.run import run

        self.check_budget(setup.budget)
        return run(self.bounded_setup(setup), report, self.options(setup.budget))

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """The most that indices and books will take; which books, clustering finds when the run begins.

        Raises:
            CompressionError: the budget's options cannot be.
        """
        from compression.counting.cost import cost
        from compression.methods.pq.allocator import SCALAR_BITS, weights_of

        options: PqOptions = self.options(budget)
        weights = weights_of(subject.model, options.embeddings)
        count = sum(weight.numel() for weight in weights.values())
        most = math.floor(BITS.value(budget.asks) * count) / 8
        total = most + FLOAT_BYTES * (subject.graph.params - count)
        counted = cost(subject.graph, {}, {name: (float(SCALAR_BITS), None) for name in weights})
        counted = replace(counted, nominal_bytes=total)
        note = f"Indices, books and steps of {count:,} weights take at most {most:,.0f} bytes."
        return Forecast("bound", cost(subject.graph), counted, counted, (total, total), notes=(note,))

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Put the books on ``model``, in place; any optimizer trains them then, with their indices fixed.

        Raises:
            CompressionError: the option ``weighting`` is inputs, and there are none in ``calibration``.
        """
        from compression.methods.pq.run import attach, planned, roots_of
        from compression.quant.calibrate import model_inputs

        self.check_own_loop(budget)
        options: PqOptions = self.options(budget)
        roots = None
        if options.weighting == "inputs":
            batches = [] if calibration is None else list(model_inputs(calibration))
            if not batches:
                raise CompressionError("pq: weighting inputs needs inputs: pass calibration=, one batch or several")
            roots = roots_of(model, batches, budget, options)
        return attach(model, planned(model, budget, options, roots=roots), options, budget.seed, roots)

    def further_layers(self, model: nn.Module) -> list[str]:
        """Tables of embeddings."""
        from compression.methods.pq.allocator import weights_of

        return list(weights_of(model, embeddings=True))

    def check(self, setup: Setup) -> None:
        """Refuse bounds of what is not compressed: of embeddings without the option ``embeddings``."""
        from compression.methods.pq.allocator import weights_of

        super().check(setup)
        embeddings = self.options(setup.budget).embeddings
        check_taking_part(setup.budget.layers, list(weights_of(setup.model, embeddings)))

    def trains(self, budget: Budget) -> bool:
        """Not where the option ``tuning`` is none."""
        return budget.options.get("tuning") != "none"

    def caveats(self, result: Mapping[str, Any]) -> list[str]:
        """Books do not make arithmetic faster, and what they take of a small network's file."""
        ledger = result.get("ledger") or {}
        books, codes = ledger.get("codebooks", 0), ledger.get("values", 0) + ledger.get("positions", 0)
        share = f" Here they take {100 * books / (books + codes):.0f} % of the bytes of the weights." if books else ""
        return [
            "Books make the file smaller, not the arithmetic or the memory of a runtime. They pay where layers are "
            f"large: in small networks the books themselves take much of what the indices save.{share}",
            *super().caveats(result),
        ]


METHOD = PQ = Pq()
