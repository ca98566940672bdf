"""The Runs page beside its charts: what the list of runs says of each, and what came of one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from opened import Open, errors, page_text
from written import DENSE, begun, finished

from compression.budget import Budget
from compression.plots.comparison import comparison
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.runs.submit import new_spec
from compression.tasks import ACCURACY


def rows(app: Any) -> dict[str, dict[str, Any]]:
    frame = next(f.value for f in app.dataframe if "× smaller" in f.value.columns)
    return {row["run"]: dict(row) for _, row in frame.iterrows()}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runs folder in which nothing starts by itself: there is no slot."""
    created = Store(tmp_path / "runs", slots=0)
    monkeypatch.setattr("app.runs.runlog.store", lambda: created)
    return created.root


def test_a_run_that_waits_has_not_begun(open_page: Open, root: Path) -> None:
    waits, never = (RunFolder.create(root, new_spec(Budget(seed=seed), Store(root))) for seed in (1, 2))
    with EventWriter(never.events_path) as events:
        events.state("cancelled")
    done = finished(root)
    app = open_page("runs", run=done)
    assert errors(app) == []
    listed = rows(app)
    assert listed[waits.id]["state"] == "waiting"
    assert pd.isna(listed[waits.id]["started"]) and pd.isna(listed[never.id]["started"])
    assert listed[done]["started"].tzinfo is not None
    assert "1 run waiting" in page_text(app)


def test_the_list_follows_a_run_that_ends(open_page: Open, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part of the page that draws itself anew holds the list while a run goes, and no longer."""
    intervals: list[Any] = []
    fragment = st.fragment

    def watched(*given: Any, **how: Any) -> Any:
        intervals.append(how.get("run_every"))
        return fragment(*given, **how)

    monkeypatch.setattr(st, "fragment", watched)
    done = finished(root)
    run = RunFolder.create(root, new_spec(Budget(seed=1), Store(root)))
    app = open_page("runs", run=done)
    assert rows(app)[run.id]["state"] == "waiting"
    assert intervals == [None, "3s"], "the open run is done, another one waits"
    with EventWriter(run.events_path) as events:
        events.state("cancelled")
    intervals.clear()
    app.run()
    assert rows(app)[run.id]["state"] == "cancelled"
    assert intervals == [None, None]


def test_a_run_that_failed_at_once_has_no_empty_charts(open_page: Open, root: Path) -> None:
    folder = begun(root, Budget(), DENSE)
    with EventWriter(folder.events_path) as events:
        events.plan(224)
        events.phase("warm-up", 1)
        events.step(1, 0.0, loss=float("nan"))
        events.state("failed", error="the loss is no longer finite")
    app = open_page("runs", run=folder.id)
    assert errors(app) == ["The loss is no longer finite."]
    assert Counter(caption.value for caption in app.caption).most_common(1)[0][1] == 2, "of accuracy and of loss"


def test_bits_of_weights_and_activations_are_told_apart() -> None:
    bits = {"a": {"weight": 4.0, "activation": 8.0}, "b": {"weight": 6.0, "activation": None}}
    first = DENSE.to_dict()
    compared = {row[""]: row["compressed"] for row in comparison(first, {**first, "bits": bits}, ACCURACY)}
    assert (compared["bits of the weights"], compared["bits of the activations"]) == ("4–6", "8")
    without = {"a": {"weight": 4.0, "activation": None}}
    compared = {row[""]: row["compressed"] for row in comparison(first, {**first, "bits": without}, ACCURACY)}
    assert compared["bits of the activations"] == "32"


def test_a_link_to_a_run_that_is_gone_says_so_and_leads_to_the_newest(open_page: Open, root: Path) -> None:
    app = open_page("runs", run="geta-gone")
    assert errors(app) == ["No run 'geta-gone'."], "neither a folder of this machine nor a command"
    assert "newest" not in [button.key for button in app.button], "there is none to open"
    done = finished(root)
    app = open_page("runs", run="geta-gone")
    app.button(key="newest").click().run()
    assert errors(app) == []
    assert app.query_params["run"] in (done, [done])


def ticked(app: Any, key: str) -> list[int]:
    """The ticked places of the table that is on the page."""
    places = [frame.proto.id.split("-", 2)[2] for frame in app.dataframe if frame.proto.id]
    (place,) = (place for place in places if place.startswith(f"{key} "))
    chosen: list[int] = app.session_state[place].selection.rows
    return chosen


def test_the_tick_stays_with_the_open_run_when_another_comes_above_it(open_page: Open, root: Path) -> None:
    first = finished(root)
    app = open_page("runs", run=first)
    assert (list(rows(app)), ticked(app, "runs_table")) == ([first], [0])
    second = finished(root, budget=Budget(seed=1))
    app.run()
    assert list(rows(app)) == [second, first]
    assert ticked(app, "runs_table") == [1]
    assert app.query_params["run"] in (first, [first])


def test_the_tick_of_the_candidates_stays_with_the_picked_one(open_page: Open, root: Path) -> None:
    """They are listed from small to large."""
    picked = finished(root, 0.97, 8_000)
    app = open_page("compare", run=picked, gallery_shown="false")
    fold = next(each for each in app.expander if each.label == "As a table")
    app.session_state["compare_fold"] = True
    assert fold.label
    app.run()
    assert ticked(app, "compare_table") == [0]
    finished(root, 0.96, 4_000, Budget(sparsity=0.6))
    app.run()
    assert ticked(app, "compare_table") == [1]
