"""The budget: what the user asks for. The class is the file format, and what a form fills in.

Version 2 of the file keeps what is asked of a method by field name in ``asks`` (:mod:`compression.asks`). Version 1 had
six of these fields beside the others; it is read for ever, and Python may write a budget in that way.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from typing_extensions import TypedDict

from compression.asks import AMOUNTS, GROUP_BOUNDS, LAYER_BOUNDS, STANDARD, Sparsity, in_place_of_others
from compression.bounds import (
    HIGHEST_DECAY,
    HIGHEST_RATE,
    MOST_BATCH,
    MOST_EPOCHS,
    check_classes,
    check_input,
    check_one_of,
    check_positive,
    check_within,
)
from compression.errors import CompressionError
from compression.preprocess import Preprocess
from compression.reading import Name, Number, Signed, Text, Whole, check_plain, cut, read_object, refuse, short, typed
from compression.representation import Represented

VERSION = 2
OPTIMIZERS = ("sgd", "adam", "adamw")
OWN_WEIGHTS, INITIAL_WEIGHTS, PUBLISHED_WEIGHTS = "function", "initial", "pretrained"
NO_FILES = (OWN_WEIGHTS, INITIAL_WEIGHTS, PUBLISHED_WEIGHTS)
"""What ``weights`` says in the place of a file."""
LR_SCHEDULES = ("cosine", "constant")
PRECISIONS = ("auto", "fp32", "bf16")

Bounds = Mapping[str, Mapping[str, Any]]

VERSION_1: Mapping[str, Any] = {"sparsity": 0.5, "weight_bits": (4, 8), "activation_bits": None, "bits": 4.0}
"""What a file of version 1 means where it does not say."""

_CHECKS: Mapping[str, tuple[Callable[..., None], tuple[Any, ...]]] = {
    "input": (check_input, ()),
    "classes": (check_classes, ()),
    "epochs": (check_positive, (MOST_EPOCHS,)),
    "batch_size": (check_positive, (MOST_BATCH,)),
    "lr": (check_positive, (HIGHEST_RATE,)),
    "weight_decay": (check_within, (0, HIGHEST_DECAY)),
    "optimizer": (check_one_of, (OPTIMIZERS,)),
    "lr_schedule": (check_one_of, (LR_SCHEDULES,)),
    "precision": (check_one_of, (PRECISIONS,)),
}
"""Field → its check, called with the value, the field's name and these limits; ``None`` is not checked."""


class Budget(Represented, BaseModel):
    """Everything that determines a run. ``None`` means: the method's own default.

    ``method`` is empty for the usual one. ``asks`` holds what is asked by field (:mod:`compression.asks`), and may hold
    fields that only other methods read; ``Budget(sparsity=0.5)`` is short for ``Budget(asks={"sparsity": 0.5})``.
    ``options`` are those of the method alone. ``groups`` maps a group id to bounds such as ``{"sparsity": [lo, hi]}``;
    ``layers`` maps a layer name to any of ``weight_bits``, ``activation_bits`` (ranges) and ``sparsity`` (a share, of
    methods that zero single weights). ``input`` is (channels, height, width). ``weights`` names a file, or says
    ``function`` or ``initial`` of a model of one's own: those that its function returns count, or are only initial;
    ``pretrained``: those published for a model of torchvision, timm or the Hugging Face Hub.
    ``preprocess`` says how images are brought to the model's input (:mod:`compression.preprocess`); a file without it
    leaves that to the data.

    Raises:
        CompressionError: naming the field that is wrong, and what it may be.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Any = VERSION
    method: Text = ""
    model: Name = "resnet8"
    input: tuple[Whole, ...] | None = None
    classes: Whole | None = None
    weights: Text | None = None
    data: Name = "mnist5k"
    asks: Mapping[str, Any] = Field(default_factory=dict)
    groups: Bounds = Field(default_factory=dict)
    layers: Bounds = Field(default_factory=dict)
    epochs: Number = 4
    batch_size: Whole = 64
    optimizer: Text = "sgd"
    lr: Number | None = None
    lr_schedule: Text = "cosine"
    weight_decay: Number = 1e-4
    precision: Text = "auto"
    seed: Signed = 0
    options: Mapping[str, Any] = Field(default_factory=dict)
    preprocess: Mapping[str, Any] | None = None

    __repr__ = BaseModel.__repr__  # as it is written in Python

    def __init__(self, /, **fields: Any) -> None:
        """See the class for the fields; those of :data:`compression.asks.STANDARD` are taken into ``asks``."""
        try:
            super().__init__(**fields)
        except ValidationError as error:
            refuse(error, "")

    @model_validator(mode="before")
    @classmethod
    def _take_asks(cls, fields: dict[str, Any]) -> dict[str, Any]:
        """Move the fields that version 1 had beside the others into ``asks``, and refuse what is no field."""
        _check_version(fields.get("version", VERSION))
        known = [*cls.model_fields, *STANDARD]
        for name in fields:
            if name not in known:
                raise CompressionError(f"budget: unknown field {short(name)}; known: {', '.join(known)}")
        beside = {name: _plain(value) for name, value in fields.items() if name in STANDARD}
        others = {name: value for name, value in fields.items() if name not in STANDARD}
        asks = others.get("asks", {})
        if isinstance(asks, Mapping):
            others["asks"] = {name: _plain(value) for name, value in asks.items()} | beside
        return {**others, "version": VERSION}

    @field_validator(*_CHECKS)
    @classmethod
    def _check_limits(cls, value: Any, info: ValidationInfo) -> Any:
        check, limits = _CHECKS[str(info.field_name)]
        if value is not None:
            check(value, info.field_name, *limits)
        return value

    @field_validator("asks")
    @classmethod
    def _check_asks(cls, asks: Mapping[str, Any]) -> Mapping[str, Any]:
        if asks.get("sparsity", 0) is None and all(asks.get(other) is None for other in AMOUNTS):
            Sparsity().accept(None)  # it has to be a number where nothing else says how much is removed
        for name, value in asks.items():
            check_plain(value, name)
            if name in STANDARD:
                STANDARD[name](value)
        return {name: tuple(value) if isinstance(value, list) else value for name, value in asks.items()}

    @model_validator(mode="after")
    def _check_rest(self) -> Budget:
        check_plain(self.options, "options")
        if self.weights == "":
            raise CompressionError("weights must be the name of a file, not ''")
        Preprocess.read(self.preprocess)
        _check_bounds(self.groups, "groups", GROUP_BOUNDS)
        _check_bounds(self.layers, "layers", LAYER_BOUNDS)
        return self

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Budget:
        """Build a budget from parsed JSON of any version, or take it from a bundle's ``config.json``.

        Raises:
            CompressionError: naming the field that is unknown or impossible, and what it may be.
        """
        raw = raw["budget"] if isinstance(raw.get("budget"), Mapping) else raw
        if raw.get("version", 1) != 1 or "asks" in raw:
            return cls(**raw)
        defaults: dict[str, Any] = dict(VERSION_1)
        for name in raw:
            defaults = in_place_of_others(defaults, name)
        return cls(**{**defaults, **raw})

    @classmethod
    def load(cls, path: str | Path) -> Budget:
        """Read a budget file of any version.

        Raises:
            CompressionError: the file cannot be read, is no JSON object, or holds impossible values.
        """
        return cls.from_dict(read_object(path, "budget file"))

    def to_dict(self) -> dict[str, Any]:
        """The budget as plain JSON values, all fields present but a ``preprocess`` that is not set."""
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        plain: dict[str, Any] = json.loads(json.dumps(fields))  # lists where there were tuples
        if plain["preprocess"] is None:
            del plain["preprocess"]
        return plain

    def replace(self, **changes: Any) -> Budget:
        """A copy with some fields changed, checked again; a field of ``asks`` may be named like any other."""
        return Budget(**{**{name: getattr(self, name) for name in type(self).model_fields}, **changes})


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def _check_version(version: Any) -> None:
    if type(version) is not int or not 1 <= version <= VERSION:
        raise CompressionError(
            f"budget version {short(version)} is not known here; this program reads versions 1 to {VERSION}"
        )


def _check_bounds(bounds: Bounds, field: str, checks: Mapping[str, Callable[[Any, str], None]]) -> None:
    for subject, entry in bounds.items():
        for name, value in entry.items():
            if name not in checks:
                raise CompressionError(
                    f"{field}.{cut(subject)}: unknown field {short(name)}; known: {', '.join(checks)}"
                )
            checks[name](value, f"{field}.{cut(subject)}.{name}")


_Pair = tuple[Number, Number]


class _StandardAsks(TypedDict, total=False):
    """The types of :data:`compression.asks.STANDARD`, whichever method reads them."""

    sparsity: Number | None
    weight_bits: Number | _Pair
    activation_bits: Number | _Pair | None
    bits: Number | _Pair
    coded_bits: Number
    schedule: Mapping[str, Any]
    lr_quant: Number | None
    macs: Number | None
    bops: Number | None


_ASK_KINDS = TypeAdapter(_StandardAsks)


@functools.cache
def _kinds() -> TypeAdapter[Any]:
    hints = get_type_hints(Budget, include_extras=True)
    fields = {name: hints[name] for name in Budget.model_fields}
    return TypeAdapter(TypedDict("Budget", fields, total=False))  # type: ignore[operator]


def check_kinds(raw: Mapping[str, Any], what: str) -> None:
    """Refuse a budget in plain JSON in which a known field holds the wrong type of value; values are not looked at.

    Raises:
        CompressionError: naming the field.
    """
    typed(_kinds(), {name: value for name, value in raw.items() if name not in STANDARD}, what)
    for asks in (raw, raw.get("asks", {})):
        typed(_ASK_KINDS, {name: value for name, value in asks.items() if name in STANDARD}, what)
