"""The options of a method as a typed model, whose metadata is the form, the command line, the file and the docs table.

A method's options are a subclass of :class:`Options`::

    class RoundingOptions(Options):
        clip: Literal["mse", "max"] = Field("mse", description="Where weights saturate.")
        batches: Integer = Field(8, ge=1, le=100, description="Training batches that ranges are taken from.")
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le
from pydantic import AllowInfNan, BaseModel, ConfigDict, Strict, ValidationError

from compression.errors import CompressionError
from compression.reading import cut, short

Real = Annotated[float, Strict(), AllowInfNan(False)]
Integer = Annotated[int, Strict()]
PositiveNumber = Annotated[float, Strict(), AllowInfNan(False), Gt(0)]
"""Types of options that convert nothing; the limits of numbers are those of their field."""


@dataclass(frozen=True)
class Option:
    """One option as forms, ``--option``, ``methods --json`` and the docs show it.

    ``choices`` are the values allowed, ``low`` and ``high`` the range of a number; ``mapping``: numbers by name are
    allowed too. ``help`` says in a sentence what it does. ``shared``: other methods have it too. ``title``: its name in
    plain words, where the name itself is not that.
    """

    name: str
    default: Any
    help: str
    choices: tuple[Any, ...] = ()
    low: float = -math.inf
    high: float = math.inf
    mapping: bool = False
    shared: bool = False
    title: str = ""

    @property
    def label(self) -> str:
        """What a form calls it: its title, else its name in words."""
        return self.title or self.name.replace("_", " ").capitalize()

    @property
    def simple(self) -> bool:
        """Whether a value is a single word or number, so that one field of a form can hold it."""
        return not isinstance(self.default, (Mapping, tuple))

    @property
    def allowed(self) -> str:
        """What a value may be, as the end of a sentence that begins with "must be"."""
        if self.choices:
            return "one of " + ", ".join(map(_spelled, self.choices)) + (", or numbers by name" if self.mapping else "")
        if isinstance(self.default, Mapping):
            return "an object of names and numbers"
        if isinstance(self.default, tuple):
            return "a list of names"
        kind = "a whole number" if isinstance(self.default, int) else "a number"
        return (
            f"{kind} in {self.low:g}..{self.high:g}" if math.isfinite(self.high) else f"{kind} of at least {self.low:g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As ``methods --json`` gives it."""
        default = list(self.default) if isinstance(self.default, tuple) else self.default
        plain: dict[str, Any] = {"default": default, "help": self.help}
        if self.choices:
            return {**plain, "choices": list(self.choices)}
        limits = {"low": self.low, "high": self.high}
        return {**plain, **{name: value for name, value in limits.items() if math.isfinite(value)}}


class Options(BaseModel):
    """The options of a method; every field has a default and a ``description``, numbers have ``ge`` and ``le``.

    A ``title`` is its name in forms, where the field's name is not plain words.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def read(cls, options: Mapping[str, Any], method: str) -> Self:
        """The options that a budget gives ``method``, the others at their defaults.

        Raises:
            CompressionError: naming the option and what it may be.
        """
        try:
            return cls(**options)
        except ValidationError as error:
            raise CompressionError(f"{method}: {cls._refusal(error, options)}") from error

    @classmethod
    def _refusal(cls, error: ValidationError, options: Mapping[str, Any]) -> str:
        """What is wrong with the first option that is, and what it may be."""
        first = error.errors(include_url=False, include_context=False)[-1]
        name, table = str(first["loc"][0]), {option.name: option for option in cls.table()}
        if name not in table:
            return f"unknown option {short(name)}; known: {', '.join(table)}"
        option, value = table[name], options[name]
        if isinstance(value, Mapping) and (option.mapping or isinstance(option.default, Mapping)):
            return f"{name}.{cut(str(first['loc'][-1]))} must be a positive number, not {short(first['input'])}"
        shown = _spelled(value) if option.choices else short(value)
        return f"{name} must be {option.allowed}, not {shown}"

    @classmethod
    def table(cls) -> tuple[Option, ...]:
        """Every option, in the order of the fields; those of a model that it extends are shared."""
        hints = typing.get_type_hints(cls)
        shared = {name for kind in cls.__mro__[1:] if issubclass(kind, Options) for name in kind.model_fields}
        return tuple(_option(name, hints[name], field, name in shared) for name, field in cls.model_fields.items())


def _option(name: str, hint: Any, field: Any, shared: bool) -> Option:
    kinds = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    choices: tuple[Any, ...] = ()
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            choices += typing.get_args(kind)
    default = field.get_default(call_default_factory=True)
    if isinstance(default, bool):
        choices = (True, False)
    low = next((float(each.ge) for each in field.metadata if isinstance(each, Ge)), -math.inf)  # type: ignore[arg-type]
    high = next((float(each.le) for each in field.metadata if isinstance(each, Le)), math.inf)  # type: ignore[arg-type]
    mapping = bool(choices) and any(typing.get_origin(kind) not in (None, Literal) for kind in kinds)
    return Option(name, default, field.description or "", choices, low, high, mapping, shared, field.title or "")


def _spelled(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else cut(value) if isinstance(value, str) else short(value)
