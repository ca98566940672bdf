"""The timeline of a run's stages: what is over, what goes on, what comes, and where a run stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from opened import Open
from written import DENSE, begun, finished

from app.runs import timeline
from app.runs.timeline import COMING, FAILED, GOING, OVER, STOPPED
from compression import methods
from compression.budget import Budget
from compression.plots.run_view import run_view

PLAN = {"kind": "plan", "total_steps": 100, "stages": {"warm-up": 1, "projection": 20, "joint": 50, "cool-down": 80}}
LABELS = ["Warm-up", "Projection", "Joint", "Cool-down"]


def states(state: str, *events: dict[str, Any], method: str = "geta") -> list[tuple[str, str]]:
    dated = [{"t": float(place), "step": 0, **event} for place, event in enumerate(events)]
    now = run_view("r", state, {"method": method}, dated)
    return [(step.label, step.state) for step in timeline.steps(now)]


def phase(name: str, step: int) -> dict[str, Any]:
    return {"kind": "phase", "phase": name, "step": step}


@pytest.mark.parametrize(("state", "first"), [("queued", COMING), ("running", GOING)])
def test_before_the_plan_the_stages_are_the_methods_own(state: str, first: str) -> None:
    assert states(state) == [("Preparing", first), *((label, COMING) for label in LABELS), ("Result", COMING)]
    assert [stage.label for stage in methods.get("geta").info.stages] == LABELS


def test_the_stage_that_began_last_goes_on() -> None:
    running = states("running", PLAN, phase("warm-up", 1), phase("projection", 20), {"kind": "step", "step": 30})
    assert running == [
        *zip(("Preparing", "Warm-up", "Projection", "Joint"), (OVER, OVER, GOING, COMING), strict=True),
        ("Cool-down", COMING),
        ("Result", COMING),
    ]


def test_after_the_last_step_the_result_is_made() -> None:
    begun = [phase(name, step) for name, step in PLAN["stages"].items()]  # type: ignore[attr-defined]
    assert states("running", PLAN, *begun, {"kind": "step", "step": 99})[-2:] == [
        ("Cool-down", GOING), ("Result", COMING),
    ]  # fmt: skip
    finishing = states("running", PLAN, *begun, {"kind": "step", "step": 100})
    assert finishing == [*((label, OVER) for label in ("Preparing", *LABELS)), ("Result", GOING)]


@pytest.mark.parametrize(
    ("state", "mark"), [("failed", FAILED), ("lost", FAILED), ("paused", STOPPED), ("cancelled", STOPPED)]
)
def test_a_run_that_stopped_ends_where_it_did(state: str, mark: str) -> None:
    assert states(state) == [("Preparing", mark)]
    stopped = states(state, PLAN, phase("warm-up", 1), phase("projection", 20), {"kind": "step", "step": 30})
    assert stopped == [("Preparing", OVER), ("Warm-up", OVER), ("Projection", mark)]


def test_a_method_without_stages_has_one() -> None:
    unknown = "a method that is not here"
    assert states("running", method=unknown) == [("Preparing", GOING), ("Result", COMING)]
    plan = {"kind": "plan", "total_steps": 10}
    going = states("running", plan, {"kind": "step", "step": 5}, method=unknown)
    assert [state for _, state in going] == [OVER, GOING, COMING]
    whole = states("running", plan, {"kind": "step", "step": 10}, method=unknown)
    assert [state for _, state in whole] == [OVER, OVER, GOING]


def test_the_page_shows_it_until_the_run_is_done(open_page: Open, tmp_path: Path) -> None:
    going = begun(tmp_path / "runs", Budget(), DENSE)
    done = finished(tmp_path / "runs")
    for run, shown in ((going.id, True), (done, False)):
        app = open_page("runs", run=run)
        assert ("Preparing" in [part.label for part in (*app.status, *app.expander)]) == shown


def test_what_only_the_next_click_needs_redraws_nothing(open_page: Open, tmp_path: Path) -> None:
    """Which run a click on Compare's chart picks, and the tag that is typed before it is added."""
    finished(tmp_path / "runs")
    finished(tmp_path / "runs", 0.9, 4_000)
    assert open_page("compare").segmented_control(key="click_picks").proto.ignore_rerun
    app = open_page("runs")
    app.toggle(key="runs_several").set_value(True).run()
    assert app.text_input(key="tag_several").proto.ignore_rerun
    app.button(key="add_tag").click().run()
    assert not app.exception
