"""Where runs are carried out, on this machine or on a cluster: the one place that decides."""

from __future__ import annotations

import os

from compression.errors import CompressionError
from compression.runs.cluster import RayLauncher
from compression.runs.folder import RunFolder
from compression.runs.launcher import Launcher, LocalLauncher, threads_per_run

LAUNCHERS: dict[str, type[LocalLauncher] | type[RayLauncher]] = {"local": LocalLauncher, "ray": RayLauncher}
CLUSTER_SLOTS = 8


def configured_launcher() -> Launcher:
    """The launcher that the environment variable COMPRESSION_LAUNCHER names: ``local`` (the default) or ``ray``.

    Raises:
        CompressionError: it names another.
    """
    name = os.environ.get("COMPRESSION_LAUNCHER", "local")
    if name not in LAUNCHERS:
        raise CompressionError(f"COMPRESSION_LAUNCHER must be {' or '.join(LAUNCHERS)}, not {name!r}")
    return LAUNCHERS[name]()


def launcher_of(folder: RunFolder, usual: Launcher) -> Launcher:
    """The launcher that can reach the worker of this run: ``usual``, unless the other kind started it."""
    handle = folder.handle()
    started = handle.launcher if handle else None
    if started in LAUNCHERS and (started == "ray") != isinstance(usual, RayLauncher):
        return LAUNCHERS[started]()
    return usual


def configured_slots(launcher: Launcher) -> int:
    """Runs at a time: the environment variable COMPRESSION_SLOTS; or one here, eight in the hands of a cluster.

    Raises:
        CompressionError: it is no whole number of at least 1.
    """
    usual = CLUSTER_SLOTS if isinstance(launcher, RayLauncher) else 1
    number = os.environ.get("COMPRESSION_SLOTS", str(usual))
    if not number.isdigit() or int(number) < 1:
        raise CompressionError(f"COMPRESSION_SLOTS must be a whole number of at least 1, not {number!r}")
    return int(number)


def threads_each(launcher: Launcher, slots: int) -> int:
    """Threads of each run: a share of this machine's cores; on a cluster, where runs do not share them, all."""
    return threads_per_run(1 if isinstance(launcher, RayLauncher) else slots)
