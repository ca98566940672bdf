"""Fuzz every format: ``python -m tests.fuzz --inputs 10000 [--only packed] [--from 0]``.

Inputs are used in processes of their own, whose address space is limited, and which are ended where one input takes too
long. Of each input the processor time is taken, and the most memory above what the process held before (Linux: the
high-water mark of its resident memory, reset before each input).
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from dataclasses import dataclass, field

from tests.fuzz.child import READY, work
from tests.fuzz.target import ACCEPTED, REFUSED, Outcome
from tests.fuzz.targets import targets

MEGABYTE = 1 << 20
MOST_SECONDS, MOST_MEGABYTES = 2.0, 200
HANGS_SECONDS = 60


@dataclass
class Tally:
    """What came of the inputs of one format; ``faults`` are (number, kind, where)."""

    name: str
    inputs: int = 0
    refused: int = 0
    accepted: int = 0
    slowest: float = 0.0
    most: float = 0.0
    faults: list[tuple[int, str, str]] = field(default_factory=list)


def _fuzz(name: str, first: int, last: int) -> Tally:
    """The tally of a format; an input that ends or hangs the process counts as a fault, and the next ones go on."""
    tally, following = Tally(name), first
    context = multiprocessing.get_context("spawn")
    while following < last:
        ours, theirs = context.Pipe()
        process = context.Process(target=work, args=(theirs, name, following, last))
        process.start()
        theirs.close()
        if ours.recv() != READY:  # an EOFError where the process cannot even begin
            raise RuntimeError(f"the process for {name} does not begin")
        try:
            while ours.poll(HANGS_SECONDS):
                message = ours.recv()
                if message is None:
                    return tally
                following = message[0] + 1
                _count(tally, *message)
            tally.faults.append((following, "hangs", f"more than {HANGS_SECONDS} s"))
        except EOFError:
            process.join()
            tally.faults.append((following, "ends the process", f"exit status {process.exitcode}"))
        finally:
            process.kill()
            process.join()
        tally.inputs += 1
        following += 1
    return tally


def _count(tally: Tally, number: int, result: Outcome, memory: int) -> None:
    tally.inputs += 1
    tally.refused += result.kind == REFUSED
    tally.accepted += result.kind == ACCEPTED
    tally.slowest, tally.most = max(tally.slowest, result.seconds), max(tally.most, memory / MEGABYTE)
    if result.kind not in (REFUSED, ACCEPTED):
        tally.faults.append((number, result.kind, result.where))
    elif result.seconds > MOST_SECONDS or memory > MOST_MEGABYTES * MEGABYTE:
        tally.faults.append((number, "too much", f"{result.seconds:.2f} s, {memory / MEGABYTE:.0f} MB"))


def main() -> int:
    """Fuzz and print the table; exit status 1 where a format has a fault."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, metavar="N")
    parser.add_argument("--only", choices=targets(), action="append")
    parser.add_argument("--from", type=int, default=0, metavar="N", dest="first", help="number of the first input")
    arguments = parser.parse_args()
    tallies = []
    for name in arguments.only or targets():
        tallies.append(_fuzz(name, arguments.first, arguments.first + arguments.inputs))
        for number, kind, where in tallies[-1].faults[:5]:
            print(f"--- {name} {number}: {kind}\n{where}", file=sys.stderr)
    print("| format | inputs | refused | accepted | slowest, s | most memory, MB | foreign exceptions |")
    print("|---|---|---|---|---|---|---|")
    for t in tallies:
        counts = f"{t.inputs} | {t.refused} | {t.accepted}"
        print(f"| {t.name} | {counts} | {t.slowest:.2f} | {t.most:.0f} | {len(t.faults)} |")
    return int(any(t.faults for t in tallies))


if __name__ == "__main__":
    sys.exit(main())
