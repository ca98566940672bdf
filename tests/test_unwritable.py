"""Runs folders that cannot be written: a full disk, one without inodes, a read-only one. All are listed and cleared."""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import shutil
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app import plain
from app.runs import runlog
from compression import runs
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.runs import database, paths
from compression.runs.database import Database
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.runs.submit import new_spec
from tests.test_damaged_runs import finished, refused

if TYPE_CHECKING:
    from opened import Open

Fill = Callable[[Path], None]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A runs folder with two finished runs and one that waits: on a small disk of its own where one can be mounted."""
    disk = tmp_path / "runs"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=60", "tmpfs", str(disk)]
    mounted = shutil.which("mount") is not None and subprocess.run(command, capture_output=True).returncode == 0
    for name in ("first", "second"):
        finished(disk).path.rename(disk / name)
    RunFolder.create(disk, {**new_spec(Budget(), Store(disk, slots=0)), "id": "waiting", "priority": 3})
    yield disk
    if mounted:
        subprocess.run(["umount", str(disk)], check=True)


def _is_small(root: Path) -> bool:
    return os.path.ismount(root)


@pytest.fixture(params=["space", "inodes", "read-only"])
def unwritable(request: pytest.FixtureRequest, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The runs folder made unwritable in one of three ways: for real, else by what the system would answer."""
    how = str(request.param)
    if not _is_small(root):
        _refuse_all(monkeypatch, root, errno.EROFS if how == "read-only" else errno.ENOSPC)
    elif how == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
    elif how == "space":
        with contextlib.suppress(OSError), (root / "first" / "filling").open("wb", buffering=0) as stream:
            while True:
                stream.write(b"x" * 512)
    else:
        with contextlib.suppress(OSError):
            for number in itertools.count():
                (root / "first" / f"filling-{number}").touch()
    return how


def _refuse_all(monkeypatch: pytest.MonkeyPatch, root: Path, number: int) -> None:
    """What a disk answers that cannot be mounted here; removing a folder frees it."""

    def refuses() -> bool:
        return number == errno.EROFS or (root / "first").exists()

    def connect(path: Any, *arguments: Any, **options: Any) -> sqlite3.Connection:
        if str(path) != ":memory:" and refuses():
            path = root / "nowhere" / "runs.sqlite"  # SQLite's own answer where no file can be made
        return real_connect(path, *arguments, **options)

    def opening(path: Path, flags: int) -> int:
        if flags & os.O_CREAT and refuses() and (root / "waiting" / "reserve").exists():
            raise OSError(number, os.strerror(number))
        return real_open(path, flags)

    def removing(path: Path) -> None:
        if number == errno.EROFS:
            raise OSError(number, os.strerror(number))
        real_remove(path)

    real_connect, real_open, real_remove = sqlite3.connect, paths.open_own, paths.remove
    monkeypatch.setattr(database.sqlite3, "connect", connect)
    monkeypatch.setattr(paths, "open_own", opening)
    monkeypatch.setattr(paths, "remove", removing)
    monkeypatch.setattr("compression.runs.control.remove", removing)


def listed(root: Path) -> list[tuple[str, str]]:
    return sorted((info.id, info.state) for info in Store(root, slots=0).list())


ALL = [("first", "done"), ("second", "done"), ("waiting", "queued")]


def test_an_unwritable_folder_is_listed_as_a_writable_one(
    root: Path, unwritable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(root, slots=1)
    assert sorted((info.id, info.state) for info in store.list()) == ALL
    assert [info.priority for info in store.list() if info.id == "waiting"] == [3]
    assert [point.score for point in store.points("second")["second"]] == [0.9]
    assert store.get("second").state == "done"
    assert len(store.problems) == 1
    assert "none is started" in store.problems[0]
    assert not (root / "waiting" / "process.json").exists(), "nothing is started by an index of one process"
    assert main(["runs", "--runs", str(root)]) == 0
    output = capsys.readouterr()
    assert output.err.count("note: ") == 1
    assert all(run in output.out for run, _ in ALL)
    assert main(["show", "second", "--runs", str(root)]) == 0


def test_the_page_shows_them(root: Path, unwritable: str, open_page: Open) -> None:
    app = open_page("runs")
    (problem,) = runlog.store().problems
    assert plain.text(problem) in [caption.value for caption in app.caption]
    assert all(run in "".join(frame.value.to_string() for frame in app.dataframe) for run, _ in ALL)


def test_what_must_write_is_refused_by_name_and_deleting_frees_the_disk(
    root: Path, unwritable: str, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(root, slots=0)
    with pytest.raises(CompressionError) as error:
        store.add({**new_spec(Budget(), store), "id": "another"})
    assert not (root / "another").exists()
    if unwritable == "read-only":
        assert "Read-only file system" in str(error.value)
        for verb in ("cancel", "delete"):
            assert "Read-only file system" in refused(capsys, verb, "waiting", "--runs", str(root))
        assert listed(root) == ALL
        return
    assert "no space left" in str(error.value)
    assert "`delete RUN`" in str(error.value)
    assert runs.cancel("waiting", root, store=store) == "cancelled", "its reserve makes room for the word"
    assert runs.delete(["first"], root, store=store) == ["first"]
    assert store.problems == []
    assert sorted(path.name for path in root.iterdir() if path.is_dir()) == ["second", "waiting"]
    with contextlib.closing(sqlite3.connect(root / "runs.sqlite")) as db:
        assert db.execute("SELECT count(*) FROM runs").fetchone() == (2,)
    assert [folder.id for folder in store.add({**new_spec(Budget(), store), "id": "another"})] == ["another"]


def test_a_folder_is_removed_where_no_other_name_fits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", full)
        assert runs.delete(["first"], root, store=Store(root, slots=0)) == ["first"]
    assert listed(root) == ALL[1:]


def test_runs_are_deleted_all_or_none_whatever_earlier_deletions_left(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, store = os.rename, Store(root, slots=0)

    def held(source: Path, target: Path) -> None:
        if Path(source).name == "second":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        real(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", held)
        with pytest.raises(CompressionError, match="Permission denied"):
            runs.delete(["first", "second"], root, store=store)
    assert listed(root) == ALL
    (root / ".deleted-old").mkdir()

    def stuck(path: Path) -> None:
        if path.name == ".deleted-old":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        paths.remove(path)

    monkeypatch.setattr("compression.runs.control.remove", stuck)
    assert runs.delete(["first"], root, store=store) == ["first"]
    assert listed(root) == ALL[1:]


def test_an_index_of_a_foreign_kind_is_named_and_one_in_use_waits(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in root.glob("runs.sqlite*"):
        path.unlink()
    (root / "runs.sqlite").write_bytes(b"no data base at all" * 100)
    with pytest.raises(CompressionError, match=r"is damaged.*delete it"):
        Store(root, slots=0)
    (root / "runs.sqlite").unlink()
    store = Store(root, slots=0)
    monkeypatch.setattr(database, "BUSY_MILLISECONDS", 50)
    with Database(root).alone(), pytest.raises(CompressionError, match="in use by another process"):
        store.add({**new_spec(Budget(), store), "id": "another"})
    assert listed(root) == ALL


def test_no_two_are_alone_in_a_folder_without_an_index(root: Path) -> None:
    for path in root.glob("runs.sqlite*"):
        path.unlink()
    (root / "runs.sqlite").mkdir()
    import fcntl

    with Database(root).alone():
        descriptor = os.open(root, os.O_RDONLY)
        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)
    with Database(root).alone():
        pass
