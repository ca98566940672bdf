"""The types of what ``spec.json`` holds; which names of other runs count, :mod:`.paths` decides."""

from __future__ import annotations

from typing import Annotated, Any, NotRequired

from pydantic import AliasChoices, Field, TypeAdapter
from typing_extensions import TypedDict

from compression.budget import check_kinds
from compression.reading import Number, Seconds, Signed, Text, Whole, typed
from compression.tasks import Metric

MOST_THREADS = 4096
MOST_GPUS = 64
MOST_GRADIENT_BITS = 8


class _Subject(TypedDict):
    metric: NotRequired[Metric | None]


class _Planned(TypedDict):
    id: Text
    budget: dict[str, Any]
    subject: NotRequired[_Subject | None]


class _Find(TypedDict):
    min_score: Annotated[Number, Field(validation_alias=AliasChoices("min_score", "min_accuracy"))]
    planned: Annotated[list[_Planned], Field(min_length=1)]


class _Spec(TypedDict):
    """The fields of ``spec.json`` that this program reads."""

    budget: dict[str, Any]
    created: Seconds
    threads: NotRequired[Annotated[Whole, Field(le=MOST_THREADS)] | None]
    device: NotRequired[Text]
    gpus: NotRequired[Annotated[Whole, Field(ge=1, le=MOST_GPUS)]]
    gradient_bits: NotRequired[Annotated[Whole, Field(ge=1, le=MOST_GRADIENT_BITS)]]
    priority: NotRequired[Signed]
    sweep: NotRequired[Text | None]
    children: NotRequired[list[Text]]
    find: NotRequired[_Find]
    subject: NotRequired[_Subject | None]
    job: NotRequired[Text]
    key: NotRequired[Text]
    asked: NotRequired[dict[str, Any]]


_SPEC = TypeAdapter(_Spec)


def check_spec(raw: dict[str, Any], what: str) -> None:
    """Refuse a spec in which a known field holds the wrong type of value; further fields are passed over.

    Raises:
        CompressionError: naming the field; ``what`` names the file.
    """
    typed(_SPEC, raw, what)
    check_kinds(raw["budget"], f"{what}: budget")
