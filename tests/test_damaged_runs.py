"""What happens to run folders between two looks at them: edited, cut off, foreign, newer, shared by many at once."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compression import runs
from compression.budget import Budget
from compression.cli import main
from compression.points import Point
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from compression.runs.index import changed, known
from compression.runs.process import Handle
from compression.runs.store import Store
from compression.runs.submit import new_spec
from tests.waiting import PATIENCE, until

POINT = Point(
    step=4, epoch=1.0, phase="final", split="test", score=0.9, loss=0.3, bytes=1000.0, bytes_kind="packed",
    nominal_bytes=900.0, macs=5.0, bops=6.0, rel_bops=0.1, unit_sparsity=0.5, weight_sparsity=0.6, bits={},
)  # fmt: skip


def finished(root: Path) -> RunFolder:
    """A run that is done, as far as its small files tell it."""
    folder = RunFolder.create(root, new_spec(Budget(), Store(root, slots=0)))
    with EventWriter(folder.events_path) as events:
        events.state("running")
        events.point(POINT)
        events.state("done")
    stored = {"run": folder.id, "status": "done", "seconds": 1.0, "points": [], "final": POINT.to_dict()}
    stored |= dict.fromkeys(("baseline", "ledger", "equality", "confusion"))
    folder.result_path.write_text(json.dumps(stored), encoding="utf-8")
    return folder


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    capsys.readouterr()
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "unforeseen" not in error
    return error


def files(root: Path) -> dict[str, bytes]:
    """Everything but the index, by path."""
    paths = (path for path in root.rglob("*") if path.is_file() and not path.name.startswith("runs.sqlite"))
    return {str(path): path.read_bytes() for path in paths}


SPECS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no budget": (lambda spec: spec.pop("budget"), "remove the run's folder"),
    "created in words": (lambda spec: spec.update(created="yesterday"), "remove the run's folder"),
    "a newer version": (lambda spec: spec.update(version=99), "newer release"),
    "an unknown field": (lambda spec: spec["budget"].update(nonsense=1), "unknown field 'nonsense'"),
    "a value in words": (lambda spec: spec["budget"].update(sparsity="much"), "sparsity must be"),
}


@pytest.mark.parametrize("name", SPECS)
def test_an_edited_spec_is_reported_in_one_line_and_hurts_no_other_run(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edited, whole = finished(tmp_path), finished(tmp_path)
    change, message = SPECS[name]
    spec = json.loads(edited.spec_path.read_text(encoding="utf-8"))
    change(spec)
    edited.spec_path.write_text(json.dumps(spec), encoding="utf-8")
    before = files(tmp_path)
    store = Store(tmp_path, slots=0)
    assert whole.id in [info.id for info in store.list()]
    place = ("--runs", str(tmp_path))
    assert message in refused(capsys, "resume", edited.id, *place)
    assert message in refused(capsys, "export", edited.id, "--out", str(tmp_path / "x.zip"), *place)
    assert main(["runs", *place]) == 0
    assert whole.id in capsys.readouterr().out
    assert files(tmp_path) == before, "nothing is deleted or written over"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"run": "x", "status": "done"}'])
def test_a_damaged_result_names_the_way_out_which_works(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(tmp_path)
    folder.result_path.write_text(content, encoding="utf-8")
    error = refused(capsys, "show", folder.id, "--runs", str(tmp_path))
    assert str(folder.result_path) in error
    assert "remove it" in error
    refused(capsys, "export", folder.id, "--out", str(tmp_path / "x.zip"), "--runs", str(tmp_path))
    assert folder.result_path.read_text(encoding="utf-8") == content
    folder.result_path.unlink()
    assert runs.result(folder)["final"]["accuracy"] == POINT.score
    assert main(["show", folder.id, "--runs", str(tmp_path)]) == 0


def test_a_foreign_folder_stays_and_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "photo.txt").write_text("sun", encoding="utf-8")
    folder = finished(tmp_path)
    assert "no run 'holiday'" in refused(capsys, "delete", "holiday", "--runs", str(tmp_path))
    assert main(["delete", "--older-than", "0", "--runs", str(tmp_path)]) == 0
    assert not folder.path.exists()
    assert (tmp_path / "holiday" / "photo.txt").read_text(encoding="utf-8") == "sun"


HAMMER = """
    import sys, threading
    from pathlib import Path
    from compression.budget import Budget
    from compression.runs import control
    from compression.runs.eventwriter import EventWriter
    from compression.runs.folder import RunFolder
    from compression.runs.store import Store
    from compression.runs.submit import new_spec

    root, failures = Path(sys.argv[1]), []

    def tab(number):
        try:
            for turn in range(8):
                store = Store(root, slots=0)
                (folder,) = store.add(new_spec(Budget(), store))
                with EventWriter(folder.events_path) as events:
                    events.state("running")
                    events.state("done" if number % 2 else "failed", error=None if number % 2 else "told")
                assert folder.id in [info.id for info in store.list()]
                store.get(folder.id)
                if turn % 2:
                    control.delete([folder.id], root, store=store)
        except Exception as error:
            failures.append(f"{type(error).__name__}: {error}")

    tabs = [threading.Thread(target=tab, args=(number,)) for number in range(10)]
    [each.start() for each in tabs]
    [each.join() for each in tabs]
    print("\\n".join(failures))
    sys.exit(bool(failures))
"""


def test_two_apps_with_ten_tabs_each_share_one_store(tmp_path: Path) -> None:
    script = tmp_path / "hammer.py"
    script.write_text(textwrap.dedent(HAMMER), encoding="utf-8")
    root = tmp_path / "runs"
    here = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    apps = [
        subprocess.Popen([sys.executable, str(script), str(root)], stdout=subprocess.PIPE, text=True, env=here)
        for _ in range(2)
    ]
    outputs = [app.communicate(timeout=240)[0] for app in apps]
    assert [app.returncode for app in apps] == [0, 0], outputs
    remaining = Store(root, slots=0).list()
    assert len(remaining) == 2 * 10 * 4
    assert {info.state for info in remaining} == {"done", "failed"}


def test_runs_deleted_by_another_tab_while_the_list_is_made(tmp_path: Path) -> None:
    store = Store(tmp_path, slots=0)
    folders = store.add(*({**new_spec(Budget(), store), "id": f"run-{number}"} for number in range(300)))
    for folder in folders:
        with EventWriter(folder.events_path) as events:
            events.state("running")
        Handle("elsewhere", 1, 0.0).save(folder.process_path)
    store.sync()
    with contextlib.closing(sqlite3.connect(tmp_path / "runs.sqlite")) as db:
        db.row_factory = sqlite3.Row
        rows = known(db)

    def delete_all() -> None:
        for folder in folders:
            time.sleep(0.002)
            os.replace(folder.path, tmp_path / f".deleted-{folder.id}")

    going = threading.Thread(target=delete_all)
    going.start()
    while going.is_alive():
        for folder in folders:
            changed(folder, rows)
    assert store.list() == []


def test_a_checkpoint_that_is_gone_means_from_the_beginning(tmp_path: Path) -> None:
    run = runs.start(Budget(epochs=2, batch_size=64, precision="fp32"), tmp_path)
    folder = RunFolder.open(tmp_path, run)
    until(lambda: any(event["kind"] == "step" for event in folder.events()))
    assert runs.pause(run, tmp_path) == "paused"
    folder.checkpoint_path.unlink()
    runs.resume(run, tmp_path)
    assert runs.wait(run, tmp_path, timeout=PATIENCE)["status"] == "done"
    second = [event for event in folder.events() if event["attempt"] == 2]
    assert min(event["step"] for event in second if event["kind"] == "step") <= 1
    assert [event for event in second if event["kind"] == "log"]
