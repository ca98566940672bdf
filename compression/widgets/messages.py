"""What a panel's front end may send: checked in full, since a notebook's page is not the notebook's author."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from compression.reading import Name, Number, Text, Whole, typed

_STRICT = ConfigDict(extra="forbid")
Action = Literal["start", "pause", "resume", "cancel"]


class Move(TypedDict):
    """A control was moved: an ask or a field of the training by its name; ``None`` switches an optional ask off.

    ``view`` and ``n`` come back with the answer: which display of the panel it was, and its how-manieth message.
    """

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    kind: Literal["move"]
    view: Text
    n: Whole
    field: Name
    value: Number | tuple[Number, Number] | None


class Choose(TypedDict):
    """Another method."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    kind: Literal["method"]
    view: Text
    n: Whole
    name: Name


class Use(TypedDict):
    """The budget of a run into the form."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    kind: Literal["use"]
    view: Text
    n: Whole
    run: Name


class Press(TypedDict):
    """A button."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    kind: Literal["press"]
    action: Action


Message = Move | Choose | Use | Press
_MESSAGE: TypeAdapter[Any] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def read(content: Any) -> Message:
    """A message from the front end.

    Raises:
        CompressionError: it is none, naming the field.
    """
    message: Message = typed(_MESSAGE, content, "message")
    return message
