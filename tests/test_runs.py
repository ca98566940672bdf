"""Runs by their folders: events, states of real processes, the queue, cancelling, killing, sweeps, full disks."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from compression import methods, runs
from compression.asks import Sparsity
from compression.budget import Budget
from compression.errors import Cancelled, CompressionError, Superseded
from compression.points import Point
from compression.runs.events import last_attempts, read_events
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from compression.runs.heartbeat import SILENT_SECONDS, Heartbeat, Listener
from compression.runs.launcher import LocalLauncher
from compression.runs.layout import RESERVE_BYTES
from compression.runs.lifecycle import carry_out
from compression.runs.process import Handle
from compression.runs.store import Store
from compression.runs.submit import new_spec
from compression.runs.sweep import combinations, specs
from tests.waiting import PATIENCE, until

POINT = Point(
    step=7, epoch=0.5, phase="joint", split="validation", score=0.9, loss=0.3, bytes=1000.0, bytes_kind="estimated",
    nominal_bytes=900.0, macs=5.0, bops=6.0, rel_bops=0.1, unit_sparsity=0.5, weight_sparsity=0.6,
    bits={"conv1": {"weight": 4.0, "activation": None}},
)  # fmt: skip

# A worker whose work is set by the options of the budget, so that queue and signals are tried without any training.
WORKER = """
    import signal, sys, time
    from compression.errors import CompressionError
    from compression.runs.folder import RunFolder
    from compression.runs.launcher import LocalLauncher
    from compression.jobs.worker import serve

    def work(folder, events):
        options = folder.budget().options
        events.plan(options.get("steps", 5))
        if options.get("deaf"):
            while True:
                try:
                    time.sleep(0.05)
                except BaseException:
                    pass
        for step in range(options.get("steps", 5)):
            events.check()
            events.step(step, step / 10, loss=1.0)
            time.sleep(options.get("pause", 0.01))
        if options.get("fail") or folder.budget().asks["sparsity"] == 0.66:
            raise CompressionError("this one fails")
        return {"final": None, "baseline": None}

    serve(RunFolder(sys.argv[1]), work, LocalLauncher((sys.executable, __file__)))
"""


@pytest.fixture
def launcher(tmp_path: Path) -> LocalLauncher:
    script = tmp_path / "tiny_worker.py"
    script.write_text(textwrap.dedent(WORKER))
    return LocalLauncher((sys.executable, str(script)))


@pytest.fixture
def store(tmp_path: Path, launcher: LocalLauncher) -> Iterator[Store]:
    opened = Store(tmp_path / "runs", slots=1, launcher=launcher)
    yield opened
    for path in opened.root.glob("*/process.json"):
        with contextlib.suppress(CompressionError):  # a test wrote a damaged one
            process = Handle.load(path).process()
            if process is not None and process.pid != os.getpid():
                process.kill()


def add(store: Store, *, sync: bool = True, **options: Any) -> RunFolder:
    folder = RunFolder.create(store.root, new_spec(Budget(options=options), store))
    if sync:
        store.sync()
    return folder


# --- events -----------------------------------------------------------------------------------------------------------


def test_events_are_lines_with_the_promised_fields(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path, attempt=2, clock=lambda: 12.3456) as events:
        events.state("running", pid=1)
        events.plan(100, why="because")
        events.phase("joint", 3)
        events.step(4, 0.25, loss=float("nan"), lr=0.1)
        events.point(POINT)
        events.group(8, {"conv1": [0, 4, 7]})
        events.log("hello")
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert [event["kind"] for event in entries] == ["state", "plan", "phase", "step", "point", "group", "log"]
    assert all(list(event)[:6] == ["v", "t", "attempt", "kind", "step", "epoch"] for event in entries)
    assert all((event["v"], event["t"], event["attempt"]) == (1, 12.346, 2) for event in entries)
    assert entries[3]["loss"] is None  # JSON knows no NaN
    assert entries[3]["lr"] == 0.1
    assert Point.from_dict(entries[4]) == POINT
    assert (entries[5]["units"], entries[5]["step"]) == ({"conv1": 3}, 8)
    assert entries[5]["removed"] == {"conv1": [0, 4, 7]}


def test_step_events_are_thinned_to_one_a_second_or_every_fifty(tmp_path: Path) -> None:
    now = [0.0]
    with EventWriter(tmp_path / "fast", clock=lambda: now[0]) as events:
        for step in range(120):
            events.step(step, 0.0, loss=float(step))
        events.state("done")
    steps = [event for event in read_events(tmp_path / "fast")[0] if event["kind"] == "step"]
    assert [event["step"] for event in steps] == [0, 50, 100, 119]  # the last one is written when the run ends
    assert all(event["loss"] == event["step"] for event in steps)
    with EventWriter(tmp_path / "slow", clock=lambda: now[0]) as events:
        for step in range(10):
            now[0] += 0.4
            events.step(step, 0.0)
    assert [event["step"] for event in read_events(tmp_path / "slow")[0]] == [0, 3, 6, 9]


def test_a_decision_comes_with_the_figures_of_its_step_and_of_the_next(tmp_path: Path) -> None:
    with EventWriter(tmp_path / "events", clock=lambda: 0.0) as events:
        for step in range(40):
            events.step(step, 0.0, loss=float(step))
            if step in (0, 7, 20, 21):
                events.decision(step, chosen={})
    written = read_events(tmp_path / "events")[0]
    steps = [event for event in written if event["kind"] == "step"]
    assert [event["step"] for event in steps] == [0, 1, 7, 8, 20, 21, 22]
    assert all(event["loss"] == event["step"] for event in steps)
    assert [event["step"] for event in written if event["kind"] == "group"] == [0, 7, 20, 21]


def test_reader_leaves_a_torn_line_and_the_next_writer_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    with EventWriter(path) as events:
        events.log("one")
    with path.open("a") as stream:
        stream.write('{"v":1,"t":1,"attempt":1,"kind":"log","mess')
    first, offset = read_events(path)
    assert [event["message"] for event in first] == ["one"]
    with EventWriter(path, attempt=2) as events:
        events.log("two")
    rest, end = read_events(path, offset)
    assert [(event["message"], event["attempt"]) for event in rest] == [("two", 2)]
    assert end == path.stat().st_size
    assert read_events(path, end) == ([], end)
    assert read_events(tmp_path / "absent", 0) == ([], 0)


def test_readers_keep_the_last_attempt_of_each_step(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    for attempt, steps in ((1, (0, 50, 100)), (2, (50, 100, 150))):
        with EventWriter(path, attempt) as events:
            for step in steps:
                events.point(Point.from_dict({**POINT.to_dict(), "step": step, "loss": float(attempt)}))
    last = [(event["step"], event["loss"]) for event in last_attempts(read_events(path)[0])]
    assert last == [(0, 1.0), (50, 2.0), (100, 2.0), (150, 2.0)]


def test_events_of_a_newer_version_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text('{"v":2,"t":1,"attempt":1,"kind":"log","step":0,"epoch":0}\n')
    with pytest.raises(CompressionError, match="version 2"):
        read_events(path)


def test_check_raises_once_the_cancel_file_is_there(tmp_path: Path) -> None:
    now = [100.0]
    with EventWriter(tmp_path / "events", cancel_files=[tmp_path / "cancel"], clock=lambda: now[0]) as events:
        events.check()
        (tmp_path / "cancel").touch()
        events.check()  # looked at too short a time ago
        now[0] += 1
        with pytest.raises(Cancelled):
            events.check()


# --- states -----------------------------------------------------------------------------------------------------------


def test_a_process_is_known_by_its_id_and_start_time() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    handle = Handle.from_pid(child.pid)
    assert handle.alive()
    assert not Handle(handle.host, handle.pid, handle.start - 100).alive()  # the number was another's before
    child.kill()
    until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert not handle.alive()  # ended, though nobody has fetched its status yet
    child.communicate()
    assert not handle.alive()


def test_on_another_machine_the_heartbeat_decides(tmp_path: Path) -> None:
    now, beat = [1000.0], tmp_path / "heartbeat"
    elsewhere, listener = Handle("another-machine", 1, 0.0), Listener(lambda: now[0])
    assert not elsewhere.alive(beat, listener)
    beat.write_text("1")
    os.utime(beat, (0, 0))  # the age of the file says nothing: whose clock is right?
    assert (elsewhere.alive(beat, listener), elsewhere.is_sure(beat, listener)) == (True, False)
    now[0] += SILENT_SECONDS - 1
    assert elsewhere.alive(beat, listener)
    beat.write_text("2")
    os.utime(beat, (0, 0))
    assert (elsewhere.alive(beat, listener), elsewhere.is_sure(beat, listener)) == (True, True)
    os.utime(beat, (2**33, 2**33))  # a worker of an older version only touches it; its clock may be ahead
    now[0] += SILENT_SECONDS - 1
    assert elsewhere.alive(beat, listener)
    now[0] += SILENT_SECONDS
    assert (elsewhere.alive(beat, listener), elsewhere.is_sure(beat, listener)) == (False, True)
    assert Handle("another-machine", 2, 0.0).alive(beat, listener)  # another worker is listened to anew
    beat.write_text("3")
    assert elsewhere.alive(beat, listener)


def test_commands_that_look_once_hear_together(tmp_path: Path) -> None:
    now, beat, elsewhere = [1000.0], tmp_path / "heartbeat", Handle("another-machine", 1, 0.0)

    def look() -> tuple[bool, bool]:
        command = Listener(lambda: now[0])  # that of a process of its own
        return elsewhere.alive(beat, command), elsewhere.is_sure(beat, command)

    beat.write_text("1")
    assert look() == (True, False)
    now[0] += SILENT_SECONDS - 1
    assert look() == (True, False)
    beat.write_text("2")
    assert look() == (True, True)  # it goes on
    now[0] += SILENT_SECONDS
    assert look() == (False, True)
    note = beat.with_name("heartbeat.heard")
    for damaged in (b"{", b"[]", b"{}", note.read_bytes().replace(b'"since": ', b'"since": "x", "was": ')):
        note.write_bytes(damaged)
        assert look() == (True, False)
    note.unlink()
    note.mkdir()
    assert look() == (True, False)


def test_a_listener_that_was_asleep_itself_declares_nobody_dead(tmp_path: Path) -> None:
    now, beat = [0.0], tmp_path / "heartbeat"
    beat.write_text("1")

    def clock() -> float:
        return now[0]

    elsewhere, listener = Handle("another-machine", 1, 0.0), Listener(clock)
    assert elsewhere.alive(beat, listener)
    now[0] += 10 * SILENT_SECONDS
    beat.write_text("2")  # it went on all the time
    assert elsewhere.alive(beat, listener)
    now[0] += SILENT_SECONDS - 1
    assert elsewhere.alive(beat, listener)


@pytest.mark.skipif(not psutil.LINUX, reason="elsewhere the start of a process does not follow the clock")
@pytest.mark.parametrize("hours", [-5, 5])
def test_setting_the_clock_changes_no_process(hours: int, monkeypatch: pytest.MonkeyPatch) -> None:
    handle, started = Handle.current(), psutil.Process().create_time()
    boot = psutil.boot_time() + hours * 3600  # what Linux reports from then on: now, less the time since the boot
    monkeypatch.setattr(psutil, "boot_time", lambda: boot)
    monkeypatch.setattr(psutil.Process, "create_time", lambda process: started + hours * 3600)
    assert handle.alive()
    assert Handle.current().is_process_of(handle)


def test_the_heart_beats_while_the_main_thread_computes(tmp_path: Path) -> None:
    beat = tmp_path / "beat"
    with Heartbeat(beat, seconds=0.05):
        seen = {beat.read_bytes()}
        until(lambda: seen.add(beat.read_bytes()) or len(seen) > 2)  # type: ignore[func-returns-value]
        sum(i * i for i in range(300_000))
    last = beat.read_bytes()
    time.sleep(0.15)
    assert beat.read_bytes() == last


def test_the_heart_of_a_superseded_attempt_stops_and_makes_no_file(tmp_path: Path) -> None:
    lost = threading.Event()

    def confirm() -> None:
        if lost.is_set():
            raise Superseded("taken over")

    beat = tmp_path / "beat"
    with Heartbeat(beat, seconds=0.02, confirm=confirm) as heart:
        beat.unlink()
        time.sleep(0.1)
        assert not beat.exists()
        beat.write_text("of another")
        lost.set()
        until(lambda: not heart._thread.is_alive())
        beat.write_text("of another")
        time.sleep(0.05)
        assert beat.read_text() == "of another"


def test_a_run_goes_from_queued_to_done(store: Store) -> None:
    folder = add(store, sync=False)
    assert folder.state == "queued"
    store.sync()
    assert store.get(folder.id).state == "running"
    result = runs.wait(folder.id, store.root, timeout=PATIENCE)
    assert (result["run"], result["status"]) == (folder.id, "done")
    assert json.loads(folder.result_path.read_text()) == result
    assert [event["kind"] for event in folder.events()] == ["state", "plan", "step", "step", "state"]
    assert folder.events()[0]["pid"] == Handle.load(folder.process_path).pid
    assert "attempt 1" in store.launcher.logs(folder)
    info = store.get(folder.id)
    assert (info.state, info.step, info.total_steps) == ("done", 4, 5)
    assert not list(folder.path.glob("*.tmp"))


def test_a_failing_run_says_why_in_one_line_and_keeps_the_traceback(store: Store) -> None:
    folder = add(store, fail=True)
    result = runs.wait(folder.id, store.root, timeout=PATIENCE)
    assert (result["status"], result["error"]) == ("failed", "this one fails")
    assert "Traceback" in folder.log_path.read_text()
    assert store.get(folder.id).error == "this one fails"
    assert not folder.result_path.exists()


def test_a_killed_worker_shows_as_lost_and_the_queue_goes_on(store: Store) -> None:
    folder, waiting = add(store, pause=30), add(store)
    until(lambda: folder.attempts() == 1)
    assert (store.get(folder.id).state, store.get(waiting.id).state) == ("running", "queued")
    os.kill(Handle.load(folder.process_path).pid, signal.SIGKILL)
    until(lambda: folder.state == "lost")
    store.sync()
    assert runs.wait(waiting.id, store.root, timeout=PATIENCE)["status"] == "done"
    assert store.get(folder.id).state == "lost"


def test_a_worker_outlives_the_process_that_started_it(store: Store, tmp_path: Path) -> None:
    folder = add(store, sync=False, pause=0.1)
    script = f"""
        import sys
        from compression.runs.launcher import LocalLauncher
        from compression.runs.store import Store
        command = (sys.executable, {str(tmp_path / "tiny_worker.py")!r})
        Store({str(store.root)!r}, launcher=LocalLauncher(command)).sync()
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=30)
    assert folder.state == "running"
    pid = Handle.load(folder.process_path).pid
    assert os.getsid(pid) == pid  # what is sent to the terminal's processes does not reach it
    assert runs.wait(folder.id, store.root, timeout=PATIENCE)["status"] == "done"


def test_a_run_is_carried_out_by_one_process_only(store: Store) -> None:
    folder = add(store, pause=30)
    until(lambda: folder.attempts() == 1)
    with pytest.raises(CompressionError, match="being carried out by process"):
        carry_out(folder, lambda folder, events: {})
    assert folder.attempts() == 1


# --- queue ------------------------------------------------------------------------------------------------------------


def test_runs_wait_for_the_slot_and_the_finishing_worker_starts_the_next(store: Store) -> None:
    folders = [add(store) for _ in range(3)]
    assert [folder.state for folder in folders] == ["running", "queued", "queued"]
    until(lambda: all(folder.state == "done" for folder in folders))  # nobody syncs but the workers themselves
    spans = [(folder.events()[0]["t"], folder.events()[-1]["t"]) for folder in folders]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(spans))


def test_many_processes_that_sync_at_once_start_a_run_once(store: Store, tmp_path: Path) -> None:
    (store.root / "runs.sqlite").unlink()
    folder = add(store, sync=False, pause=0.2)
    script = f"""
        import sys
        from compression.runs.launcher import LocalLauncher
        from compression.runs.store import Store
        command = (sys.executable, {str(tmp_path / "tiny_worker.py")!r})
        for _ in range(20):
            Store({str(store.root)!r}, launcher=LocalLauncher(command)).sync()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    crowd = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    assert [process.communicate(timeout=60)[1] for process in crowd] == [""] * 6
    assert runs.wait(folder.id, store.root, timeout=PATIENCE)["status"] == "done"
    assert folder.attempts() == 1
    assert folder.log_path.read_text().count("attempt") == 1


def test_two_slots_run_two_at_a_time(tmp_path: Path, launcher: LocalLauncher) -> None:
    store = Store(tmp_path / "runs", slots=2, launcher=launcher)
    folders = [add(store, pause=0.3) for _ in range(3)]
    assert [folder.state for folder in folders] == ["running", "running", "queued"]
    for folder in folders:
        runs.cancel(folder.id, store.root, store=store)


def test_the_index_can_be_deleted_and_comes_back(store: Store) -> None:
    folders = [add(store), add(store, fail=True)]
    for folder in folders:
        runs.wait(folder.id, store.root, timeout=PATIENCE)
    before = store.list()
    assert [info.id for info in before] == [folders[1].id, folders[0].id]  # newest first
    store.sync()
    assert store.list() == before
    for file in store.root.glob("runs.sqlite*"):
        file.unlink()
    assert store.list() == before  # even under the feet of a running app
    with sqlite3.connect(store.root / "runs.sqlite") as db:
        db.execute("PRAGMA user_version = 99")
    assert Store(store.root).list() == before


def test_points_are_indexed_once_and_a_later_attempt_replaces(store: Store) -> None:
    folder = add(store, sync=False)
    for attempt in (1, 2):
        with EventWriter(folder.events_path, attempt) as events:
            events.state("running")
            events.point(Point.from_dict({**POINT.to_dict(), "loss": float(attempt)}))
            events.state("failed", error="x")
        store.sync()
        store.sync()
    assert [point.loss for point in store.points(folder.id)[folder.id]] == [2.0]


def test_folders_that_are_no_readable_run_are_named_and_left_alone(store: Store) -> None:
    good = add(store)
    (store.root / "holiday").mkdir()
    for name, text in {
        "edited": "{not json",
        "newer": '{"version": 2, "id": "newer", "created": 1, "budget": {}}',
        "empty": '{"version": 1, "id": "empty"}',
    }.items():
        (store.root / name).mkdir()
        (store.root / name / "spec.json").write_text(text)
    assert [info.id for info in store.list()] == [good.id]
    problems = " ".join(store.problems)
    assert "edited" in problems
    assert "version 2" in problems
    assert "budget" in problems
    assert "holiday" not in problems
    assert sorted(path.name for path in store.root.iterdir() if path.is_dir()) == sorted(
        ["holiday", "edited", "newer", "empty", good.id]
    )
    with pytest.raises(CompressionError, match="version 2"):
        store.get("newer")
    runs.wait(good.id, store.root, timeout=PATIENCE)


def test_a_damaged_process_file_or_point_is_a_problem_not_a_crash(store: Store) -> None:
    folder, other = add(store, sync=False), add(store, sync=False)
    folder.process_path.write_text("{}")
    other.events_path.write_text('{"v":1,"t":1,"attempt":1,"kind":"point","step":1,"epoch":0}\n')
    assert store.list() == []
    assert len(store.problems) == 2


def test_a_run_id_is_never_a_path(store: Store) -> None:
    folder = add(store, sync=False)
    for name in ("../runs/" + folder.id, "", ".", "..", "absent"):
        with pytest.raises(CompressionError, match="no run"):
            RunFolder.open(store.root, name)


def test_a_runs_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(
        CompressionError, match=r"^runs folder .*file/runs cannot be written: Not a directory; .*--runs"
    ):
        Store(tmp_path / "file" / "runs")


# --- cancelling -------------------------------------------------------------------------------------------------------


def test_cancel_stops_a_running_and_a_waiting_run(store: Store) -> None:
    running, waiting = add(store, steps=1000, pause=0.05), add(store)
    until(lambda: running.attempts() == 1)
    assert runs.cancel(waiting.id, store.root, store=store) == "cancelled"
    assert runs.cancel(running.id, store.root, store=store) == "cancelled"
    assert running.events()[-1]["state"] == "cancelled"
    assert waiting.attempts() == 0
    assert [info.state for info in store.list()] == ["cancelled", "cancelled"]
    assert runs.cancel(running.id, store.root) == "cancelled"  # twice is no harm
    assert runs.result(running)["status"] == "cancelled"


def test_cancel_asks_then_sends_sigterm_then_kills(store: Store) -> None:
    asleep, deaf = add(store, pause=60), add(store, deaf=True)
    until(lambda: asleep.attempts() == 1)
    assert runs.cancel(asleep.id, store.root, grace=0.3, store=store) == "cancelled"
    assert asleep.events()[-1]["state"] == "cancelled"  # it said so itself: SIGTERM was enough
    until(lambda: len(deaf.events()) == 2)
    assert runs.cancel(deaf.id, store.root, grace=0.3, store=store) == "cancelled"
    assert deaf.events()[-1]["kind"] == "plan"  # it could not say anything any more


# --- full disks -------------------------------------------------------------------------------------------------------


def test_a_full_disk_fails_the_run_with_a_clear_line(store: Store) -> None:
    def fill(folder: RunFolder, events: EventWriter) -> dict[str, Any]:
        with open("/dev/full", "w") as stream:
            stream.write("x")
        return {}

    folder = add(store, sync=False)
    assert carry_out(folder, fill) == "failed"
    assert runs.result(folder)["error"].startswith("no space left on the disk of")
    assert not folder.reserve_path.exists()


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("mount") is None, reason="mounting a small disk needs root")
def test_a_run_on_a_truly_full_disk_can_still_say_so(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small disk is not allowed here")
    try:
        spec = {"id": "one", "created": 1.0, "budget": Budget().to_dict()}
        folder = RunFolder.create(disk, spec)

        def fill(folder: RunFolder, events: EventWriter) -> dict[str, Any]:
            folder.bundle.mkdir()
            with contextlib.suppress(OSError):
                (folder.bundle / "weights.packed").write_bytes(b"x" * 10_000_000)
            while True:  # until the events themselves find no room, in the middle of a line
                events.log("x" * 100)

        assert carry_out(folder, fill) == "failed"
        assert folder.state == "failed"
        assert runs.result(folder)["error"].startswith("no space left on the disk of")
        with pytest.raises(CompressionError, match="no space left on the disk of runs folder"):
            RunFolder.create(disk, {**spec, "id": "two"})
        assert not (disk / "two").exists()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_runs_are_added_all_or_none(store: Store) -> None:
    spec = new_spec(Budget(), store)
    with pytest.raises(CompressionError, match="cannot be written"):
        store.add(spec, {**new_spec(Budget(), store), "id": f"{spec['id']}/spec.json/x"})
    assert not list(store.root.glob("*/spec.json"))
    assert store.list() == []


def test_new_runs_keep_a_reserve(store: Store) -> None:
    assert add(store, sync=False).reserve_path.stat().st_size == RESERVE_BYTES


# --- sweeps -----------------------------------------------------------------------------------------------------------


def sweep(store: Store, *shares: float, **options: Any) -> tuple[RunFolder, list[RunFolder]]:
    budget = Budget(options=options)
    parent, specs_of_runs = specs(budget, combinations(budget, shares), store)
    *children, folder = store.add(*specs_of_runs, parent)
    return folder, children


def test_combinations_are_every_pair_of_values() -> None:
    budgets = combinations(Budget(method="opq"), [0.3, 0.5], [3, 4, 6])
    assert [(each.asks["sparsity"], each.asks["bits"]) for each in budgets] == [
        (s, b) for s in (0.3, 0.5) for b in (3, 4, 6)
    ]
    geta = combinations(Budget(), [0.3], [(4, 8), 6])
    assert [tuple(each.asks["weight_bits"]) for each in geta] == [(4, 8), (6, 6)]
    assert combinations(Budget()) == [Budget()]
    with pytest.raises(CompressionError, match="asked for twice"):
        combinations(Budget(), [0.3, 0.3])
    with pytest.raises(CompressionError, match="one average number"):
        combinations(Budget(method="opq"), [], [(4, 8)])
    with pytest.raises(CompressionError, match="sparsity must be in"):
        combinations(Budget(), [0.3, 1.2])


def test_ids_are_readable_and_never_given_twice(store: Store) -> None:
    budget = Budget(method="opq", model="nets/My Net.py:build")
    parent, children = specs(budget, combinations(budget, [i / 1000 for i in range(500)]), store)
    assert re.fullmatch(r"sweep-opq-my-net-py-build-\d{8}-\d{4}-[0-9a-f]{6}", parent["id"])
    assert children[0]["id"] == parent["id"].removeprefix("sweep-") + "-01"
    assert len({child["id"] for child in children}) == 500
    (store.root / new_spec(budget, store)["id"]).mkdir()
    assert not any((store.root / new_spec(budget, store)["id"]).exists() for _ in range(50))


def test_one_worker_carries_out_a_sweep_and_a_failure_stops_nothing(store: Store) -> None:
    folder, children = sweep(store, 0.1, 0.66, 0.3)
    result = runs.wait(folder.id, store.root, timeout=PATIENCE)
    assert result["status"] == "failed"
    assert result["error"].startswith("1 of 3 runs failed")
    assert [run["status"] for run in result["runs"]] == ["done", "failed", "done"]
    pids = {child.events()[0]["pid"] for child in children} | {folder.events()[0]["pid"]}
    assert len(pids) == 1
    assert {info.sweep for info in store.list()} == {None, folder.id}
    assert store.get(folder.id).runs == 3
    good, _ = sweep(store, 0.1, 0.2)
    assert runs.wait(good.id, store.root, timeout=PATIENCE)["status"] == "done"


def test_cancelling_a_sweep_cancels_its_runs_and_cancelling_one_run_only_that(store: Store) -> None:
    folder, children = sweep(store, 0.1, 0.2, 0.3, steps=1000, pause=0.02)
    until(lambda: children[0].attempts() == 1)
    assert runs.cancel(children[0].id, store.root, store=store) == "cancelled"
    until(lambda: children[1].attempts() == 1)
    assert folder.state == "running"
    assert runs.cancel(folder.id, store.root, grace=100, store=store) == "cancelled"  # no signal is needed
    assert [child.state for child in children] == ["cancelled"] * 3
    assert children[2].attempts() == 0
    assert {info.state for info in store.list()} == {"cancelled"}


def test_sigterm_ends_a_sweep_with_the_run_that_goes(store: Store) -> None:
    folder, children = sweep(store, 0.1, 0.2, steps=1000, pause=0.02)
    until(lambda: children[0].attempts() == 1)
    store.launcher.stop(folder)
    until(lambda: folder.state == "cancelled")
    assert [child.state for child in children] == ["cancelled", "cancelled"]
    assert children[1].attempts() == 0


def test_runs_of_a_killed_sweep_are_lost_not_queued(store: Store) -> None:
    folder, children = sweep(store, 0.1, 0.2, steps=1000, pause=0.02)
    until(lambda: children[0].attempts() == 1)
    os.kill(Handle.load(folder.process_path).pid, signal.SIGKILL)
    until(lambda: folder.state == "lost")
    assert [info.state for info in store.list()] == ["lost"] * 3
    assert [child.state for child in children] == ["lost", "lost"]


# --- the real work ----------------------------------------------------------------------------------------------------


class QuarterOff(methods.Method):
    """A method in a few lines: every fourth unit of each group zeroed, all weights in 8 bits, no training."""

    info = methods.Info("quarter", "Quarter off", "For tests.", "structured", slot=90)
    asks = (Sparsity(),)

    def run(self, task: Any, report: Any) -> Any:
        from compression.graph import zero_units
        from compression.methods.base import Compressed
        from compression.quant import quantize
        from compression.training.measure import measure

        report.plan(1)
        zero_units(task.model, task.graph, {group.id: range(0, group.units, 4) for group in task.graph.prunable})
        quantize(task.model, weight_bits=8)
        report.step(1, 0.5, loss=1.0)
        report.point(measure(task, task.model, step=1, epoch=0.5, phase="only", limit=50))
        return Compressed(task.model, {"units": "every fourth"})


@pytest.fixture
def seeded_weights(tmp_path: Path) -> Path:
    from compression import zoo
    from compression.zoo import weights

    return weights.save(zoo.build("resnet8"), tmp_path / "initial.safetensors", {})


def test_a_run_ends_with_a_smaller_model_that_is_what_its_result_says(store: Store, seeded_weights: Path) -> None:
    import torch
    from safetensors.torch import load_file

    from compression import data, zoo
    from compression.graph import slim, trace, zero_units
    from compression.pack import unpack
    from compression.runs.execute import execute
    from compression.training.dense import evaluate

    budget = Budget(weights=str(seeded_weights))
    folder = RunFolder.create(store.root, new_spec(budget, store))
    assert carry_out(folder, lambda folder, events: execute(folder, events, method=QuarterOff())) == "done"
    result = runs.result(folder)
    promised = "run status baseline final points ledger equality confusion seconds".split()
    assert all(name in result for name in promised)
    assert [point["phase"] for point in result["points"]] == ["baseline", "only", "final"]
    assert [point["split"] for point in result["points"]] == ["test", "validation", "test"]
    final, baseline, packed = result["final"], result["baseline"], folder.bundle / "weights.packed"
    assert final["bytes"] == result["ledger"]["total"] == packed.stat().st_size
    assert final["bytes_kind"] == "packed"
    assert abs(baseline["bytes"] - seeded_weights.stat().st_size) < 100  # the header says where the weights are from
    assert result["baseline_ledger"]["total"] == baseline["bytes"]
    assert (final["unit_sparsity"], baseline["unit_sparsity"]) == (0.25, 0)
    assert {width["weight"] for width in final["bits"].values()} == {8.0}
    assert result["equality"] <= 1e-5

    dataset = data.load("mnist5k")
    dense = zoo.build("resnet8")
    graph = trace(dense, torch.zeros(1, 1, 28, 28))
    assert baseline["accuracy"] == evaluate(dense, dataset, "test").score
    zero_units(dense, graph, {group.id: list(range(0, group.units, 4)) for group in graph.prunable})
    plain = slim(dense, graph)
    plain.load_state_dict(load_file(folder.bundle / "model.safetensors"))
    measured = evaluate(plain, dataset, "test")
    assert (measured.score, measured.details["confusion"]) == (final["accuracy"], result["confusion"]["final"])
    assert sum(map(sum, result["confusion"]["baseline"])) == len(dataset.test)
    restored = unpack(packed)
    assert all(torch.equal(restored[name], tensor) for name, tensor in plain.state_dict().items())


def test_a_packed_file_that_restores_something_else_fails_the_run(store: Store, seeded_weights: Path) -> None:
    from compression import zoo
    from compression.errors import RunFailed
    from compression.pack import pack
    from compression.pack.restore import restored

    folder = RunFolder.create(store.root, new_spec(Budget(weights=str(seeded_weights)), store))
    folder.bundle.mkdir()
    pack(zoo.build("resnet8", seed=1), folder.bundle / "weights.packed")
    with pytest.raises(RunFailed, match="does not restore the model"):
        restored(zoo.build("resnet8", seed=2), folder.bundle / "weights.packed")
    restored(zoo.build("resnet8", seed=1), folder.bundle / "weights.packed")


def test_runs_of_a_sweep_share_the_preparation(seeded_weights: Path) -> None:
    from compression.runs.prepare import Workbench

    bench, budget = Workbench(), Budget(weights=str(seeded_weights))
    first = bench.prepare(budget)
    assert bench.prepare(budget.replace(sparsity=0.7, bits=6)) is first
    one, other = first.setup(budget), first.setup(budget)
    assert one.model is not other.model
    assert one.model is not first.subject.model
