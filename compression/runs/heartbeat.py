"""A sign of life that needs no clock: a counter that advances while the process lives, and who listens to it.

Times of files and the time of day say nothing about another machine: clocks differ, and they are set. A listener
therefore compares what the counter shows with what it showed before, and counts the silence on its own monotonic clock.
What it has not listened to for long enough it takes to be alive. For commands that look once and end, what was heard is
noted beside the heartbeat, and the next one on this machine continues from there.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compression.errors import CompressionError
from compression.reading import open_regular, read_object
from compression.runs.files import write_json
from compression.runs.paths import open_own, touch

BEAT_SECONDS = 2.0
SILENT_SECONDS = 30.0
"""A counter that did not move for so long, while somebody listened, is that of a process that has ended."""

Sign = tuple[int, bytes]


class Heartbeat:
    """Counts in a file every 2 seconds while the ``with`` block runs, whatever the main thread is busy with.

    ``confirm`` is called before each count; when it raises a :class:`CompressionError`, the counting ends.
    """

    def __init__(self, path: Path, seconds: float = BEAT_SECONDS, confirm: Callable[[], None] = lambda: None) -> None:
        self._path = path
        self._seconds = seconds
        self._confirm = confirm
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        touch(self._path)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _beat(self) -> None:
        count = 0
        while not self._stop.wait(self._seconds):
            count += 1
            try:
                self._confirm()
                self._write(f"{count:12d}\n".encode())
            except CompressionError:
                return
            except OSError:
                continue  # a full disk or a deleted folder: the run itself meets it and says so

    def _write(self, text: bytes) -> None:
        """Write over what is there: this needs no space on a full disk, and never creates the file anew."""
        file = open_own(self._path, os.O_WRONLY)
        try:
            os.write(file, text)
        finally:
            os.close(file)


@dataclass(frozen=True)
class _Heard:
    """What a counter showed, since when (on the listener's clock), and whether it had moved before."""

    who: object
    sign: Sign
    since: float
    moved: bool


class Listener:
    """Remembers of each heartbeat file when it last changed; ``clock`` counts seconds and is never set."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._heard: dict[str, _Heard] = {}
        self._lock = threading.Lock()

    def lives(self, path: Path, who: object) -> bool:
        """Has the counter of process ``who`` moved, or been listened to for less than ``SILENT_SECONDS``?

        No file means no: a process makes it before it calls itself a worker.
        """
        heard, before = self._listen(path, who)
        return heard is not None and before - heard.since < SILENT_SECONDS

    def is_sure(self, path: Path, who: object) -> bool:
        """Is its state certain: did the counter move while this process listened, or was it silent for long?"""
        heard, before = self._listen(path, who)
        return heard is None or heard.moved or before - heard.since >= SILENT_SECONDS

    def _listen(self, path: Path, who: object) -> tuple[_Heard | None, float]:
        """What was heard, and the time before it was: nothing has moved between ``since`` and then."""
        key, before = os.path.abspath(path), self._clock()
        sign = _sign(path)
        with self._lock:
            last = self._heard.get(key)
            if sign is None:
                self._heard.pop(key, None)
                return None, before
            if last is None or last.who != who:
                self._heard[key] = self._recalled(path, who, sign, before)
            elif last.sign != sign:
                self._heard[key] = _Heard(who, sign, self._clock(), moved=True)
            return self._heard[key], before

    def _recalled(self, path: Path, who: object, sign: Sign, now: float) -> _Heard:
        """The first look of this process, with what another of this machine noted of the same heartbeat before."""
        fresh = _Heard(who, sign, self._clock(), moved=False)
        place = path.with_name(f"{path.name}.heard")
        note = {"boot": _boot(), "who": repr(who), "sign": repr(sign), "since": fresh.since}
        try:
            earlier = read_object(place, "note")
        except CompressionError:  # none yet, or one that nobody needs
            earlier = {}
        since = earlier.get("since")
        if note["boot"] and all(earlier.get(name) == note[name] for name in ("boot", "who")):
            if earlier.get("sign") != note["sign"]:
                fresh = dataclasses.replace(fresh, moved=True)
            elif isinstance(since, float) and since <= now:
                return dataclasses.replace(fresh, since=since)
        with contextlib.suppress(OSError):  # a folder that can only be read: then each process listens for itself
            write_json(place, note)
        return fresh


def _boot() -> str | None:
    """An identifier of this start of the machine, with which its monotonic clock began. None where unknown."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def _sign(path: Path) -> Sign | None:
    """What changes with every beat: the counter, and the time of the file for workers that only touch it."""
    with contextlib.suppress(OSError, CompressionError), open_regular(path, "heartbeat") as file:
        return os.fstat(file.fileno()).st_mtime_ns, file.read(64)
    return None


LISTENER = Listener()
"""The one of this process."""
