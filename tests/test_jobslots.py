"""Jobs beside runs wait for each other: real processes, which write down when they begin and end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from written import finished

from compression.errors import CompressionError
from compression.jobs import slots
from compression.jobs.sidejob import RUNNING, SideJob
from compression.runs.folder import RunFolder
from compression.runs.gallery import COPIES
from tests.waiting import until

WORK = """
import sys, time
from pathlib import Path
book, go = Path(sys.argv[1]), Path(sys.argv[2])
with book.open("a") as file:
    print(f"+{sys.argv[3]}", file=file)
while not go.exists():
    time.sleep(0.02)
with book.open("a") as file:
    print(f"-{sys.argv[3]}", file=file)
"""


class Crowd:
    """Side jobs on runs of their own that begin in order and end when they are let go."""

    def __init__(self, folder: Path) -> None:
        self.runs, self.go, self.book = folder / "runs", folder / "go", folder / "book"
        self.book.touch()
        self.jobs: list[SideJob] = []

    def start(self, below: str = "") -> SideJob:
        number = len(self.jobs)
        folder = RunFolder(self.runs / below / finished(self.runs / below))
        job = SideJob("export", folder, folder.bundle / "export.json")
        job.start([sys.executable, "-c", WORK, str(self.book), str(self.go), str(number), str(folder.path.resolve())])
        self.jobs.append(job)
        return job

    def lines(self) -> list[str]:
        return self.book.read_text().split()

    def running(self) -> int:
        return sum(job.status().state == RUNNING for job in self.jobs)


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    instance = Crowd(tmp_path)
    yield instance
    for job in instance.jobs:  # nothing stays behind a test that failed
        job.stop(grace=0.0)


def test_few_go_at_a_time_in_the_order_they_came_and_the_others_say_how_many_are_before_them(
    crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(slots.JOBS, "2")
    for below in ("", COPIES, "", "", ""):  # a run of the gallery has its copy elsewhere, and waits in the same line
        crowd.start(below)
        until(lambda: len(crowd.lines()) == min(len(crowd.jobs), 2) and _waiting(crowd) == max(0, len(crowd.jobs) - 2))
    texts = [job.status().text for job in crowd.jobs[2:]]
    assert texts == ["waiting for 1 other job", "waiting for 2 other jobs", "waiting for 3 other jobs"]
    assert crowd.running() == 5
    assert crowd.jobs[3].stop().state == "cancelled"  # one that waits can be stopped, and is waited for no longer
    until(lambda: crowd.jobs[4].status().text == texts[1])
    crowd.go.touch()
    until(lambda: len(crowd.lines()) == 8)
    assert _most_together(crowd.lines()) <= 2
    begun = [line for line in crowd.lines() if line[0] == "+"]
    assert (begun[:2], set(begun[2:])) == (["+0", "+1"], {"+2", "+4"})  # the last two got their slots together


def test_a_job_that_is_killed_gives_its_slot_to_the_next(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slots.JOBS, "1")
    first = crowd.start()
    until(lambda: crowd.lines() == ["+0"])
    second = crowd.start()
    until(lambda: _waiting(crowd) == 1)
    assert first.stop(grace=0.0).state == "cancelled"
    until(lambda: crowd.lines() == ["+0", "+1"])
    second.stop()


def test_a_line_that_is_too_long_takes_nobody_more(crowd: Crowd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slots.JOBS, "1")
    monkeypatch.setattr(slots, "MOST_WAITING", 1)
    crowd.start()
    crowd.start()
    until(lambda: _waiting(crowd) == 1)
    with pytest.raises(CompressionError, match="1 jobs wait for their turn already"):
        crowd.start()
    crowd.go.touch()
    until(lambda: not crowd.running())


@pytest.mark.parametrize("value", ["0", "-1", "many", "", "1.5", "9" * 400])
def test_the_number_of_slots_is_a_whole_number(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(slots.JOBS, value)
    with pytest.raises(CompressionError, match=slots.JOBS):
        slots.slots()


def _waiting(crowd: Crowd) -> int:
    return sum(job.status().text.startswith("waiting") for job in crowd.jobs if job.status().state == RUNNING)


def _most_together(lines: list[str]) -> int:
    together = [0]
    for line in lines:
        together.append(together[-1] + (1 if line[0] == "+" else -1))
    return max(together)


def test_the_state_file_keeps_the_keys_of_earlier_versions(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / finished(tmp_path))
    job = SideJob("export", folder, tmp_path / "export.json")
    handle = {"host": "elsewhere", "pid": 7, "start": 1.5, "launcher": "local", "job": None, "after_boot": None}
    state = {"state": "done", "share": 1.0, "text": "", "error": "", "told": {"bytes": 5}}
    job.path.write_text(json.dumps({"version": 1, "handle": handle, "job": state}))
    assert (job.status().state, job.status().result) == ("done", {"bytes": 5})
    assert job.carry_out(lambda report: {"bytes": 6}) == 0
    written = json.loads(job.path.read_text())
    assert written["job"] == {**state, "told": {"bytes": 6}}
    assert written["handle"].keys() == handle.keys()
