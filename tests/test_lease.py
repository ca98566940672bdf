"""One writer: a worker that was taken for dead and wakes up stops, and the run is what an undisturbed one is."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from compression import methods, runs
from compression.budget import Budget
from compression.errors import Cancelled, CompressionError, Superseded
from compression.jobs.sidejob import Job, Report, SideJob
from compression.runs import heartbeat
from compression.runs import lease as leases
from compression.runs.events import last_state, read_events
from compression.runs.eventwriter import CHECK_SECONDS, EventWriter, steady_clock
from compression.runs.folder import RunFolder
from compression.runs.lease import Lease
from compression.runs.lifecycle import carry_out
from compression.runs.process import Handle
from compression.runs.reporter import RunReporter
from compression.runs.results import seconds
from compression.runs.store import Store
from compression.runs.sweep import carry_out_sweep
from tests.test_resume import BUDGETS, story, task, until

STOPS, WAKES = 14, 20  # steps of 30; the last checkpoint before the first is that of step 12
ROOT = Path(__file__).parents[1]


def work(folder: RunFolder, events: RunReporter, at: int, hook: Callable[[], None]) -> dict[str, Any]:
    """Real training, during which ``hook`` is called when step ``at`` has been reported."""
    report_step = events.step

    def step(step: int, epoch: float, **values: float) -> None:
        report_step(step, epoch, **values)
        events._flush_step()  # all of them, to compare all of them
        if step == at:
            hook()

    events.step = step  # type: ignore[method-assign]
    compressed = methods.get("geta").run(task(BUDGETS["geta"]), events)
    total = hashlib.sha256()
    for name, tensor in compressed.model.state_dict().items():
        total.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return {"facts": compressed.facts, "weights": total.hexdigest()}


def stopping_worker(path: str, where: str) -> None:
    """In a process of its own: carry out the run, and stop this process at the worst moment of step 14."""

    def halted(folder: RunFolder, events: RunReporter) -> dict[str, Any]:
        confirm = events.confirm

        def confirm_and_stop() -> None:
            confirm()
            events.confirm = confirm  # type: ignore[method-assign]
            os.kill(os.getpid(), signal.SIGSTOP)

        def hook() -> None:
            if where == "between steps":
                os.kill(os.getpid(), signal.SIGSTOP)
                return
            events.confirm = confirm_and_stop  # type: ignore[method-assign]
            if where == "before a line is written":
                events.state("failed", error="written too late")
            else:
                events.checkpoint(1, lambda: {"step": 1}, due=True)

        return work(folder, events, STOPS, hook)

    carry_out(RunFolder(path), halted)


@pytest.fixture
def quiet(tmp_path: Path) -> Store:
    """A store that starts nothing by itself."""
    return Store(tmp_path / "runs", slots=0)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = created(Store(tmp_path_factory.mktemp("whole"), slots=0))
    assert carry_out(folder, lambda folder, events: work(folder, events, 0, lambda: None)) == "done"
    return folder


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The clock by which this process listens to others."""
    now = [100.0]
    monkeypatch.setattr(heartbeat.LISTENER, "_clock", lambda: now[0])
    return now


def created(store: Store, name: str = "one") -> RunFolder:
    return RunFolder.create(store.root, {"id": name, "created": 1.0, "budget": Budget().to_dict()})


def elsewhere(folder: RunFolder) -> None:
    """Have the worker belong to another machine, as far as can be seen from here."""
    dataclasses.replace(Handle.load(folder.process_path), host="another-machine").save(folder.process_path)


@pytest.fixture
def halted(quiet: Store, request: pytest.FixtureRequest) -> Iterator[tuple[RunFolder, psutil.Popen]]:
    folder, command = created(quiet), "from tests.test_lease import stopping_worker as w; import sys; w(*sys.argv[1:])"
    arguments = [sys.executable, "-c", command, str(folder.path), request.param]
    worker = psutil.Popen(arguments, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: worker.poll() is not None or worker.status() == psutil.STATUS_STOPPED, 240)
        assert worker.poll() is None, worker.communicate()[1]
        yield folder, worker
    finally:
        if worker.poll() is None:
            worker.kill()
            worker.communicate()


@pytest.mark.parametrize(
    "halted", ["between steps", "before a line is written", "before a checkpoint is in place"], indirect=True
)
def test_a_worker_that_wakes_up_after_the_run_was_resumed_elsewhere_stops(
    halted: tuple[RunFolder, psutil.Popen], quiet: Store, undisturbed: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, worker = halted
    assert folder.state == "running"  # a stopped process of this machine lives
    elsewhere(folder)
    assert (folder.state, folder.is_sure()) == ("running", False)
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 0.3)
    until(lambda: folder.state == "lost")
    assert runs.resume("one", quiet.root, store=quiet) == "queued"

    def wake() -> None:
        worker.send_signal(signal.SIGCONT)
        _, errors = worker.communicate(timeout=240)
        assert "was taken over from attempt 1" in errors
        assert worker.returncode != 0
        assert folder.state == "running"

    assert carry_out(folder, lambda folder, events: work(folder, events, WAKES, wake)) == "done"
    result, expected = (json.loads(each.result_path.read_text()) for each in (folder, undisturbed))
    assert (result["attempts"], expected["attempts"]) == (2, 1)
    assert result["weights"] == expected["weights"]
    assert result["facts"] == expected["facts"]
    assert story(folder.events_path) == story(undisturbed.events_path)
    states = [(event["attempt"], event["state"]) for event in folder.events() if event["kind"] == "state"]
    assert states == [(1, "running"), (1, "queued"), (2, "running"), (2, "done")]
    steps = [event["step"] for event in folder.events() if (event["kind"], event["attempt"]) == ("step", 1)]
    assert steps == list(range(1, STOPS + 1))
    assert re.search(r"attempt 1\b", folder.log_path.read_text())
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "events.jsonl", "heartbeat", "lease.2", "log.txt", "process.json", "reserve", "result.json", "spec.json"
    ] or not folder.reserve_path.exists()  # fmt: skip


# --- leases -----------------------------------------------------------------------------------------------------------


def take(folder: RunFolder, after: int = 0) -> Lease:
    return Lease.take(folder.path, folder.process_path, Handle.current(), after=after)


def test_only_the_last_attempt_may_write(quiet: Store) -> None:
    folder = created(quiet)
    first = take(folder)
    with EventWriter(folder.events_path, first.attempt, lease=first) as events:
        events.state("running")
        second = take(folder)
        before = folder.events_path.read_bytes()
        for write in (lambda: events.log("late"), lambda: events.state("done"), events.check, first.check):
            with pytest.raises(Superseded, match="taken over from attempt 1"):
                write()
    assert folder.events_path.read_bytes() == before
    assert (first.attempt, second.attempt) == (1, 2)
    second.check()
    assert leases.taken(folder.path) == [2]  # one file, not one an attempt


@pytest.mark.parametrize("change", ["put back", "deleted", "named another", "damaged", "a folder"])
def test_a_run_that_no_longer_names_the_process_is_not_written(quiet: Store, change: str) -> None:
    folder = created(quiet)
    mine = take(folder)
    mine.check()
    if change == "put back":
        folder.put_back()
    elif change == "deleted":
        folder.path.rename(quiet.root / ".deleted-one")
    elif change == "named another":
        dataclasses.replace(mine.handle, pid=mine.handle.pid + 1).save(folder.process_path)
    elif change == "damaged":
        folder.process_path.write_text("{")
    else:
        folder.process_path.unlink()
        folder.process_path.mkdir()
    with pytest.raises(Superseded, match="taken over"):
        mine.check()


def test_the_launcher_may_name_the_process_once_more(quiet: Store) -> None:
    folder = created(quiet)
    mine = take(folder)
    for _ in range(2):
        dataclasses.replace(mine.handle).save(folder.process_path)
        mine.check()


def test_of_many_processes_at_once_each_gets_a_number_of_its_own(quiet: Store) -> None:
    folder = created(quiet)
    script = (
        "import sys\nfrom compression.runs.folder import RunFolder\nfrom compression.runs import lease\n"
        "path = RunFolder(sys.argv[1]).path\nsys.stdin.read()\n"
        "won = [n for n in range(1, 200) if lease._create(lease._path(path, n))]\nprint(*won)"
    )
    command = [sys.executable, "-c", script, str(folder.path)]
    crowd = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)
    ]
    for process in crowd:
        assert process.stdin is not None
        process.stdin.close()
    won = [int(n) for process in crowd if process.stdout for n in process.stdout.read().split()]
    assert [process.wait(60) for process in crowd] == [0] * 4
    assert sorted(won) == list(range(1, 200))


@pytest.mark.parametrize("state", ["done", "failed", "cancelled", "paused"])
def test_a_process_that_comes_late_does_not_begin_what_is_over(quiet: Store, state: str) -> None:
    folder = created(quiet)
    with EventWriter(folder.events_path) as events:
        events.state("running")
        events.state(state)
    with pytest.raises(CompressionError, match=f"run one is {state}"):
        carry_out(folder, lambda folder, events: {})
    assert (folder.attempts(), folder.state) == (1, state)


def test_an_attempt_without_its_events_is_still_the_next(quiet: Store) -> None:
    folder = created(quiet)
    take(folder)
    take(folder)
    folder.process_path.unlink()
    assert carry_out(folder, lambda folder, events: {"seen": events.attempt}) == "done"
    assert json.loads(folder.result_path.read_text())["attempts"] == 3


def test_a_sweep_that_was_taken_over_stops_with_the_run_it_is_at(quiet: Store) -> None:
    for name in ("s-01", "s-02"):
        RunFolder.create(quiet.root, {"id": name, "created": 1.0, "budget": Budget().to_dict(), "sweep": "s"})
    spec = {"id": "s", "created": 1.0, "budget": Budget().to_dict(), "children": ["s-01", "s-02"]}
    sweep = RunFolder.create(quiet.root, spec)
    begun: list[str] = []

    def work(folder: RunFolder, events: RunReporter) -> dict[str, Any]:
        begun.append(folder.id)
        for each in (sweep, *sweep.children()):  # what resuming it elsewhere does
            each.put_back()
        events.log("late")
        return {}

    with pytest.raises(Superseded, match="run s-01 was taken over"):
        carry_out(sweep, partial(carry_out_sweep, work=work, stopped=lambda: False))
    assert begun == ["s-01"]
    assert [each.state for each in (sweep, *sweep.children())] == ["queued"] * 3
    assert "taken over" in sweep.log_path.read_text()


# --- lines of an earlier attempt --------------------------------------------------------------------------------------


def test_lines_that_come_too_late_are_skipped_wherever_reading_begins(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    offsets = []
    with EventWriter(path, 1) as first, EventWriter(path, 2) as second:
        first.state("running")
        first.log("in time")
        second.state("running")
        offsets.append(path.stat().st_size)
        first.log("late")
        first.state("failed", error="late")
        offsets.append(path.stat().st_size)
        second.log('it says "attempt":9,"kind":"state"')
        first.log("late")
        offsets.append(path.stat().st_size)
        second.log("last")
    events, end = read_events(path)
    assert [(event["attempt"], event["kind"]) for event in events] == [
        (1, "state"), (1, "log"), (2, "state"), (2, "log"), (2, "log")
    ]  # fmt: skip
    assert end == path.stat().st_size
    assert [len(read_events(path, offset)[0]) for offset in offsets] == [2, 2, 1]
    assert last_state(path) == "running"


def test_an_index_read_on_from_where_it_was_does_not_believe_them_either(quiet: Store) -> None:
    folder = created(quiet)
    with EventWriter(folder.events_path, 1) as first, EventWriter(folder.events_path, 2) as second:
        first.state("running")
        second.state("running")
        second.step(7, 1.0, loss=1.0)
        second.state("paused")
        quiet.sync()
        first.step(3, 0.5, loss=9.0)
        first.state("failed", error="late")
        quiet.sync()
    assert [(info.state, info.step, info.error) for info in quiet.list()] == [("paused", 7, None)]


# --- jobs beside a run ------------------------------------------------------------------------------------------------


def test_a_side_job_whose_place_another_took_writes_nothing_more(quiet: Store) -> None:
    folder = created(quiet)
    job = SideJob("export", folder, folder.path / "bundle" / "export.json")

    def work(report: Report) -> dict[str, Any]:
        report("half", 0.5)
        assert (job.status().state, job.status().share) == ("running", 0.5)
        raw = json.loads(job.path.read_text())
        raw["handle"]["pid"] += 1
        job.path.write_text(json.dumps(raw))  # declared dead elsewhere, and started there
        before.append(job.path.read_bytes())
        return {"never": "told"}

    before: list[bytes] = []
    with pytest.raises(Superseded, match="another process does the export of run one"):
        job.carry_out(work)
    assert job.path.read_bytes() == before[0]


def test_a_side_job_elsewhere_lives_as_long_as_its_heart_beats(quiet: Store, listened: list[float]) -> None:
    folder = created(quiet)
    job = SideJob("export", folder, folder.path / "bundle" / "export.json")
    job.path.parent.mkdir()
    job._write(Handle("another-machine", 1, 0.0), Job("running", 0.5, "comparing"))
    for beat in range(5):  # it says nothing new for long, but its heart goes on
        job.path.with_suffix(".heartbeat").write_text(str(beat))
        assert job.status().state == "running"
        listened[0] += heartbeat.SILENT_SECONDS - 1
        assert job.status().state == "running"
    listened[0] += 2
    assert job.status().state == "failed"


# --- clocks -----------------------------------------------------------------------------------------------------------


def test_seconds_are_those_of_a_clock_that_nobody_sets(tmp_path: Path) -> None:
    day, elapsed = [1000.0], [50.0]
    clock = steady_clock(lambda: day[0], lambda: elapsed[0])
    with RunReporter(tmp_path / "events", checkpoint_path=tmp_path / "checkpoint.pt", clock=clock) as events:
        for change in (0.0, -7200.0, 7200.0, 86400.0):
            day[0] += change
            elapsed[0] += 10
            events.state("running") if not change else events.log("the clock was set")
        assert seconds(read_events(tmp_path / "events")[0]) == 30.0
        events.checkpoint(1, lambda: {"step": 1})
        assert (tmp_path / "checkpoint.pt").exists()  # due by the steady clock, whatever the time of day is


def test_a_writer_is_not_moved_by_setting_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    day = [0.0]
    monkeypatch.setattr(time, "time", lambda: day[0])
    with EventWriter(tmp_path / "events", cancel_files=[tmp_path / "cancel"]) as events:
        events.check()
        events.state("running")
        day[0] -= 7200
        events.state("done")
        (tmp_path / "cancel").touch()
        time.sleep(2 * CHECK_SECONDS)
        with pytest.raises(Cancelled):
            events.check()
    assert 0 <= seconds(read_events(tmp_path / "events")[0]) < 3600
    first, last = (event["t"] for event in read_events(tmp_path / "events")[0])
    assert last >= first


def test_waiting_to_be_resumed_is_no_work(tmp_path: Path) -> None:
    now = [10_000.0]
    with EventWriter(tmp_path / "events", 1, clock=lambda: now[0]) as events:
        events.state("running")
        now[0] += 5.0
        events.log("then it was killed")
        now[0] += 495.0
        events.state("queued")
    with EventWriter(tmp_path / "events", 2, clock=lambda: now[0] - 1000) as events:  # another machine's clock
        events.state("running")
        now[0] += 3.0
        events.state("done")
    assert seconds(read_events(tmp_path / "events")[0]) == 8.0


def test_a_clock_that_is_set_neither_loses_nor_revives_a_run(
    quiet: Store, listened: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = created(quiet)
    with EventWriter(folder.events_path) as events:
        events.state("running")
    Handle("another-machine", 1, 0.0).save(folder.process_path)
    folder.heartbeat_path.write_text("1")
    real = time.time
    for hours in (-10_000, 0, 10_000):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + hours * 3600)
        os.utime(folder.heartbeat_path, (1, 1))
        assert folder.state == "running"
    listened[0] += heartbeat.SILENT_SECONDS
    assert folder.state == "lost"
    for hours in (-10_000, 10_000):
        monkeypatch.setattr(time, "time", lambda hours=hours: real() + hours * 3600)
        assert folder.state == "lost"


def test_one_look_says_that_it_has_not_heard_and_resuming_listens_first(
    quiet: Store, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from compression.cli import main

    folder = created(quiet)
    with EventWriter(folder.events_path) as events:
        events.state("running")
    Handle("another-machine", 1, 0.0).save(folder.process_path)
    folder.heartbeat_path.touch()
    assert main(["show", "one", "--runs", str(quiet.root)]) == 0
    assert "running (" in capsys.readouterr().out
    assert main(["runs", "--runs", str(quiet.root)]) == 0
    assert "running (" in capsys.readouterr().out
    named = folder.process_path.read_text()
    folder.process_path.write_text("{")
    assert main(["runs", "--runs", str(quiet.root)]) == 0
    assert "is not valid JSON" in capsys.readouterr().err
    folder.process_path.write_text(named)
    monkeypatch.setattr(heartbeat, "SILENT_SECONDS", 0.3)
    assert runs.resume("one", quiet.root, store=quiet) == "queued"


def test_resuming_a_run_that_is_heard_leaves_it_alone(quiet: Store) -> None:
    folder = created(quiet)
    with EventWriter(folder.events_path) as events:
        events.state("running")
    Handle("another-machine", 1, 0.0).save(folder.process_path)
    with heartbeat.Heartbeat(folder.heartbeat_path, seconds=0.05):
        assert runs.resume("one", quiet.root, store=quiet) == "running"
    assert folder.process_path.is_file()


@pytest.mark.parametrize("problem", [None, RuntimeError("whatever"), KeyboardInterrupt()])
def test_whatever_ends_an_attempt_that_was_taken_over_changes_nothing(
    quiet: Store, problem: BaseException | None
) -> None:
    folder = created(quiet)
    before: dict[str, bytes] = {}

    def work(folder: RunFolder, events: RunReporter) -> dict[str, Any]:
        take(folder)  # another process begins the next attempt at this moment
        folder.result_path.write_text('{"of": "the other"}')
        folder.checkpoint_path.write_text("of the other")
        before.update(contents(folder))
        if problem is not None:
            raise problem
        return {}

    with pytest.raises(Superseded):
        carry_out(folder, work)
    assert contents(folder) == before
    assert "reserve" in before


def contents(folder: RunFolder) -> dict[str, bytes]:
    """Every file of the run but the words of its workers."""
    return {path.name: path.read_bytes() for path in folder.path.iterdir() if path != folder.log_path}
