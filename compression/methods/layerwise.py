"""What methods share that go through a trained network layer by layer, with a few inputs and no labels."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from compression.asks import WEIGHTS, AverageBits, EqualActivationBits, EqualBits, Sparsity
from compression.budget import Budget
from compression.commands import line
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject, allocation_forecast
from compression.methods.base import Compressed, Method, Reporter, Setup
from compression.options import Options
from compression.posttraining.options import LayerwiseOptions

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compression.posttraining.block_problem import SolveBlock
    from compression.posttraining.layers import Dense
    from compression.posttraining.problems import Solve
    from compression.quant.allocation import Allocation

BITS = AverageBits(help="bits of a weight: of every layer, or the average where the option allocation is output")
SPARSITY = Sparsity(
    target=WEIGHTS, default=0.0, help="share in [0, 1) of the single weights that are zero; the others make good for it"
)
ACTIVATION_BITS = EqualActivationBits()


class LayerwiseMethod(Method):
    """A method whose work is how one layer is brought onto its grid (:meth:`solver`)."""

    asks = (BITS, SPARSITY, ACTIVATION_BITS)
    Config: ClassVar[type[Options]] = LayerwiseOptions
    encodings = frozenset({"uniform", "uniform-channel"})

    @abstractmethod
    def solver(self, options: Any) -> Solve:
        """What brings one layer onto its grid."""

    def block_solver(self, options: Any) -> SolveBlock | None:
        """What brings the layers of a residual block onto their grids together; ``None``: every layer is by itself."""
        return None

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` in place: its bits, round(sparsity·N) weights or more at zero.

        Raises:
            CompressionError: bounds that cannot be met, or inputs of a layer that are not finite.
        """
        from compression.posttraining.run import compress_layers

        setup = self.bounded_setup(setup)
        budget, subject = setup.budget, Subject(setup.model, setup.graph)
        widths, options = _activation_bits(setup.model, budget), self.options(budget)
        plan, bits = partial(self._plan, subject, budget), _weight_bits(setup.model, budget)
        solve, solve_block = self.solver(options), self.block_solver(options)
        return compress_layers(setup, report, options, plan, solve, bits, widths, solve_block=solve_block)

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Compress ``model`` with these inputs, in place. Nothing more is needed, though it may be trained then.

        ``calibration``: one batch of inputs or several. Batch norms stay as they are.

        Raises:
            CompressionError: no inputs, or a network that cannot be traced.
        """
        from compression.graph import trace
        from compression.posttraining.bias import correct_biases
        from compression.posttraining.block_walk import bring, units
        from compression.posttraining.blocks import residual_blocks
        from compression.posttraining.layers import Activations, LayerWalk
        from compression.posttraining.prepare import prepare_model
        from compression.quant.calibrate import model_inputs

        self.check_budget(budget)
        batches = [] if calibration is None else list(model_inputs(calibration))
        if not batches:
            raise CompressionError(
                f"{self.info.label} learns from inputs: pass calibration=, one batch or several, or run it",
                line("run", options={"method": self.info.name, "model": budget.model, "data": budget.data}),
            )
        graph = trace(model, batches[0])
        budget = self.bounded(budget, graph)
        options, widths = self.options(budget), _activation_bits(model, budget)
        prepared = prepare_model(model, graph, options, lambda: batches, _weight_bits(model, budget), options.clip)
        activations = None if widths is None else Activations(widths, [(batch,) for batch in batches])
        plan = partial(self._plan, Subject(model, graph), budget)
        walk = LayerWalk(model, graph, options, plan, lambda: batches, budget.seed, activations)
        solve, solve_block = self.solver(options), self.block_solver(options)
        for unit in units(walk, () if solve_block is None else residual_blocks(model, graph)):
            bring(walk, unit, solve, solve_block)
        if prepared.dense is not None:
            correct_biases(model, prepared.dense, graph, batches, means=prepared.means)
        return model

    def prepared(self, subject: Subject, budget: Budget) -> Subject:
        """The network equalized, where that takes no data."""
        from compression.posttraining.prepare import equalized

        return equalized(subject, self.options(budget))

    def _plan(self, subject: Subject, budget: Budget, dense: Dense | None) -> Allocation:
        from compression.posttraining.planning import plan

        options: LayerwiseOptions = self.options(budget)
        tables = subject.tables((), options.codebook == "channel")
        sparsity, bits = SPARSITY.value(budget.asks), BITS.value(budget.asks)
        return plan(tables, sparsity, bits, budget.layers, options.codebook, options.clip, dense)

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """Sizes are those of the run where every layer has the same bits; errors are those of nearest rounding."""
        from compression.posttraining.prepare import unknown_before

        budget, options = self.bounded(budget, subject.graph), self.options(budget)
        subject = self.prepared(subject, budget)
        note = (
            "The error is that of rounding to nearest on the same grid; the method lowers that of the layers' outputs, "
            "which depends on the data."
        )
        forecast = allocation_forecast(
            subject, budget, self._plan(subject, budget, None), ACTIVATION_BITS, notes=(note, *unknown_before(options))
        )
        if options.allocation == "equal":
            return forecast
        spread = "Counted with the same bits for every layer: the run spends them by what flows into the layers."
        return replace(forecast, certainty="even", notes=(*forecast.notes, spread))

    def caveats(self, result: Mapping[str, Any]) -> list[str]:
        """What not to expect of zeros, where some were asked for."""
        dense = "budget" in result and not SPARSITY.value(result["budget"]["asks"])
        return [caveat for ask in self.asks if (caveat := ask.caveat()) and not (dense and ask is SPARSITY)]


def _weight_bits(model: nn.Module, budget: Budget) -> dict[str, int]:
    """Layer → the bit-width of its weight where all have the same, within its own bounds."""
    from compression.quant.tables import layer_weights

    equal = EqualBits(field=BITS.field)
    return equal.widths(budget.asks, budget.layers, list(layer_weights(model)))


def _activation_bits(model: nn.Module, budget: Budget) -> dict[str, int] | None:
    """Layer → the bit-width of its input; ``None``: activations stay in fp32."""
    from compression.quant.attach import quantizable_layers

    if ACTIVATION_BITS.value(budget.asks) is None:
        return None
    return ACTIVATION_BITS.widths(budget.asks, budget.layers, list(quantizable_layers(model)))
