"""What the server itself works out for its visitors: one large piece of work at a time, in bounded memory.

Weights, and what is made of them, are the only things on the pages that grow with a visitor's choice without end. All
of it goes through here: room for it is set aside first, what was made for others makes room, and what would take more
than the whole is refused.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeVar

import psutil

from compression.errors import CompressionError

T = TypeVar("T")

LIMIT = "COMPRESSION_LIVE_MB"
MOST_MB, SHARE = 2500, 0.25  # the default: this much, on small machines this share of the memory
WAIT_SECONDS = 20.0
WEIGHTS = 4  # bytes of a parameter


class TooLarge(CompressionError):
    """More memory than this server may take to answer at once; a separate job may."""


@dataclass(frozen=True)
class _Held:
    value: Any
    bytes: int


class Memory:
    """Room for at most ``limit`` bytes: of what is kept for the next visitor, and of the one piece being worked on."""

    def __init__(self, limit: int, wait: float = WAIT_SECONDS) -> None:
        self.limit = limit
        self._wait = wait
        self._held: OrderedDict[Hashable, _Held] = OrderedDict()  # the longest unused first
        self._index = threading.Lock()
        self._working = threading.RLock()

    @property
    def bytes(self) -> int:
        """What is kept."""
        with self._index:
            return sum(each.bytes for each in self._held.values())

    def fits(self, need: int) -> bool:
        """Is there ever so much room?"""
        return need <= self.limit

    @contextmanager
    def work(self, what: str, need: int) -> Iterator[None]:
        """Set ``need`` bytes aside for the block, after everybody who came before.

        Raises:
            TooLarge: there is never so much room.
            CompressionError: others took too long.
        """
        with self._turn(what, need):
            self._make_room(need)
            yield

    def hold(self, key: Hashable, what: str, need: int, make: Callable[[], T]) -> T:
        """What ``make`` returns, kept for whoever asks next until others need the room.

        Raises:
            CompressionError: as :meth:`work` and ``make`` do.
        """
        held = self._find(key)
        if held is None:
            with self._turn(what, need):
                held = self._find(key) or self._made(key, need, make)  # another visitor may have made it meanwhile
        value: T = held.value
        return value

    @contextmanager
    def _turn(self, what: str, need: int) -> Iterator[None]:
        if not self.fits(need):
            raise TooLarge(
                f"{what} is too large to answer live; measured in a job (it would take {need / 1e6:,.0f} MB of this "
                f"server's memory, which gives {self.limit / 1e6:,.0f} MB at most)"
            )
        if not self._working.acquire(timeout=self._wait):
            raise CompressionError(f"{what}: the server is busy with the networks of other visitors; try again soon")
        try:
            yield
        finally:
            self._working.release()

    def _made(self, key: Hashable, need: int, make: Callable[[], Any]) -> _Held:
        self._make_room(need)
        held = _Held(make(), need)
        with self._index:
            self._held[key] = held
        return held

    def clear(self) -> None:
        """Keep nothing."""
        with self._index:
            self._held.clear()

    def _find(self, key: Hashable) -> _Held | None:
        with self._index:
            if key in self._held:
                self._held.move_to_end(key)
            return self._held.get(key)

    def _make_room(self, need: int) -> None:
        while self.bytes + need > self.limit:
            with self._index:
                self._held.popitem(last=False)


@cache
def memory() -> Memory:
    """The memory of this server, shared by all visitors.

    Raises:
        CompressionError: COMPRESSION_LIVE_MB is no number.
    """
    usual = min(MOST_MB, int(SHARE * psutil.virtual_memory().total / 1e6))
    named = os.environ.get(LIMIT, str(usual))
    if not named.isdecimal() or len(named) > 9:
        raise CompressionError(f"{LIMIT} must be a whole number of megabytes, not {named!r}")
    return Memory(int(named) * 1_000_000)
