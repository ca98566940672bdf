"""The story of a run, one JSON object a line: an append-only file with one writer, from which every chart is drawn.

A line is ``{"v": 1, "t": seconds since 1970, "attempt", "kind", "step", "epoch", ...}``. An attempt begins with a
``state``, and ends at the first line of a later attempt. What each kind adds:

=========  ============================================================================================
``state``  ``state`` (running, done, failed, cancelled, paused; queued when it is resumed), ``error`` when failed,
           ``pid``, ``host`` and the digest of the ``spec`` when running, ``result_sha256`` when done
``plan``   ``total_steps`` and whatever facts the method gives
``phase``  ``phase``, the stage that begins at ``step``
``step``   cheap figures of one training step; written once a second or every 50 steps, whichever comes first, and for
           the step of a decision and the next one
``point``  the fields of :class:`compression.points.Point`
``group``  before a method that removes units begins: ``sizes``, group id -> how many units it has, and ``layers``,
           group id -> layers that make them. In the end: ``units``, group id -> number of units removed, and
           ``removed``, group id -> which. In between what a method decided at ``step``: ``removed``, units that are
           zero from now on; ``chosen``, group id -> ``[[unit, score], ...]`` that fade until they are zero after step
           ``until``; whatever else it tells of its choice
``log``    ``message``
=========  ============================================================================================
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from compression.errors import CompressionError
from compression.points import with_score
from compression.reading import MissingFile, NotJson, json_object, short
from compression.runs.eventkinds import check_event
from compression.runs.lines import backwards, forwards

VERSION = 1
MOST_TORN = 1000
"""Lines that are no events: a killed writer leaves one of them."""
_STATE = b'"state"'

Event = dict[str, Any]


def read_events(path: str | Path, offset: int = 0) -> tuple[list[Event], int]:
    """Events from byte ``offset`` on, and the offset to continue from next time.

    A last line without its end is left for the next call; a line torn by a killed writer is passed over, and so is one
    that an attempt wrote after a later one had begun.

    Raises:
        CompressionError: an event was written by a version of the format not known here, or holds what none
            can; or the file is no plain file, one of more than 128 MB, or damaged throughout.
    """
    events: list[Event] = []
    unreadable = 0
    begun = 0
    try:
        if offset:
            begun = max((event["attempt"] for event in _states(path, before=offset)), default=0)
        for line in forwards(path, offset):
            offset += len(line)
            if (event := _parse(line, path)) is not None:
                events.append(event)
            elif (unreadable := unreadable + 1) > MOST_TORN:
                raise CompressionError(f"events file {path} is damaged: {MOST_TORN:,} of its lines are no events")
    except MissingFile:
        pass
    return list(_in_turn(events, begun)), offset


def last_state(path: str | Path) -> str | None:
    """The last state of the last attempt; None when there is none.

    Raises:
        CompressionError: see :func:`read_events`.
    """
    last: Event | None = None
    try:
        for event in _states(path):  # the last one of the latest attempt: what a superseded one wrote does not count
            if last is None or event["attempt"] > last["attempt"]:
                last = event
    except MissingFile:
        return None
    return None if last is None else str(last["state"])


def _states(path: str | Path, before: int | None = None) -> Iterator[Event]:
    """The state events in whole lines, the last one first, without parsing the others.

    ``before`` is the byte at which to begin, the end of the file otherwise.

    Raises:
        MissingFile, CompressionError: see :func:`.lines.backwards`.
    """
    for line in backwards(path, _STATE, before):
        event = _parse(line, path)
        if event is not None and event["kind"] == "state":
            yield event


def _in_turn(events: Iterable[Event], begun: int = 0) -> Iterator[Event]:
    """Events without those that an attempt wrote when a later one had begun; ``begun`` is the last known before."""
    for event in events:
        if event["attempt"] >= begun:
            begun = event["attempt"]
            yield event


def last_attempts(events: Iterable[Event]) -> list[Event]:
    """Events in the order of their steps, without those that a later attempt repeated.

    Of each kind and step the last attempt stays. Points of one step are distinguished by their phase and split: a final
    one does not replace one of the training.
    """
    events = list(events)
    latest: dict[tuple[Any, ...], int] = {}
    for event in events:
        latest[_place(event)] = max(latest.get(_place(event), 0), event["attempt"])
    last = [event for event in events if event["attempt"] == latest[_place(event)]]
    return sorted(last, key=lambda event: event["step"])


def _place(event: Event) -> tuple[Any, ...]:
    return event["kind"], event["step"], event.get("phase"), event.get("split")


def _parse(line: bytes, path: str | Path) -> Event | None:
    """The event of a line; None of a line that a killed writer has torn.

    Raises:
        CompressionError: naming the field that holds what no event can.
    """
    what = f"events file {path}"
    try:
        event = json_object(line, what)
    except NotJson:
        return None
    if event.get("v") != VERSION:
        raise CompressionError(f"{path} holds events of version {short(event.get('v'))}; this program reads {VERSION}")
    check_event(event, what)
    return with_score(event)
