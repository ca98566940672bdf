"""Run folders that somebody edited or linked: each fails alone, and nothing outside the runs folder changes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from compression import runs
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.jobs import explain_run as explaining
from compression.jobs import studies
from compression.runs import gallery, lines
from compression.runs.events import last_state, read_events
from compression.runs.eventwriter import EventWriter
from compression.runs.files import write_json
from compression.runs.folder import RunFolder
from compression.runs.launcher import tail
from compression.runs.lease import Lease
from compression.runs.process import Handle
from compression.runs.store import Store
from compression.runs.submit import new_spec
from tests.test_damaged_runs import finished, refused

if TYPE_CHECKING:
    from opened import Open

SAID = '{"v":1,"t":1,"attempt":1,"kind":"%s","step":0,"epoch":0%s}\n'


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder beside the runs that looks like one of them; at the end it must be as it was, and alone there."""
    folder = finished(tmp_path).path.rename(tmp_path / "victim")
    for path in tmp_path.glob("runs.sqlite*"):
        path.unlink()
    before = _whole(folder)
    yield folder
    assert _whole(folder) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["runs", "victim"]


def _whole(folder: Path) -> dict[str, tuple[bytes, int]]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


def named(root: Path, name: str, **changes: Any) -> RunFolder:
    """A finished run of this name with some fields of its spec changed."""
    folder = RunFolder(finished(root).path.rename(root / name))
    edit(folder, **changes)
    return folder


def edit(folder: RunFolder, **changes: Any) -> None:
    write_json(folder.spec_path, {**json.loads(folder.spec_path.read_text(encoding="utf-8")), **changes})


# --- names in specs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "children",
    [["../victim"], ["/tmp"], [".."], ["sweep"], ["part", "part"], ["other"], ["studies"], [{"a": 1}], [None], "part",
     {"a": 1}, [["part"]]],
)  # fmt: skip
def test_a_sweep_names_only_its_own_runs(
    children: Any, root: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named(root, "part", sweep="sweep")
    named(root, "other")
    sweep = named(root, "sweep", children=children)
    sweep.add_state("failed", "x")
    before = sorted(path.name for path in root.iterdir() if path.is_dir())
    for verb in ("delete", "resume"):
        message = refused(capsys, verb, "sweep", "--runs", str(root))
        assert "sweep" in message
    with pytest.raises(CompressionError):
        sweep.children()
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == before
    assert {info.id for info in Store(root, slots=0).list()} >= {"other"}
    assert main(["delete", "--older-than", "0", "--runs", str(root)]) == 0
    assert not (root / "other").exists(), "the others are deleted"
    assert sweep.spec_path.is_file()


def test_the_true_runs_of_a_sweep_are_deleted_with_it(root: Path) -> None:
    for name in ("one", "two"):
        named(root, name, sweep="sweep")
    sweep = named(root, "sweep", children=["one", "two", "never-made"])
    assert [child.id for child in sweep.children()] == ["one", "two"]
    assert runs.delete(["sweep"], root) == ["sweep", "one", "two"]
    assert [path.name for path in root.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("sweep", ["waiting", "../victim", "..", "plain", "ring", {"a": 1}, 7])
def test_a_run_belongs_only_to_a_sweep_that_names_it(sweep: Any, root: Path, outside: Path) -> None:
    named(root, "plain")
    named(root, "ring", sweep="waiting", children=["waiting"]).events_path.unlink()
    waiting = named(root, "waiting", sweep=sweep)
    waiting.events_path.unlink()
    with pytest.raises(CompressionError, match=r"as its sweep|sweep must be a text"):
        _ = waiting.state
    store = Store(root, slots=0)
    assert [info.id for info in store.list()] == ["plain"]
    assert any("waiting" in problem for problem in store.problems)


def test_a_search_makes_no_run_elsewhere(root: Path, outside: Path) -> None:
    from compression.runs.bisect import carry_out_find

    planned = [{"id": "../stranger", "budget": Budget().to_dict()}]
    sweep = named(root, "search", children=["one"], find={"min_accuracy": 0.5, "planned": planned})
    with EventWriter(sweep.events_path) as events, pytest.raises(CompressionError, match="stranger"):
        carry_out_find(sweep, events, work=lambda folder, events: {}, stopped=lambda: False)  # type: ignore[arg-type]


def test_a_run_is_never_made_over_another(root: Path, outside: Path) -> None:
    there = named(root, "there")
    before = _whole(there.path)
    for name in ("there", "../victim", "studies", ""):
        with pytest.raises(CompressionError):
            RunFolder.create(root, {"id": name, "created": 1.0, "budget": {}})
    assert _whole(there.path) == before


# --- links and pipes --------------------------------------------------------------------------------------------------


def test_a_run_that_is_a_link_is_none_and_spoils_no_deletion(
    root: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    deleted, stays = named(root, "gone"), named(root, "stays")
    (root / "link").symlink_to(outside)
    (root / ".deleted-link").symlink_to(outside)  # left by an interrupted deletion
    (root / ".deleted-gone").mkdir()
    (root / ".deleted-gone" / "rest").write_text("x", encoding="utf-8")
    for verb in ("show", "cancel", "pause", "resume", "delete"):
        assert "is a link" in refused(capsys, verb, "link", "--runs", str(root))
    store = Store(root, slots=0)
    assert {info.id for info in store.list()} == {"gone", "stays"}
    assert ["is a link" in problem for problem in store.problems] == [True]
    assert main(["delete", deleted.id, "--runs", str(root)]) == 0
    assert sorted(path.name for path in root.iterdir() if path.name != "runs.sqlite") == ["link", stays.id]


INNER = [
    *("events.jsonl", "log.txt", "cancel", "pause", "reserve", "heartbeat", "process.json", "checkpoint.pt"),
    *("checkpoint.pt.partial", "result.json", "bundle", "explain", "bundle/weights.packed", "new/deep/link"),
]


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("whole", [True, False])
def test_nothing_is_written_through_a_link_and_the_run_can_be_deleted(
    name: str, whole: bool, root: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, other = named(root, "linked"), named(root, "other")
    path = folder.path / name
    path.unlink(missing_ok=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(outside if whole else outside / "events.jsonl")
    for verb in ("show", "cancel", "pause", "resume"):
        assert path.name in refused(capsys, verb, "linked", "--runs", str(root))
    for write in (
        lambda: folder.ask_to_stop(), lambda: folder.ask_to_pause(), lambda: folder.add_state("failed", "x"),
        lambda: folder.log("x"), lambda: folder.put_back(), lambda: explaining.start(folder, command=("true",)),
    ):  # fmt: skip
        try:
            write()
        except CompressionError as error:
            assert path.name in str(error)
    assert main(["delete", "linked", "--runs", str(root)]) == 0
    assert not folder.path.exists()
    assert [info.id for info in Store(root, slots=0).list()] == [other.id]


def test_a_hard_link_to_a_file_elsewhere_is_not_added_to(root: Path, outside: Path) -> None:
    folder = named(root, "linked")
    folder.events_path.unlink()
    os.link(outside / "events.jsonl", folder.events_path)
    with pytest.raises(CompressionError, match="hard link"):
        folder.add_state("failed", "x")


def test_an_index_that_is_a_link_is_not_used(root: Path, outside: Path) -> None:
    run = named(root, "run")
    for path in root.glob("runs.sqlite*"):
        path.unlink()
    (root / "runs.sqlite").symlink_to(outside / "result.json")
    (root / "studies").symlink_to(outside)
    store = Store(root, slots=0)
    assert [info.id for info in store.list()] == [run.id]
    assert "is no plain file" in store.problems[0]
    with pytest.raises(CompressionError, match="is a link"):
        studies.studies(root)


def test_a_copy_of_the_gallery_is_made_below_the_runs_only(root: Path, outside: Path) -> None:
    exhibit = gallery.read(Path(__file__).parents[1] / "assets" / "gallery").exhibits[0]
    root.mkdir()
    (root / ".gallery").symlink_to(outside)
    with pytest.raises(CompressionError, match="link"):
        gallery.workplace(exhibit, root)
    (root / ".gallery").unlink()
    (root / ".gallery").mkdir()
    (root / ".gallery" / exhibit.info.id).symlink_to(outside)
    with pytest.raises(CompressionError, match="link"):
        gallery.workplace(exhibit, root)
    (root / ".gallery" / exhibit.info.id).unlink()
    assert gallery.workplace(exhibit, root).result_path.is_file()


# --- each run fails alone ---------------------------------------------------------------------------------------------


def _replace(name: str, make: Callable[[Path], object]) -> Callable[[RunFolder], object]:
    def change(folder: RunFolder) -> None:
        (folder.path / name).unlink(missing_ok=True)
        make(folder.path / name)

    return change


def _holding(name: str, text: str) -> Callable[[RunFolder], object]:
    return lambda folder: (folder.path / name).write_text(text, encoding="utf-8")


def _long(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 30)


BAD: dict[str, Callable[[RunFolder], object]] = {
    "events that are a folder": _replace("events.jsonl", Path.mkdir),
    "events that are a pipe": _replace("events.jsonl", os.mkfifo),
    "events that point at themselves": _replace("events.jsonl", lambda path: path.symlink_to(path.name)),
    "events of a gigabyte of zeros": _replace("events.jsonl", _long),
    "events that are no events": _holding("events.jsonl", "\n" * 5000),
    "a line of nine megabytes": _holding("events.jsonl", "x" * (9 << 20)),
    "a huge number of steps": _holding("events.jsonl", SAID % ("plan", ',"total_steps":' + "9" * 30)),
    "a number of 400 digits": _holding("events.jsonl", SAID % ("plan", ',"total_steps":' + "9" * 400)),
    "a step that is an object": _holding("events.jsonl", (SAID % ("step", "")).replace('"step":0', '"step":{"a":1}')),
    "a moment beyond all calendars": _holding(
        "events.jsonl", SAID.replace('"t":1', '"t":1e300') % ("state", ',"state":"done"')
    ),
    "a stage that is a list": _holding("events.jsonl", SAID % ("phase", ',"phase":[1]')),
    "a state without its name": _holding("events.jsonl", SAID % ("state", "")),
    "a spec that is a folder": _replace("spec.json", Path.mkdir),
    "a spec that is a pipe": _replace("spec.json", os.mkfifo),
    "a spec that points at itself": _replace("spec.json", lambda path: path.symlink_to(path.name)),
    "a spec of a gigabyte": _replace("spec.json", _long),
    "a deep spec": _holding("spec.json", '{"version":1,"created":1,"budget":{"options":' + "[" * 10_000 + "]" * 10_000),
    "a moment of 400 digits": lambda folder: edit(folder, created=10**18 * 10**382),
    "a moment of 300 zeros": lambda folder: edit(folder, created=1e300),
    "no moment": lambda folder: edit(folder, created=True),
    "a priority of 30 digits": lambda folder: edit(folder, priority=10**30),
    "a method that is a list": lambda folder: edit(folder, budget={"method": ["geta"]}),
    "bits that are three": lambda folder: edit(folder, budget={"weight_bits": [1, 2, 3]}),
    "a process of number -1": _holding(
        "process.json", json.dumps({"version": 1, "host": socket.gethostname(), "pid": -1, "start": 1, "launcher": ""})
    ),
    "a heartbeat that is a pipe": _replace("heartbeat", os.mkfifo),
    "a log that is a pipe": _replace("log.txt", os.mkfifo),
    "a result that is a pipe": _replace("result.json", os.mkfifo),
}  # fmt: skip
OPEN = "a process of number -1"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_folder_is_named_and_the_others_are_listed(
    name: str, root: Path, outside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = named(root, "good"), named(root, "bad")
    if name == OPEN:
        bad.events_path.unlink()  # else its last state says all
    BAD[name](bad)
    begun = time.monotonic()
    store = Store(root, slots=0)
    for _ in range(3):
        assert [info.id for info in store.list()] == [good.id]
        assert len(store.problems) == 1
        assert "bad" in store.problems[0]
        assert "runs.sqlite" not in store.problems[0]
    assert store.get(good.id).state == "done"
    assert main(["runs", "--runs", str(root)]) == 0
    output = capsys.readouterr()
    assert good.id in output.out
    assert output.err.startswith("note: ")
    assert output.err.count("\n") == 1
    assert time.monotonic() - begun < 10, "nothing waits for anybody"
    assert main(["delete", good.id, "--runs", str(root)]) == 0


def test_the_runs_page_shows_the_good_ones_and_names_the_others(root: Path, open_page: Open) -> None:
    named(root, "good")
    for number, change in enumerate(BAD.values()):
        if number % 4 == 0:
            change(named(root, f"bad-{number}"))
    app = open_page("runs")
    captions = "\n".join(str(caption.value) for caption in app.caption)
    for number in range(0, len(BAD), 4):
        assert f"bad-{number}" in captions
    assert "good" in "".join(frame.value.to_string() for frame in app.dataframe)


def test_names_that_no_run_has_are_reported_in_letters_that_every_terminal_has(root: Path) -> None:
    good = named(root, "good")
    for name in (b"bad\xff", b"with space", "größe".encode(), b"line\nbreak"):
        os.rename(finished(root).path, os.fsencode(root) + b"/" + name)
    store = Store(root, slots=0)
    assert [info.id for info in store.list()] == [good.id]
    assert len(store.problems) == 4
    assert all(problem.encode() and "\n" not in problem for problem in store.problems)


def test_a_mended_folder_is_listed_at_once(root: Path) -> None:
    run = named(root, "run")
    text = run.spec_path.read_text(encoding="utf-8")
    run.spec_path.write_text("{", encoding="utf-8")
    store = Store(root, slots=0)
    assert store.list() == []
    run.spec_path.write_text(text, encoding="utf-8")
    assert [info.id for info in store.list()] == [run.id]
    assert store.problems == []


def test_a_folder_that_cannot_start_does_not_hold_up_the_queue(root: Path) -> None:
    started: list[str] = []

    class Noted:
        def start(self, folder: RunFolder, threads: int) -> Handle:
            started.append(folder.id)
            handle = Handle.current()
            handle.save(folder.process_path)
            return handle

    store = Store(root, slots=0)
    for name in ("first", "second"):
        RunFolder.create(root, {**new_spec(Budget(), store), "id": name, "threads": 1})
        store.list()
    (root / "first" / "log.txt").symlink_to(root / "second" / "spec.json")  # after it was put into the queue
    store = Store(root, slots=1, launcher=Noted())  # type: ignore[arg-type]
    states = {info.id: info.state for info in store.list()}
    assert started == ["second"]
    assert states["second"] == "running"
    assert any("first" in problem for problem in store.problems)


def test_a_sweep_is_shown_beside_a_run_of_it_that_is_damaged(
    root: Path, capsys: pytest.CaptureFixture[str], open_page: Open
) -> None:
    for name in ("one", "two"):
        named(root, name, sweep="sweep")
    sweep = named(root, "sweep", children=["one", "two"])
    sweep.result_path.unlink()
    RunFolder(root / "two").spec_path.write_text("{", encoding="utf-8")
    parts = runs.result(sweep)["runs"]
    assert [part["status"] for part in parts] == ["done", "failed"]
    assert "spec.json" in parts[1]["error"]
    app = open_page("runs", run="sweep")
    listed = next(frame.value for frame in app.dataframe if list(frame.value.columns)[:2] == ["state", "method"])
    assert len(listed) == 1
    assert not app.error
    assert "two" in refused(capsys, "delete", "sweep", "--runs", str(root))
    assert (root / "one").is_dir()


def test_lines_are_read_from_the_end_as_from_the_beginning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "BLOCK_BYTES", 7)
    path = tmp_path / "events.jsonl"
    written = [SAID % ("state", ',"state":"running"'), SAID % ("log", ',"message":"m"'), 'torn "kind":"state"\n', "\n"]
    unfinished = "".join(written) + written[0].replace("\n", "")
    for text in ("", "no end", *("".join(written[:n]) for n in range(5)), unfinished):
        path.write_text(text, encoding="utf-8")
        states = [event["state"] for event in read_events(path)[0] if event["kind"] == "state"]
        assert last_state(path) == (states[-1] if states else None)


def test_the_tail_of_a_long_log_is_read_and_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"".join(b"line %d\n" % number for number in range(200_000)))
    assert tail(path, 2) == "line 199998\nline 199999"
    assert tail(tmp_path / "absent", 2) == ""
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(CompressionError, match="no regular file"):
        tail(path, 2)


# --- signals ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[psutil.Process]:
    """A process that is no worker of ours, in a group of its own."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    yield psutil.Process(child.pid)
    child.kill()
    child.wait()


def test_a_process_that_a_file_names_without_right_gets_no_signal(
    root: Path, stranger: psutil.Process, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = RunFolder.create(root, {**new_spec(Budget(), Store(root, slots=0)), "id": "run"})
    with EventWriter(folder.events_path) as events:
        events.state("running")
    Handle.from_pid(stranger.pid).save(folder.process_path)
    with pytest.raises(CompressionError, match=f"process {stranger.pid} is no worker"):
        runs.cancel("run", root, grace=0.1)
    assert stranger.is_running()
    assert stranger.status() != psutil.STATUS_ZOMBIE
    path = folder.path / "explain" / "job.json"
    path.parent.mkdir()
    handle = {"host": socket.gethostname(), "pid": stranger.pid, "start": stranger.create_time()}
    write_json(path, {"version": 1, "handle": handle, "job": {"state": "running"}})
    with pytest.raises(CompressionError, match="is no worker"):
        explaining.cancel(folder)
    assert stranger.status() != psutil.STATUS_ZOMBIE
    folder.process_path.unlink()  # the way out that the message names
    assert runs.cancel("run", root, grace=0.1) == "cancelled"


def test_the_worker_of_the_folder_gets_the_signal(root: Path) -> None:
    from compression.runs.launcher import LocalLauncher

    folder = RunFolder.create(root, {**new_spec(Budget(), Store(root, slots=0)), "id": "run"})
    launcher = LocalLauncher((sys.executable, "-c", "import time; time.sleep(600)"))
    handle = launcher.start(folder, 1)
    child = psutil.Process(handle.pid)
    launcher.stop(folder, insist=True)
    assert child.wait(10) in (-signal.SIGKILL, None)
    assert handle.process() is None


def test_a_folder_that_may_not_be_looked_into_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system answers to a user without the right; the tests' own user may have every right."""
    good, closed = named(root, "good"), named(root, "closed")
    real = os.lstat

    def lstat(path: Any, **options: Any) -> os.stat_result:
        if str(path).startswith(f"{closed.path}/"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, **options)

    monkeypatch.setattr(os, "lstat", lstat)
    store = Store(root, slots=0)
    assert [info.id for info in store.list()] == [good.id]
    assert store.problems == ["run 'closed' cannot be read: Permission denied"]


def test_code_that_lies_in_a_run_is_never_run(tmp_path: Path) -> None:
    """A run folder that somebody sent waits in the queue, which starts it as soon as the runs are listed."""
    folder = tmp_path / "runs" / "sent"
    folder.mkdir(parents=True)
    (folder / "net.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    budget = Budget(model=f"{folder}/net.py:f").to_dict()
    (folder / "spec.json").write_text(json.dumps({"version": 1, "id": "sent", "created": 1.0, "budget": budget}))
    with pytest.raises(CompressionError, match="lies in the runs folder"):
        RunFolder(folder).budget()
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["lease.7", f"lease.{2**63 - 1}", "lease.99999999999999999999999"])
def test_a_lease_that_no_attempt_took_spoils_no_run(tmp_path: Path, name: str) -> None:
    (tmp_path / name).mkdir()
    try:
        lease = Lease.take(tmp_path, tmp_path / "process.json", Handle.current(), after=0)
    except CompressionError as error:
        assert "attempts, more than any had" in str(error)
    else:
        assert lease.attempt == 8
        lease.check()


def test_an_index_with_a_second_name_or_a_damaged_row_is_refused_by_name(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_bytes(b"")
    root = tmp_path / "runs"
    root.mkdir()
    os.link(outside, root / "runs.sqlite")
    assert Store(root, slots=0).list() == []
    assert outside.read_bytes() == b""
    (root / "runs.sqlite").unlink()
    finished(root)
    store = Store(root, slots=0)
    store.list()
    (run,) = store.list()
    with contextlib.closing(sqlite3.connect(root / "runs.sqlite")) as index:
        index.execute("UPDATE runs SET budget = '{'")
        index.execute("INSERT OR REPLACE INTO points VALUES (?, 0, 'x', 'test', '[')", (run.id,))
        index.commit()
    for read in (store.list, lambda: store.points(run.id)):
        with pytest.raises(CompressionError, match=r"runs\.sqlite"):
            read()


def test_an_index_with_a_trigger_is_refused(root: Path) -> None:
    Store(root).list()
    with contextlib.closing(sqlite3.connect(root / "runs.sqlite")) as index:
        index.execute("CREATE TRIGGER gone AFTER UPDATE ON runs BEGIN DELETE FROM runs; END")
        index.commit()
    with pytest.raises(CompressionError, match="triggers or views"):
        Store(root).list()
