"""What a format must offer to be fuzzed, and what became of one input."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from compression.errors import CompressionError

REFUSED, ACCEPTED = "refused", "accepted"
LONGEST_MESSAGE = 2_000


@dataclass(frozen=True)
class Target:
    """A format: ``mutant`` makes an input, ``use`` reads it and does with it what the program would do next.

    ``use`` is given a folder of its own and returns nothing; it raises :class:`CompressionError` where the input is
    refused, and anything else is a fault.
    """

    name: str
    mutant: Callable[[Random], bytes]
    use: Callable[[bytes, Path], None]


@dataclass(frozen=True)
class Outcome:
    """``kind``: refused, accepted, or a foreign exception's class, traced in ``where``; ``seconds`` of processor."""

    kind: str
    seconds: float
    where: str = ""


def example(target: Target, number: int) -> bytes:
    """The input of this number: always the same."""
    return target.mutant(Random(f"{target.name} {number}"))


def outcome(target: Target, data: bytes, folder: Path) -> Outcome:
    """Use an input and say what came of it."""
    begun = time.process_time()
    try:
        target.use(data, folder)
        return Outcome(ACCEPTED, time.process_time() - begun)
    except CompressionError as error:
        seconds, message = time.process_time() - begun, str(error)
        if "\n" in message or len(message) > LONGEST_MESSAGE:
            return Outcome("message", seconds, f"the message has {len(message)} letters: {message[:300]!r}")
        return Outcome(REFUSED, seconds)
    except BaseException as error:  # a panic of a native library is no Exception; it is what is looked for here
        if isinstance(error, KeyboardInterrupt):
            raise
        where = "".join(traceback.format_exception(error))
        return Outcome(type(error).__name__, time.process_time() - begun, where)
