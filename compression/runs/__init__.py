"""Runs: folders written by worker processes, an index over them, and verbs: start, sweep, wait, pause, resume, …"""

from compression.runs.cluster import RayLauncher
from compression.runs.control import cancel
from compression.runs.control import delete
from compression.runs.control import outdated
from compression.runs.control import pause
from compression.runs.control import resume
from compression.runs.events import read_events
from compression.runs.eventwriter import EventWriter
from compression.runs.find import find_smallest
from compression.runs.folder import RunFolder
from compression.runs.launcher import Launcher
from compression.runs.launcher import LocalLauncher
from compression.runs.results import result
from compression.runs.store import RunInfo
from compression.runs.store import Store
from compression.runs.submit import start
from compression.runs.submit import wait
from compression.runs.sweep import combinations
from compression.runs.sweep import sweep
from compression.runs.sweep import with_bits

__all__ = [
    "EventWriter",
    "Launcher",
    "LocalLauncher",
    "RayLauncher",
    "RunFolder",
    "RunInfo",
    "Store",
    "cancel",
    "combinations",
    "delete",
    "find_smallest",
    "outdated",
    "pause",
    "read_events",
    "result",
    "resume",
    "start",
    "sweep",
    "wait",
    "with_bits",
]
