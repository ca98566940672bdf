"""Which recorded operations matter: those that something returned depends on."""

from __future__ import annotations

from compression.graph.flow import refs
from compression.graph.recording import Call, Recording


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
            needed.update(ref.id for ref in refs(call))
    return live[::-1]
