"""Which units leave during a run and when: what a run tells of it, against its result and against plain products."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from app import nav
from compression.plots import run_view, unit_life
from compression.plots.base import RunStage
from tests.served import settled, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

GALLERY = nav.ROOT / "assets" / "gallery"
OLD = "resnet20-cifar10jpeg/w4-s39"
"""A run of version 0.1: it does not say how many units a group has, nor when the chosen ones are zero."""
STAGES = (RunStage("joint", 10, 40), RunStage("cool-down", 40, 60))


def event(step: int, **facts: Any) -> dict[str, Any]:
    return {"kind": "group", "step": step, **facts}


def info(*events: dict[str, Any], points: Iterable[Any] = (), end: float = 60) -> unit_life.UnitsInfo:
    return unit_life.units_info(events, list(points), STAGES, end, 60.0)


def read(run: str) -> tuple[run_view.RunView, dict[str, Any]]:
    lines = (GALLERY / run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    result = json.loads((GALLERY / run / "result.json").read_text(encoding="utf-8"))
    return run_view.run_view(run, "done", result["budget"], [json.loads(line) for line in lines]), result


def test_units_fade_by_the_reported_rates_and_evenly_without() -> None:
    rates = {10: 0.1, 12: 0.5, 13: 0.0}
    joint = [event(step, joint={"a": {"rate": rate}}) for step, rate in rates.items()]
    chosen = event(10, chosen={"a": [[2, 0.5], [0, 0.7]], "b": [[1, None]]}, until=20)
    life = info(event(0, sizes={"a": 3, "b": 2}), chosen, *joint)
    for step in range(61):
        remaining = np.prod([1 - max(r for s, r in rates.items() if s == max(x for x in rates if x <= k))
                        for k in range(10, min(step, 20))]) if step < 20 else 0.0  # fmt: skip
        assert life.share_left("a", 2, step) == pytest.approx(remaining, abs=2e-3) or 10 < step < 12, (
            "a line within a report"
        )
        assert life.share_left("a", 0, step) == life.share_left("a", 2, step)
        assert life.share_left("b", 1, step) == pytest.approx(float(np.clip((20 - step) / 10, 0, 1)))
        assert life.share_left("a", 1, step) == 1
    assert (life.zero_after(19), life.zero_after(20), life.chosen) == (0, 3, 3)
    assert [row["score"] for row in life.rows] == [0.5, 0.7, None]


def test_units_that_are_removed_at_once_and_those_that_only_the_end_tells_of() -> None:
    life = info(
        event(0, sizes={"a": 4}), event(30, removed={"a": [1]}), event(60, units={"a": 2}, removed={"a": [1, 3]})
    )
    assert [life.share_left("a", unit, 29.9) for unit in range(4)] == [1, 1, 1, 1]
    assert [life.share_left("a", unit, 30) for unit in range(4)] == [1, 0, 1, 1]
    assert [life.share_left("a", unit, 60) for unit in range(4)] == [1, 0, 1, 0]
    assert life.chosen == 2, "no unit counts twice"


def test_what_a_damaged_run_tells_is_passed_over() -> None:
    unknown = event(10, chosen={"z": [[0, 1.0]], "a": []}, joint={"a": {"rate": None}}, until=20)
    life = info(event(0, sizes={"a": 2}), unknown, event(12, chosen={"a": [[9, None]]}, until=5))
    assert [(each.group, each.units) for each in life.leaving] == [("a", (9,))]
    assert life.share_left("a", 0, 30) == 1
    assert not info(event(0, sizes={"a": unit_life.MOST_CELLS + 1})).drawable
    assert not info(event(10, chosen={"a": [[0, 1.0]]})).drawable, "nothing says how many units there are"


def test_the_bits_of_a_group_are_those_of_its_first_layer_that_has_any() -> None:
    points = [{"step": 5, "bits": {}}, {"step": 9, "bits": {"b1": {"weight": 4.0}, "a": {"weight": 7.5}}}]
    life = info(event(0, sizes={"a": 1, "b": 1, "c": 1}, layers={"b": ["b0", "b1"], "c": ["c0"]}), points=points)
    assert life.bits == ((5.0, {}), (9.0, {"a": 7.5, "b": 4.0}))


@pytest.mark.parametrize("run", [OLD, "resnet8-mnist5k/geta", "resnet8-fashion_mnist/geta-w4-s30-uniform"])
def test_recorded_runs_end_with_the_units_of_their_results(run: str) -> None:
    view, result = read(run)
    sizes = {group: 1 + max(units) for group, units in result["units"].items()}
    life = unit_life.units_info(view.decisions, view.points, view.stages, view.step, view.step, sizes=sizes)
    ended = {(each.group, unit) for each in life.leaving for unit in each.units if each.end <= view.step}
    assert ended == {(group, unit) for group, units in result["units"].items() for unit in units}
    for each in life.leaving:
        assert each.shares[0] == 1
        assert all(a >= b >= 0 for a, b in zip(each.shares, each.shares[1:], strict=False))
        assert each.start < each.end
    # the points of the run say how many units are zero at theirs
    assert len([point for point in view.points if 0 < point["unit_sparsity"] < 1]) > 3
    for point in view.points:
        assert life.zero_after(point["step"]) == pytest.approx(
            point["unit_sparsity"] * result["facts"]["units"], abs=0.1
        )


def test_the_page_draws_every_moment_and_plays_to_the_end(browser: Browser, address: str) -> None:
    run = "gallery." + OLD.replace("/", ".")
    view, result = read(OLD)
    sizes = {group: 1 + max(units) for group, units in result["units"].items()}
    life = unit_life.units_info(view.decisions, view.points, view.stages, view.step, view.step, sizes=sizes)
    with tab(browser) as page:
        page.goto(f"{address}/runs?run={run}")
        settled(page, "runs")
        picture = page.locator("canvas[data-gone]")
        picture.wait_for()
        slider = page.get_by_role("slider", name="Step of the run")
        for step in (0, 300, 580, 842, 948, 2106):
            slider.evaluate("(node, step) => { node.value = step; node.dispatchEvent(new Event('input')); }", step)
            fading = sum(len(each.units) for each in life.leaving if each.start <= step < each.end)
            counts = {name: int(picture.get_attribute(f"data-{name}") or -1) for name in ("gone", "fading")}
            assert counts == {"gone": life.zero_after(step), "fading": fading}, step
        slider.evaluate("node => { node.value = 0; node.dispatchEvent(new Event('input')); }")
        page.get_by_role("button", name="To the next moment").click()
        first = min(each.start for each in life.leaving)
        assert float(picture.get_attribute("data-step") or -1) == first
        page.get_by_role("button", name="Play").click()
        page.get_by_role("button", name="Pause").wait_for()
        page.get_by_role("button", name="Play").wait_for(timeout=60_000)
        assert int(picture.get_attribute("data-gone") or -1) == life.chosen


def test_the_script_of_the_picture_is_plain() -> None:
    """Names of groups come from files: they must only ever be drawn as text."""
    script = (Path(nav.ROOT) / "assets" / "components" / "units.js").read_text(encoding="utf-8")
    assert not any(
        word in script for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "eval(", "document.write")
    )
