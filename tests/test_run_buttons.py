"""Pause, resume and delete on the Runs page: each button does what its word says, and only where it can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import names, nav
from app.runs import runbuttons
from compression.budget import Budget
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.runs.submit import new_spec

Open = Callable[..., AppTest]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Runs do not start by themselves: there is no slot."""
    created = Store(tmp_path / "runs", slots=0)
    monkeypatch.setattr("app.runs.runlog.store", lambda: created)
    return created


def run_in(store: Store, *states: str) -> RunFolder:
    folder = RunFolder.create(store.root, new_spec(Budget(), store))
    with EventWriter(folder.events_path, clock=lambda: 1e9) as events:
        for state in states:
            events.state(state, **({"error": "it broke"} if state == "failed" else {}))
    return folder


def page(run: str) -> AppTest:
    app = AppTest.from_file(str(nav.ROOT / "pages" / "runs.py"), default_timeout=60)
    app.session_state["at_run"] = run
    return app.run()


def labels(app: AppTest) -> list[str]:
    return [button.label for button in app.button]


@pytest.mark.parametrize("state", runbuttons.RESUMABLE)
def test_what_stopped_can_be_resumed(store: Store, state: str) -> None:
    folder = run_in(store, "running", state)
    app = page(folder.id)
    assert not app.exception
    assert "Pause" not in labels(app)
    app.button(key="resume").click().run()
    assert folder.state == "queued"
    assert {"Pause", "Cancel"} <= set(labels(app))
    assert "Resume" not in labels(app)


def test_a_waiting_run_is_paused_and_cancelled(store: Store) -> None:
    folder = run_in(store)
    app = page(folder.id)
    assert "delete" not in [button.key for button in app.button]
    app.button(key="pause").click().run()
    assert folder.state == "paused"
    app.button(key="resume").click().run()
    app.button(key="cancel").click().run()
    assert folder.state == "cancelled"


def test_deleting_takes_the_run_away_and_leaves_the_page_standing(store: Store) -> None:
    deleted, stays = run_in(store, "running", "done"), run_in(store, "running", "failed")
    app = page(deleted.id)
    app.button(key="delete").click().run()
    assert not deleted.path.exists()
    assert stays.path.exists()
    assert not app.exception
    assert [str(error.value) for error in app.error] == ["It broke."]  # the other run is open now


def test_old_runs_are_deleted_together(store: Store) -> None:
    old, new = run_in(store, "running", "done"), run_in(store)
    app = page(new.id)
    app.button(key="delete_old").click().run()
    assert not old.path.exists()
    assert new.path.exists()
    assert app.button(key="delete_old").disabled


def test_the_delete_question_names_the_run(store: Store) -> None:
    deleted, old = run_in(store, "running", "done"), run_in(store, "running", "failed")
    app = page(deleted.id)
    (question,) = (str(each.value) for each in app.markdown if str(each.value).startswith("Delete "))
    assert names.title(deleted.id, deleted.spec()["budget"]) in question
    listed = "\n".join(str(each.value) for each in app.caption)
    assert f"(…{old.id[-4:]})" in listed, "those that stopped long ago, too"
