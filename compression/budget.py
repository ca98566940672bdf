"""The budget: what the user asks for, as one frozen dataclass that is also the file format and the form."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from compression.bounds import (
    HIGHEST_BITS,
    HIGHEST_DECAY,
    HIGHEST_RATE,
    LOWEST_BITS,
    MOST_BATCH,
    MOST_EPOCHS,
    MOST_PERIODS,
    check_bits,
    check_classes,
    check_input,
    check_one_of,
    check_positive,
    check_share,
)
from compression.errors import CompressionError
from compression.preprocess import Preprocess
from compression.reading import (
    Name,
    Number,
    Signed,
    Text,
    Whole,
    check_plain,
    cut,
    is_number,
    read_object,
    short,
    typed,
)

OPTIMIZERS = ("sgd", "adam", "adamw")
OWN_WEIGHTS, INITIAL_WEIGHTS = "function", "initial"
LR_SCHEDULES = ("cosine", "constant")
PRECISIONS = ("auto", "fp32", "bf16")

BitRange = tuple[Number, Number]
Bounds = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Schedule:
    """The four GETA stages as fractions of the run; what the first three leave over is the cool-down.

    ``projection_periods`` is B, the number of equal reductions of the upper bit bound from ``start_bits`` down to the
    asked one; ``pruning_periods`` is P, the number of times redundant units are chosen (paper section 4, QASSO).
    """

    warmup: Number = 0.05
    projection: Number = 0.1
    projection_periods: Whole = 4
    joint: Number = 0.4
    pruning_periods: Whole = 6
    start_bits: Number = 16

    def __post_init__(self) -> None:
        _check_kinds(self, "schedule")


@dataclass(frozen=True)
class Budget:
    """Everything that determines a run. ``None`` means: the method's own default.

    ``sparsity`` is a share in [0, 1): of prunable units for structured methods (GETA), of conv/linear weights for
    others (OPQ). ``weight_bits`` and ``activation_bits`` are ranges (low, high) of the bit-widths at the end of a GETA
    run; ``bits`` is OPQ's average number of value bits per surviving weight. Baselines that give all layers the same
    take ⌊``bits``⌋, structured ones the upper end of ``weight_bits``. ``groups`` maps a group id to ``{"sparsity": [lo,
    hi]}``; ``layers`` maps a layer name to any of ``weight_bits``, ``activation_bits`` (ranges) and ``sparsity`` (a
    share, of methods that zero single weights).
    ``input`` is (channels, height, width). ``weights`` names a file, or says ``function`` or ``initial`` of a model of
    one's own: those that its function returns count, or are mere initial ones. ``preprocess`` says how images are
    brought to the model's input (:mod:`compression.preprocess`); a file without it leaves that to the data.
    """

    version: Whole = 1
    method: Name = "geta"
    model: Name = "resnet8"
    input: tuple[Whole, ...] | None = None
    classes: Whole | None = None
    weights: Text | None = None
    data: Name = "mnist5k"
    sparsity: Number = 0.5
    weight_bits: BitRange = (4, 8)
    activation_bits: BitRange | None = None
    bits: Number = 4.0
    groups: Bounds = field(default_factory=dict)
    layers: Bounds = field(default_factory=dict)
    epochs: Number = 4
    batch_size: Whole = 64
    optimizer: Text = "sgd"
    lr: Number | None = None
    lr_quant: Number | None = None
    lr_schedule: Text = "cosine"
    weight_decay: Number = 1e-4
    precision: Text = "auto"
    seed: Signed = 0
    schedule: Schedule = field(default_factory=Schedule)
    options: Mapping[str, Any] = field(default_factory=dict)
    preprocess: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("input", "weight_bits", "activation_bits"):
            value = getattr(self, name)
            if isinstance(value, list):
                object.__setattr__(self, name, tuple(value))
        _validate(self)

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Budget:
        """Build a budget from parsed JSON, or take it from a bundle's ``config.json``.

        Unknown fields and impossible values are refused by name.

        Raises:
            CompressionError: naming the field and what it may be.
        """
        raw = raw["budget"] if isinstance(raw.get("budget"), Mapping) else raw
        values = _known(raw, cls, "budget")
        if isinstance(values.get("schedule"), Mapping):
            values["schedule"] = Schedule(**_known(values["schedule"], Schedule, "schedule"))
        return cls(**values)

    @classmethod
    def load(cls, path: str | Path) -> Budget:
        """Read a budget file.

        Raises:
            CompressionError: the file cannot be read, is no JSON object, or holds impossible values.
        """
        return cls.from_dict(read_object(path, "budget file"))

    def to_dict(self) -> dict[str, Any]:
        """The budget as plain JSON values, all fields present but a ``preprocess`` that nobody said."""
        plain: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(self)))  # lists where there were tuples
        if plain["preprocess"] is None:
            del plain["preprocess"]
        return plain

    def replace(self, **changes: Any) -> Budget:
        """A copy with some fields changed, checked again."""
        return dataclasses.replace(self, **changes)


def _known(raw: Mapping[str, Any], cls: type, what: str) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(cls)]
    for name in raw:
        if name not in names:
            raise CompressionError(f"{what}: unknown field {short(name)}; known: {', '.join(names)}")
    return dict(raw)


@functools.cache
def _kinds(cls: Any) -> TypeAdapter[Any]:
    """The types of a dataclass's fields, without its constructor."""
    hints = get_type_hints(cls, include_extras=True)
    return TypeAdapter(TypedDict(cls.__name__, {**hints, "schedule": Any}, total=False))  # type: ignore[operator]


def check_kinds(raw: Mapping[str, Any], what: str) -> None:
    """Refuse a budget in plain JSON in which a known field holds the wrong type of value; values are not looked at.

    Raises:
        CompressionError: naming the field.
    """
    typed(_kinds(Budget), raw, what)
    typed(_kinds(Schedule), raw.get("schedule", {}), f"{what}.schedule")


def _check_kinds(instance: Budget | Schedule, what: str) -> None:
    """Refuse a field that holds another type of value than its annotation says."""
    values = {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}
    kind: Any = type(instance)
    typed(_kinds(kind), values, what)


def _validate(budget: Budget) -> None:
    if type(budget.version) is not int or budget.version != 1:
        raise CompressionError(
            f"budget version {short(budget.version)} is not known here; this program reads version 1"
        )
    _check_kinds(budget, "")
    if not isinstance(budget.schedule, Schedule):
        raise CompressionError(f"schedule must be an object of names and values, not {short(budget.schedule)}")
    check_plain(budget.options, "options")
    check_share(budget.sparsity, "sparsity")
    check_bits(budget.weight_bits, "weight_bits")
    if budget.activation_bits is not None:
        check_bits(budget.activation_bits, "activation_bits")
    if not LOWEST_BITS <= budget.bits <= HIGHEST_BITS:
        raise CompressionError(f"bits must lie in {LOWEST_BITS}..{HIGHEST_BITS}, not {budget.bits!r}")
    for name, most in (("epochs", MOST_EPOCHS), ("batch_size", MOST_BATCH)):
        check_positive(getattr(budget, name), name, most)
    for name in ("lr", "lr_quant"):
        if getattr(budget, name) is not None:
            check_positive(getattr(budget, name), name, HIGHEST_RATE)
    if not 0 <= budget.weight_decay <= HIGHEST_DECAY:
        raise CompressionError(f"weight_decay must lie in 0..{HIGHEST_DECAY:g}, not {budget.weight_decay!r}")
    if budget.weights == "":
        raise CompressionError("weights must be the name of a file, not ''")
    Preprocess.read(budget.preprocess)
    check_one_of(budget.optimizer, OPTIMIZERS, "optimizer")
    check_one_of(budget.lr_schedule, LR_SCHEDULES, "lr_schedule")
    check_one_of(budget.precision, PRECISIONS, "precision")
    if budget.classes is not None:
        check_classes(budget.classes, "classes")
    if budget.input is not None:
        check_input(budget.input, "input")
    _validate_bounds(budget)
    _validate_schedule(budget.schedule, budget)


def _validate_bounds(budget: Budget) -> None:
    for group, bounds in budget.groups.items():
        group = cut(group)
        for name, value in bounds.items():
            if name != "sparsity":
                raise CompressionError(f"groups.{group}: unknown field {short(name)}; known: sparsity")
            if not isinstance(value, (tuple, list)) or len(value) != 2 or not all(map(is_number, value)):
                raise CompressionError(f"groups.{group}.sparsity must be a pair [lo, hi], not {short(value)}")
            if not 0 <= value[0] <= value[1] <= 1:
                raise CompressionError(f"groups.{group}.sparsity must satisfy 0 <= lo <= hi <= 1, not {value!r}")
    for layer, bounds in budget.layers.items():
        layer = cut(layer)
        for name, value in bounds.items():
            if name in ("weight_bits", "activation_bits"):
                check_bits(value, f"layers.{layer}.{name}")
            elif name == "sparsity":
                check_share(value, f"layers.{layer}.sparsity")
            else:
                raise CompressionError(
                    f"layers.{layer}: unknown field {short(name)}; known: weight_bits, activation_bits, sparsity"
                )


def _validate_schedule(schedule: Schedule, budget: Budget) -> None:
    shares = {name: getattr(schedule, name) for name in ("warmup", "projection", "joint")}
    for name, value in shares.items():
        check_share(value, f"schedule.{name}")
    if sum(shares.values()) > 1:
        raise CompressionError(
            f"schedule: warmup + projection + joint must not exceed 1, but is {sum(shares.values()):g}"
        )
    for name in ("projection_periods", "pruning_periods"):
        value = getattr(schedule, name)
        if not 1 <= value <= MOST_PERIODS:
            raise CompressionError(f"schedule.{name} must be a whole number in 1..{MOST_PERIODS:,}, not {value!r}")
    highest = max(budget.weight_bits[1], budget.activation_bits[1] if budget.activation_bits else 0)
    if not highest <= schedule.start_bits <= HIGHEST_BITS:
        raise CompressionError(
            f"schedule.start_bits must lie between the asked upper bit bound {highest:g} and {HIGHEST_BITS}, "
            f"not {schedule.start_bits!r}"
        )
