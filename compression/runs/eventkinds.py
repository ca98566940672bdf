"""The types of what an event holds, by its kind; :mod:`.events` defines what each means."""

from __future__ import annotations

from typing import Any, Literal, NotRequired

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from compression.points import Point
from compression.reading import Measured, Number, Seconds, Text, Whole, typed


class _Common(TypedDict):
    t: Seconds
    attempt: Whole
    kind: Text
    step: Whole
    epoch: Number


class _Any(_Common):
    """What every event may have: ``phase`` and ``split`` distinguish those of one step."""

    phase: NotRequired[Text]
    split: NotRequired[Text]


class _State(_Any):
    state: Literal["queued", "running", "paused", "done", "failed", "cancelled", "lost"]
    error: NotRequired[Text | None]


class _Plan(_Any):
    total_steps: Whole
    unit: NotRequired[Text]
    stages: NotRequired[dict[str, Number]]
    units: NotRequired[Whole]
    removes: NotRequired[Whole | None]


class _Phase(_Common):
    phase: Text


class _Step(_Any):
    loss: NotRequired[Measured]
    score: NotRequired[Measured]
    accuracy: NotRequired[Measured]
    lr: NotRequired[Measured]
    error: NotRequired[Measured]


class _Joint(TypedDict):
    units: Whole
    rate: Measured
    uniform: Measured
    alpha: Measured
    hh: Measured
    ch: Measured
    cosine: Measured
    descent: Measured
    eta: NotRequired[Measured]
    allowed: Measured
    layers: dict[str, list[Measured]]


class _Group(_Any):
    units: NotRequired[dict[str, Whole]]
    sizes: NotRequired[dict[str, Whole]]
    layers: NotRequired[dict[str, list[Text]]]
    removed: NotRequired[dict[str, list[Whole]]]
    until: NotRequired[Whole]
    chosen: NotRequired[dict[str, list[tuple[Whole, Measured]]]]
    spared: NotRequired[dict[str, list[Whole]]]
    next_score: NotRequired[Measured]
    joint: NotRequired[dict[str, _Joint]]


class _Log(_Any):
    message: Text


_ANY: TypeAdapter[Any] = TypeAdapter(_Any)
_KINDS: dict[str, TypeAdapter[Any]] = {
    "state": TypeAdapter(_State),
    "plan": TypeAdapter(_Plan),
    "phase": TypeAdapter(_Phase),
    "step": TypeAdapter(_Step),
    "point": TypeAdapter(Point),
    "group": TypeAdapter(_Group),
    "log": TypeAdapter(_Log),
}


def check_event(event: dict[str, Any], what: str) -> None:
    """Refuse an event that holds what none of its kind can; unknown kinds and further fields are passed over.

    Raises:
        CompressionError: naming the field; ``what`` names the file.
    """
    typed(_ANY, event, what)
    typed(_KINDS.get(event["kind"], _ANY), event, what)
