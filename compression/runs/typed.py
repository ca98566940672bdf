"""``compression.runs`` for type checkers, which know no module that can be called: a class with the module's names.

Nothing imports this at run time; a test compares it with the module.
"""

from __future__ import annotations

from typing import TypeAlias

from compression import methods
from compression.runs import (
    bisect,
    cluster,
    control,
    events,
    eventwriter,
    folder,
    index,
    launcher,
    listing,
    results,
    store,
    submit,
)
from compression.runs.sweep import combinations as combine
from compression.runs.sweep import sweep as vary


class runs(listing.RunsTable):
    """Runs: a call is the table of those there are, the attributes are the verbs."""

    EventWriter: TypeAlias = eventwriter.EventWriter
    Launcher: TypeAlias = launcher.Launcher
    LocalLauncher: TypeAlias = launcher.LocalLauncher
    RayLauncher: TypeAlias = cluster.RayLauncher
    RunFolder: TypeAlias = folder.RunFolder
    RunInfo: TypeAlias = index.RunInfo
    RunsTable: TypeAlias = listing.RunsTable
    Store: TypeAlias = store.Store
    cancel = staticmethod(control.cancel)
    combinations = staticmethod(combine)
    delete = staticmethod(control.delete)
    find_smallest = staticmethod(bisect.find_smallest)
    outdated = staticmethod(control.outdated)
    pause = staticmethod(control.pause)
    read_events = staticmethod(events.read_events)
    result = staticmethod(results.result)
    resume = staticmethod(control.resume)
    start = staticmethod(submit.start)
    sweep = staticmethod(vary)
    wait = staticmethod(submit.wait)
    with_values = staticmethod(methods.with_values)
