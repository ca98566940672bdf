"""γ and d of a recorded GETA run on the Runs page: the figures hold the run's own numbers."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import nav
from compression.plots import joint as figures

RECORDED = nav.ROOT / "assets" / "gallery" / "resnet20-cifar10jpeg" / "w4a6-s39"
FASHION = nav.ROOT / "assets" / "gallery" / "resnet8-fashion_mnist"
EVENTS = [json.loads(line) for line in (RECORDED / "events.jsonl").read_text(encoding="utf-8").splitlines()]
GROUP = "layer1.2.conv1"


def test_rows_and_charts_hold_what_the_run_reported() -> None:
    info = figures.joint_info(EVENTS)
    events = [event for event in EVENTS if GROUP in event.get("joint", {})]
    assert len(events) > 5
    rows = info.rows(GROUP)
    assert [row["step"] for row in rows] == [event["step"] for event in events]
    assert [row["γ"] for row in rows] == [event["joint"][GROUP]["rate"] for event in events]
    d, low, high = events[0]["joint"][GROUP]["layers"][GROUP][:3]
    assert (rows[0][f"d of {GROUP}"], rows[0][f"least d of {GROUP}"], rows[0][f"most d of {GROUP}"]) == (d, low, high)
    drawn = next(trace for trace in figures.rate_figure(info, GROUP).data if trace.name == GROUP)
    assert list(drawn.x) == [row["step"] for row in rows]
    assert list(drawn.y) == [max(figures.LEAST_RATE, row["γ"]) for row in rows]
    band, line = figures.step_figure(info, GROUP).data
    assert list(line.y) == [row[f"d of {GROUP}"] for row in rows]
    assert list(band.y[: len(rows)]) == [row[f"least d of {GROUP}"] for row in rows]
    assert all(row[f"least d of {GROUP}"] <= row[f"d of {GROUP}"] * (1 + 1e-4) for row in rows)


def read(run: str) -> figures.JointInfo:
    lines = (FASHION / run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    return figures.joint_info([json.loads(line) for line in lines])


def test_the_limit_is_the_rate_that_costs_a_thousandth_of_the_descent() -> None:
    """What the run took where the limit bound, though the figures of each decision say what it was."""
    info, bound = read("geta-w4-s30-published"), 0
    for _, _, facts in info.decisions:
        limit = figures.rate_limit(facts)
        assert (limit is None) == (facts["ch"] >= 0)
        if limit is not None:
            assert -limit * facts["ch"] == pytest.approx(0.001 * facts["alpha"] * facts["hh"], rel=1e-6)
            assert facts["rate"] == pytest.approx(min(limit, facts["uniform"]), rel=1e-3)
            bound += limit < facts["uniform"]
    assert bound > 50
    group = max(info.groups, key=lambda name: len(info.decided(name)))
    ticks = next(trace for trace in figures.rate_figure(info, group).data if trace.name == "limit")
    limits = {row["step"]: row["limit of γ"] for row in info.rows(group) if row["limit of γ"] is not None}
    assert dict(zip(ticks.x, ticks.y, strict=True)) == {at: max(figures.LEAST_RATE, y) for at, y in limits.items()}
    stated = {"eta": 0.5, "ch": -2.0, "alpha": 0.1, "hh": 4.0}
    assert figures.rate_limit(stated) == pytest.approx(0.1)
    assert figures.rate_limit({**stated, "eta": None}) is None


def test_the_words_are_those_of_the_way_this_run_forgot() -> None:
    evenly, published, old = read("geta-w4-s30-uniform"), read("geta-w4-s30-published"), figures.joint_info(EVENTS)
    assert not [trace.name for trace in figures.rate_figure(evenly, evenly.groups[0]).data if trace.name == "limit"]
    assert all(figures.rate_limit(facts) is None for _, _, facts in evenly.decisions)
    half = figures.JointInfo(tuple((at, name, {**facts, "eta": 0.5}) for at, name, facts in published.decisions))
    costs = {"0.1 %": (published, old), "50 %": (half,), "": (evenly,)}
    for cost, infos in costs.items():
        for info in infos:
            named = [other for other in costs if other and f" {other} " in info.explanation]
            assert named == ([cost] if cost else []), info.explanation


def test_without_a_joint_stage_there_is_nothing_to_show() -> None:
    assert figures.joint_info([event for event in EVENTS if "joint" not in event]).groups == []


@pytest.mark.parametrize("opened", [False, True])
def test_the_runs_page_draws_it_only_when_it_is_opened(
    opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = json.loads((RECORDED / "spec.json").read_text(encoding="utf-8"))["id"]
    shutil.copytree(RECORDED, tmp_path / run)
    monkeypatch.setattr(sys, "argv", ["app/main.py", "--runs", str(tmp_path)])
    app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=60)
    app.switch_page("../pages/runs.py")
    app.query_params["run"] = run
    app.session_state["joint_fold"] = opened
    app.run()
    assert not app.exception, app.exception
    boxes = [box for box in app.selectbox if box.key == "joint_group"]
    assert len(boxes) == opened
    if opened:
        assert boxes[0].options == figures.joint_info(EVENTS).groups
        charts = len(app.get("plotly_chart"))
        boxes[0].set_value(GROUP).run()
        assert not app.exception, app.exception
        assert len(app.get("plotly_chart")) == charts
