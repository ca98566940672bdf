"""``app``: start the server of the app, on this machine, and open it in the browser."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Annotated, NoReturn

from cyclopts import Parameter

from compression import home
from compression.cli.options import COUNT, Runs
from compression.errors import CompressionError

MOST_PORT = 65_535
Port = Annotated[int | None, COUNT, Parameter(metavar="N", help="where the browser finds it (default: 8501)")]
Address = Annotated[
    str | None,
    Parameter(metavar="NAME", help="it listens to (default: localhost); 0.0.0.0: every one there is"),
]
Headless = Annotated[bool, Parameter(help="open no browser")]
Models = Annotated[tuple[str, ...], Parameter(name="--model", metavar="FILE.py:FUNCTION", help="offer this model too")]
Tasks = Annotated[tuple[str, ...], Parameter(name="--task", metavar="FILE.py:FUNCTION", help="offer this task too")]
DataRoot = Annotated[str | None, Parameter(metavar="DIR", help="offer the data sets in this folder")]
Hosts = Annotated[tuple[str, ...], Parameter(name="--host", metavar="NAME", help="answer to this name, of a proxy")]
LogTimes = Annotated[bool, Parameter(help="log how long each answer takes")]


def app(
    *, port: Port = None, address: Address = None, headless: Headless = False, model: Models = (),
    task: Tasks = (), data_root: DataRoot = None, host: Hosts = (), log_times: LogTimes = False,
    runs: Runs = home.RUNS,
) -> NoReturn:  # fmt: skip
    """Serve the app until Ctrl-C; runs that it started go on."""
    if port is not None and not 1 <= port <= MOST_PORT:
        raise CompressionError(f"--port must be from 1 to {MOST_PORT}, not {port}")
    if importlib.util.find_spec("streamlit") is None:
        raise CompressionError(f"the app needs the package streamlit, which is not installed: {home.install('app')}")
    command = [sys.executable, "-m", "streamlit", "run", str(home.ROOT / "app" / "main.py")]
    given = {"--server.port": port, "--server.address": address, "--server.headless": "true" if headless else None}
    command += _words({name: [value] for name, value in given.items() if value is not None})
    command += ["--", *_words({"--runs": [runs], "--model": model, "--task": task, "--host": host})]
    command += _words({"--data-root": [data_root] if data_root is not None else []})
    command += ["--log-times"] if log_times else []
    sys.stdout.flush()
    os.execv(sys.executable, command)  # whoever ends or signals this process means the server


def _words(options: Mapping[str, Iterable[object]]) -> list[str]:
    """The words of a command line: each option once for each of its values."""
    return [word for name, values in options.items() for value in values for word in (name, str(value))]
