"""How long the server takes to answer, logged where the operator chose that (``--log-times``)."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

from app import options


@contextlib.contextmanager
def logged(what: str) -> Iterator[None]:
    """Log the milliseconds that the ``with`` block (or the function decorated with this) takes, as ``what: 12 ms``."""
    begun = time.perf_counter()
    try:
        yield
    finally:
        if options.read().log_times:
            print(f"{what}: {1e3 * (time.perf_counter() - begun):.0f} ms", file=sys.stderr, flush=True)
