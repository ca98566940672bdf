"""The command line: ``python -m compression COMMAND``; errors are one line, torch is imported only when needed.

Exit status: 0 done, 1 failed, paused or cancelled, 2 bad input.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from compression.cli import (
    allocate,
    control,
    export,
    forecast,
    graph,
    methods,
    models,
    run,
    runs,
    sensitivity,
    sweep,
    train,
    untrained,
)
from compression.cli.options import Parser
from compression.data import names
from compression.errors import CompressionError, RunFailed

_FAMILIES = (
    models, methods, train, graph, forecast, allocate, untrained, sensitivity, run, sweep, runs, control, export,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Carry out one command and return its exit status; COMPRESSION_DEBUG=1 shows where an unforeseen error is."""
    try:
        asked = parser().parse_args(arguments)
        _note(getattr(asked, "data", None))
        status = int(asked.command(asked))
        sys.stdout.flush()
        return status
    except CompressionError as error:
        return _tell(str(error), 1 if isinstance(error, RunFailed) else 2)
    except KeyboardInterrupt:
        return _tell("interrupted", 1)
    except BrokenPipeError:  # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        return _tell(f"{error.filename or 'file'}: {error.strerror or error}", 1)
    except Exception as error:
        if os.environ.get("COMPRESSION_DEBUG"):
            raise
        line = (str(error).strip().splitlines() or [""])[0]
        return _tell(f"unforeseen {type(error).__name__}: {line} (COMPRESSION_DEBUG=1 shows where)", 1)


def parser() -> Parser:
    """The parser with every command."""
    found = Parser(prog="python -m compression", description="Explore and run the compression of neural networks.")
    commands = found.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for family in _FAMILIES:
        family.add(commands)
    return found


def _note(data: str | None) -> None:
    """A known name means the data set: say so where a folder in the working folder is called the same."""
    if data in names() and Path(data).is_dir():
        print(f"note: {data} is the data set of this name; the folder here is ./{data}", file=sys.stderr)


def _tell(message: str, status: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return status
