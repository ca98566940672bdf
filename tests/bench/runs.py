"""The run benchmark: workers killed at random moments, what an event costs, and how long a long list of runs takes.

python -m tests.bench.runs [--kills 20] [--each 4] [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from compression import runs
from compression.budget import Budget
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.runs.submit import new_spec
from tests.bench.graphs import write
from tests.bench.report import machine

TITLE = "Runs: killed workers, events, and long lists"
BUDGET = Budget(method="geta", model="resnet8", data="mnist5k", sparsity=0.4, epochs=4.0, batch_size=64)
SHARE = 0.6  # of the undisturbed run's time within which a worker is killed: as it starts as well as near its end
EVENTS, LISTED = 20_000, 1000
EVENT_REACH, LIST_REACH = 50.0, 200.0  # microseconds, milliseconds
LEGEND = """\
Killed: GETA on resnet8 and mnist5k, 4 epochs; the worker's process gets SIGKILL at a random moment after it was started
and the run is resumed, several times a run. Identical: the packed file has the bytes, and every point the numbers, of
the run that nobody disturbed. An event: a step event of 5 numbers, written, in a loop; the median of 5 loops. A list:
`Store.list()` of finished runs with 20 events each, with the index up to date, and the first time without an index."""


@dataclass(frozen=True)
class Killed:
    """One run that was killed several times: after how many seconds of each attempt, and was it the same in the end?"""

    after: tuple[float, ...]
    attempts: int
    identical: bool


def main(argv: list[str] | None = None) -> int:
    """Measure, print the section, and put it into a file if asked."""
    parser = argparse.ArgumentParser(prog="tests.bench.runs", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--kills", type=int, default=20, metavar="N")
    parser.add_argument("--each", type=int, default=4, metavar="N", help="kills of one run")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        killed = kill(Path(folder) / "kills", arguments.kills, arguments.each, arguments.seed)
        event = event_cost(Path(folder))
        first, again = listing(Path(folder) / "list")
    text = section(killed, event, first, again)
    print(text)
    if arguments.write:
        write(arguments.write, text)
    return 0 if all(run.identical for run in killed) else 1


def kill(root: Path, kills: int, each: int, seed: int) -> list[Killed]:
    """Kill workers ``kills`` times, ``each`` times a run, and compare with the run that is left in peace."""
    chance, results = random.Random(seed), []
    whole = RunFolder.open(root, runs.start(BUDGET, root))
    begin = time.monotonic()
    ended(whole)
    longest = SHARE * (time.monotonic() - begin)
    while sum(len(run.after) for run in results) < kills:
        folder = RunFolder.open(root, runs.start(BUDGET, root))
        after = []
        for _ in range(each):
            until(folder.process_path.is_file)
            moment = chance.uniform(0.0, longest)
            time.sleep(moment)
            if folder.state != "running":
                break
            os.kill(int(json.loads(folder.process_path.read_text())["pid"]), signal.SIGKILL)
            after.append(round(moment, 1))
            until(lambda: folder.state == "lost")  # noqa: B023 - called before the next round
            runs.resume(folder.id, root)
        ended(folder)
        results.append(Killed(tuple(after), folder.attempts(), same(whole, folder)))
        print(f"killed after {', '.join(map(str, after))} s: identical {results[-1].identical}", file=sys.stderr)
    return results


def same(one: RunFolder, other: RunFolder) -> bool:
    """The same packed file and the same points?"""
    packed = [(each.bundle / "weights.packed").read_bytes() for each in (one, other)]
    points = [[point.to_dict() for point in each.points()] for each in (one, other)]
    return packed[0] == packed[1] and points[0] == points[1]


def ended(folder: RunFolder) -> None:
    """Wait for the run's end, which must be a good one."""
    status = runs.wait(folder.id, folder.path.parent, timeout=1200)["status"]
    if status != "done":
        raise SystemExit(f"run {folder.id} {status}: see {folder.log_path}")


def until(true: Callable[[], bool]) -> None:
    """Wait for something to become true."""
    while not true():
        time.sleep(0.02)


def event_cost(folder: Path) -> float:
    """Microseconds that writing one step event takes."""
    costs = []
    for turn in range(5):
        with EventWriter(folder / f"events{turn}") as events:
            begin = time.perf_counter()
            for step in range(EVENTS // 5):
                events.step(step, step / 100, loss=0.123456789, score=0.5, lr=0.01)
                events._flush_step()  # every one, where a run writes one in fifty
            costs.append((time.perf_counter() - begin) / (EVENTS // 5) * 1e6)
    return statistics.median(costs)


def listing(root: Path) -> tuple[float, float]:
    """Milliseconds that listing :data:`LISTED` runs takes without an index, and with one (median of 9)."""
    store = Store(root, slots=0)
    for number in range(LISTED):
        spec = {**new_spec(Budget(), store), "id": f"run-{number:04d}"}
        with EventWriter(RunFolder.create(root, spec).events_path) as events:
            events.state("running")
            for step in range(18):
                events.step(step * 50, 0.1, loss=1.0)
            events.state("done")
    first, again = _listed(store, 1), _listed(store, 9)
    return first, again


def _listed(store: Store, times: int) -> float:
    durations = []
    for _ in range(times):
        begin = time.perf_counter()
        if len(store.list()) != LISTED:
            raise SystemExit("the list is not whole")
        durations.append((time.perf_counter() - begin) * 1e3)
    return statistics.median(durations)


def section(killed: list[Killed], event: float, first: float, again: float) -> str:
    """The whole section of BENCHMARKS.md, title included."""
    kills, good = sum(len(run.after) for run in killed), sum(len(run.after) for run in killed if run.identical)
    about = machine(f"{kills} kills")
    about += [
        f"- {good} of {kills} kills left the run identical to the undisturbed one, to reach: all",
        f"- an event takes {event:.0f} microseconds, to reach: {EVENT_REACH:g}",
        f"- a list of {LISTED} runs takes {again:.0f} ms, to reach: {LIST_REACH:g}; {first:.0f} ms to build the index",
    ]
    lines = ["killed after seconds | attempts | identical", "--- | ---: | ---"]
    lines += [
        f"{', '.join(map(str, run.after))} | {run.attempts} | {'yes' if run.identical else 'NO'}" for run in killed
    ]
    table = "\n".join(f"| {line} |" for line in lines)
    return "\n\n".join([f"## {TITLE}", "\n".join(about), LEGEND, table]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
