"""Which recorded operations matter: those that something returned depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from compression.graph.recording import Call, Recording, Ref


def live_calls(recording: Recording) -> list[Call]:
    """The calls, in order, without those whose results nobody uses (attention weights that are not returned, a cache).

    What is written in place counts for every tensor that shares the storage.
    """
    needed = {ref.id for ref in recording.outputs}
    live = []
    for call in reversed(recording.calls):
        written = {ref.id for ref in call.out if ref is not None}
        for write in call.writes:
            written.update(ref.id for ref in (*write.aliases, write.after) if ref is not None)
        if written & needed:
            live.append(call)
            needed.update(ref.id for ref in _refs((*call.args, *call.kwargs.values())))
    return live[::-1]


def _refs(arguments: tuple[Any, ...]) -> Iterator[Ref]:
    for argument in arguments:
        if isinstance(argument, Ref):
            yield argument
        elif isinstance(argument, tuple):
            yield from _refs(argument)
