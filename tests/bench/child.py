"""Work done in a child process, so that it can be stopped, may run out of memory, and gives all of it back."""

from __future__ import annotations

import multiprocessing
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import psutil

WAITING = 10  # times the limit: what a child may take by the clock when other work has the processor


class ChildFailed(Exception):
    """The child raised or was killed; the message is one line."""


def stream(work: Callable[..., Iterator[Any]], *args: Any, limit: float) -> Iterator[Any]:
    """Run a generator in a forked child and yield what it yields; what the child prints is thrown away.

    Args:
        work: a generator function; what it yields is pickled.
        args: its arguments.
        limit: seconds of processor time that the child may take for each next item, and a tenth of what it may wait.

    Raises:
        TimeoutError: the next item did not come in time; the child has been killed.
        ChildFailed: the generator raised, or the child died.
    """
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_serve, args=(sender, work, args), daemon=True)
    child.start()
    sender.close()
    try:
        while True:
            kind, item = _next(receiver, child, limit)
            if kind == "end":
                return
            if kind == "error":
                raise ChildFailed(item)
            yield item
    finally:
        child.kill()
        child.join()
        receiver.close()


def _next(receiver: Connection, child: Any, limit: float) -> tuple[str, Any]:
    watched, deadline = psutil.Process(child.pid), time.monotonic() + WAITING * limit
    begun = _spent(watched)
    while not receiver.poll(0.2):
        if _spent(watched) - begun > limit or time.monotonic() > deadline:
            raise TimeoutError(f"> {limit:g} s")
    try:
        message: tuple[str, Any] = receiver.recv()
    except EOFError:
        child.join()
        raise ChildFailed(f"the process ended with status {child.exitcode}") from None
    return message


def _spent(process: psutil.Process) -> float:
    """Processor seconds so far; those of a process that has just ended no longer matter."""
    try:
        times = process.cpu_times()
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return 0.0
    return float(times.user + times.system)


def _serve(sender: Connection, work: Callable[..., Iterator[Any]], args: tuple[Any, ...]) -> None:
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    warnings.simplefilter("ignore")
    with suppress(BrokenPipeError):
        try:
            for item in work(*args):
                sender.send(("item", item))
            sender.send(("end", None))
        except Exception as error:  # whatever went wrong is sent to the parent
            sender.send(("error", one_line(error)))


def one_line(error: BaseException, width: int = 140) -> str:
    """The first line of what an exception says, with its type, cut to ``width`` characters."""
    lines = str(error).strip().splitlines()
    text = f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
    return text if len(text) <= width else text[: width - 1] + "…"
