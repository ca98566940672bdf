"""What a method is. It turns a trained network, data and a budget into a compressed network, and describes itself.

Everything that a page, a card, the command line or a test shows of a method comes from the attributes and methods of
:class:`Method`; nothing outside this folder names one. A method is one file or folder here with an object ``METHOD``,
or a package of somebody else with an entry point in the group ``compression_explorer.methods``. The defaults below make
a plain method short: ``info``, ``asks`` and ``run`` are enough.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from compression.asks import (
    AMOUNTS,
    OPTIONS,
    STANDING_FOR_EACH_OTHER,
    UNITS,
    Ask,
    BitsAsk,
    Sparsity,
    in_place_of_others,
    with_ends,
)
from compression.asks.bits import ACTIVATION_BITS, WEIGHT_BITS
from compression.budget import Budget
from compression.commands import line
from compression.errors import CompressionError
from compression.forecast import Forecast, allocation_forecast
from compression.options import Options
from compression.reading import cut, short
from compression.training.options import QuantizationOptions, TrainingOptions
from compression.training.setup import Compressed, Reporter, Setup, Stage

if TYPE_CHECKING:
    import torch
    from torch import nn

    from compression.forecast import Subject
    from compression.graph import Graph
    from compression.quant.allocation import Allocation

__all__ = ["Compressed", "Info", "Method", "Reporter", "Setup", "Stage"]

Family = Literal["structured", "unstructured", "quantization", "codebook", "low-rank"]


@dataclass(frozen=True)
class Info:
    """What a method says of itself.

    ``sentence``: what it does, one sentence in Markdown. ``family``: what it changes. ``slot``: its place in lists
    and in the palette, whose colours and markers the theme owns. ``trains``: whether it takes training steps, unless
    the options of a budget say otherwise (:meth:`Method.trains`). ``lesson``: the folder in ``lessons/`` that explains
    it best, to which pages link.
    ``views``: kinds of events that the page of a run has a view for.
    """

    name: str
    label: str
    sentence: str
    family: Family
    slot: int
    stages: tuple[Stage, ...] = ()
    paper: str | None = None
    lesson: str | None = None
    trains: bool = True
    views: tuple[str, ...] = ()


def _word(value: str | int | float) -> str:
    return cut(value) if isinstance(value, str) else short(value)


class Method(ABC):
    """One compression method."""

    info: ClassVar[Info]
    asks: ClassVar[tuple[Ask, ...]] = ()
    Config: ClassVar[type[Options]] = Options
    encodings: ClassVar[frozenset[str]] = frozenset({"uniform"})
    """Kinds of :mod:`compression.encodings` that its weights may be stored as."""

    # What it reads of a budget

    @property
    def removes_units(self) -> bool:
        """Whether whole units are removed, so that the network becomes narrower."""
        return any(isinstance(ask, Sparsity) and ask.target == UNITS for ask in self.asks)

    def ask(self, option: str) -> Ask | None:
        """The ask behind an option of the command line such as ``--bits``, if there is one."""
        return next((ask for ask in self.asks if ask.option == option), None)

    def options(self, budget: Budget) -> Any:
        """The options of a budget, as an instance of ``Config``.

        Raises:
            CompressionError: an unknown option, or a value it cannot have.
        """
        return self.Config.read(budget.options, self.info.name)

    def values(self, budget: Budget) -> dict[str, Any]:
        """Field → value of every ask.

        Raises:
            CompressionError: a value that an ask cannot have.
        """
        return {ask.field: ask.value(budget.asks) for ask in self.asks}

    def put(self, budget: Budget, option: str, value: Any) -> Budget:
        """The budget with the value of a command-line option such as ``--bits``, read or not, in place of what says the
        same in another way.

        Raises:
            CompressionError: an option that neither this method nor any other standard ask has, or a value that the
                ask cannot have.
        """
        self.check_options(option)
        ask = self.ask(option) or OPTIONS[option]
        return budget.replace(asks={**in_place_of_others(budget.asks, ask.field), ask.field: ask.accept(value)})

    def check_options(self, *options: str) -> None:
        """Refuse options of the command line that neither this method nor any standard ask has, or that contradict each
        other.

        Raises:
            CompressionError: naming the options that this method has, or the two of which one is to be given.
        """
        for option in options:
            if self.ask(option) is None and option not in OPTIONS:
                known = ", ".join(ask.option for ask in self.asks if ask.option)
                raise CompressionError(
                    f"no option {option}; besides those that --help lists, {self.info.name} has: {known}"
                )
        amounts = [option for option in options if (self.ask(option) or OPTIONS[option]).field in AMOUNTS]
        if len(amounts) > 1:
            raise CompressionError(f"{amounts[0]} and {amounts[1]} each say how much is removed: give one of them")

    def complete(self, budget: Budget) -> Budget:
        """The same budget with the method's name and the value of every ask written out; what it does not read stays.

        Raises:
            CompressionError: a value that an ask cannot have.
        """
        return budget.replace(method=self.info.name, asks={**budget.asks, **self.values(budget)})

    def convert(self, budget: Budget, source: Method) -> Budget:
        """A budget of the method ``source`` as one of this method: what both ask for stays, or is converted.

        What this method does not reach (its fewest bits) is brought to what it does. Bounds of single layers and
        groups stay, and options that both have (of one name, meaning and range, whatever
        their defaults); other options, learning rates and whatever else ``source`` alone asks do not.

        Raises:
            CompressionError: a value that an ask cannot have.
        """
        asks = {ask.field: ask.value(budget.asks) for ask in source.asks if ask.control() is not None}
        theirs, own = ({o.name: replace(o, default=None) for o in each.Config.table()} for each in (source, self))
        options = {
            name: value for name, value in budget.options.items() if name in own and own[name] == theirs.get(name)
        }
        changes: dict[str, Any] = {} if source is self else {"options": options, "lr": None}
        converted = {ask.field: ask.nearest(asks) for ask in self.asks if ask.control() is not None}
        near = {ask.layer_bound: ask.nearest_bound for ask in self.asks}
        layers = {
            layer: {field: near[field](bound) if field in near else bound for field, bound in entry.items()}
            for layer, entry in budget.layers.items()
        }
        return budget.replace(method=self.info.name, asks=converted, layers=layers, **changes)

    def unused(self, budget: Budget) -> list[str]:
        """Fields of the budget that are set and that this method does not read."""
        read = {ask.field for ask in self.asks}
        if read & {*STANDING_FOR_EACH_OTHER}:
            read |= {*STANDING_FOR_EACH_OTHER}
        fields = [name for name, value in budget.asks.items() if value and name not in read]
        bounds = {ask.layer_bound for ask in self.asks}
        layers = {name for entry in budget.layers.values() for name in entry} - bounds
        groups = bool(budget.groups) and not any(ask.group_bound for ask in self.asks)
        return [*fields, *(["groups"] if groups else []), *(f"layers.{name}" for name in sorted(layers))]

    def bounded(self, budget: Budget, graph: Graph) -> Budget:
        """The budget with the bounds that its option ``ends`` gives the first and the last layer of a network.

        They are the first and the last to be computed of those that take part. Bounds that the budget has itself win;
        what plans, counts and trains reads this budget, so that they all mean the same bits.
        """
        options = self.options(budget)
        if not isinstance(options, QuantizationOptions) or options.ends == "same":
            return budget
        from compression.counting.cost import inputs_in_float

        in_float = inputs_in_float(graph)
        modules = [layer.name for layer in graph.layers if layer.weight == f"{layer.name}.weight"]
        layers = [layer for layer in modules if layer not in options.skipped]
        weights = dict.fromkeys([*layers[:1], *layers[-1:]])
        ends = {WEIGHT_BITS: [*weights], ACTIVATION_BITS: [layer for layer in weights if layer not in in_float]}
        return budget.replace(layers=with_ends(self.asks, budget.asks, budget.layers, ends))

    def bounded_setup(self, setup: Setup) -> Setup:
        """The same setup with its budget :meth:`bounded`."""
        return replace(setup, budget=self.bounded(setup.budget, setup.graph))

    def check_own_loop(self, budget: Budget) -> None:
        """Refuse what :meth:`prepare` cannot know without the order in which a network computes its layers.

        Raises:
            CompressionError: naming the option, and what to set in its place.
        """
        self.check_budget(budget)
        options = self.options(budget)
        if isinstance(options, QuantizationOptions) and options.ends != "same":
            raise CompressionError(
                "ends: in a loop of your own the first and the last layer are not known: give them bounds in the "
                'budget\'s "layers", and leave this option out'
            )

    def trains(self, budget: Budget) -> bool:
        """Whether a run of this budget takes training steps; it may then have options that are wrong."""
        return self.info.trains

    # Before a run

    def check_budget(self, budget: Budget) -> None:
        """Refuse what is wrong in a budget whatever the network.

        Raises:
            CompressionError: naming the ask or option and what it may be.
        """
        self.options(budget)
        for ask in self.asks:
            ask.value(budget.asks)
            ask.check_bounds(budget.asks, budget.layers)

    def check(self, setup: Setup) -> None:
        """Refuse what this network, its data or the length of the run cannot give; changes nothing.

        Raises:
            CompressionError: naming the field, and the layer or group.
        """
        self.check_budget(setup.budget)
        options = self.options(setup.budget)
        if isinstance(options, TrainingOptions) and options.distill_features > 0:
            from compression.training.distill import check_features

            check_features(setup)

    def further_layers(self, model: nn.Module) -> list[str]:
        """Names beside those of convolution and linear layers that bounds of single layers may have."""
        return []

    @property
    def allocates(self) -> bool:
        """Whether zeros, bits and steps follow from the trained weights alone (:meth:`allocation`)."""
        return type(self).allocation is not Method.allocation

    def prepared(self, subject: Subject, budget: Budget) -> Subject:
        """The subject whose weights :meth:`allocation` is of, where the method changes weights before it allocates."""
        return subject

    def allocation(self, subject: Subject, budget: Budget) -> Allocation:
        """Zeros, bits and step of every layer, from the trained weights alone (those of :meth:`prepared`).

        Raises:
            CompressionError: the budget cannot be met, or only training decides.
        """
        raise CompressionError(f"{self.info.label} decides while it trains: there is no allocation before a run")

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        """What the budget comes to for this network, from its shapes and weights alone.

        Raises:
            CompressionError: the budget cannot be met.
        """
        if not self.allocates:
            return Forecast.unknown(f"What a budget comes to with {self.info.label} is known after its run.")
        activations = self.ask("--activation-bits")
        budget = self.bounded(budget, subject.graph)
        allocation = self.allocation(subject, budget)
        subject = self.prepared(subject, budget)
        return allocation_forecast(subject, budget, allocation, cast("BitsAsk | None", activations))

    # The run, and one's own loop

    @abstractmethod
    def run(self, setup: Setup, report: Reporter) -> Compressed:
        """Compress ``setup.model`` (in place) within ``setup.budget``.

        Raises:
            CompressionError: the budget cannot be met. RunFailed: training diverged.
        """

    def prepare(self, model: nn.Module, budget: Budget, calibration: Iterable[torch.Tensor] | None = None) -> nn.Module:
        """Make ``model`` (in place) ready for the caller's own training loop, as a run would begin.

        Raises:
            CompressionError: this method runs as a whole only.
        """
        raise CompressionError(
            f"{self.info.label} runs as a whole only, not in a loop of your own; run it",
            line("run", options={"method": self.info.name, "model": budget.model, "data": budget.data}),
        )

    # Words

    def to_dict(self) -> dict[str, Any]:
        """What it says of itself, as ``methods --json`` gives it."""
        info = self.info
        return {
            "name": info.name,
            "label": info.label,
            "sentence": info.sentence,
            "paper": info.paper,
            "lesson": info.lesson,
            "family": info.family,
            "trains": info.trains,
            "asks": [{"field": ask.field, "option": ask.option, "help": ask.help} for ask in self.asks],
            "options": {option.name: option.to_dict() for option in self.Config.table()},
            "encodings": sorted(self.encodings),
        }

    def request(self, budget: Budget) -> str:
        """What is asked for in a few words, as titles have it: the asks, and options that are not at their defaults."""
        usual = {option.name: option.default for option in self.Config.table()}
        parts = [words for ask in self.asks if (words := ask.words(ask.value(budget.asks)))]
        parts += [
            f"{name} {_word(value)}"
            for name, value in budget.options.items()
            if isinstance(value, (str, int, float)) and value != usual.get(name)
        ]
        return ", ".join(parts)

    def describe(self, budget: Budget) -> str:
        """What is asked for, in words: nothing that the method does not do."""
        parts = [words for ask in self.asks if (words := ask.words(ask.value(budget.asks)))]
        bounded = len(budget.layers) + (len(budget.groups) if any(ask.group_bound for ask in self.asks) else 0)
        if bounded:
            parts.append(f"{bounded} {'bound' if bounded == 1 else 'bounds'} of single layers or groups")
        parts += [
            f"{name} {_word(value)}" for name, value in budget.options.items() if isinstance(value, (str, int, float))
        ]
        trained = f"{budget.epochs:g} epochs, seed {budget.seed}" if self.trains(budget) else "nothing is trained"
        return f"{', '.join(parts)}; {trained}" if parts else trained

    def caveats(self, result: Mapping[str, Any]) -> list[str]:
        """What not to expect of the compressed network, a sentence each; ``result`` is that of the run."""
        return [ask.caveat() for ask in self.asks if ask.caveat()]
