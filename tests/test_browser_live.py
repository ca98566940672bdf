"""The page of a run that goes on: its charts stay the very same nodes, are never hidden, and nothing jumps."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from written import DENSE, ON_THE_WAY, finished

from compression.budget import Budget
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from compression.runs.process import Handle
from compression.runs.store import Store
from compression.runs.submit import new_spec
from tests.served import settled

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

CHARTS = ["way", "front", "score", "loss", "sparsity", "bits_map"]
TOTAL = 300
MARK = "keys => keys.forEach(key => { document.querySelector(`.st-key-${key} .js-plotly-plot`).dataset.seen = key })"
MARKED = "keys => keys.filter(key => document.querySelector(`.st-key-${key} .js-plotly-plot`)?.dataset.seen === key)"
POINTS = "document.querySelectorAll('.st-key-way .js-plotly-plot .scatterlayer .trace:first-child .point').length"
HIDDEN = """keys => { const hidden = new Set(), look = () => {
    for (const key of keys) {
        const drawing = document.querySelector(`.st-key-${key} .js-plotly-plot .main-svg`);
        if (!drawing || getComputedStyle(drawing).visibility === 'hidden') hidden.add(key);
    }
    requestAnimationFrame(look) }; look(); window.hidden = hidden }"""
TOPS = """() => { const top = each => each.getBoundingClientRect().top, first = top(document.querySelector('h1'));
    return [...document.querySelectorAll('h3')].map(head => [head.innerText, Math.round(top(head) - first)]) }"""


@pytest.mark.timeout(600)
def test_charts_of_a_live_run_stay_the_same_nodes_in_the_same_place(page: Page, address: str, folder: Path) -> None:
    """This very process is the worker, as far as the app can see."""
    root = folder / "runs"
    finished(root, budget=Budget(sparsity=0.4))
    run = RunFolder.create(root, new_spec(Budget(), Store(root, slots=0)))
    Handle.current().save(run.process_path)
    with EventWriter(run.events_path) as events:
        events.state("running")
        events.point(DENSE)
        events.plan(TOTAL, stages={"warm-up": 1, "projection": 40, "joint": 80, "cool-down": 200})
        page.goto(f"{address}/runs?run={run.id}")
        settled(page, "runs")
        for key in CHARTS:
            page.locator(f".st-key-{key} .js-plotly-plot").wait_for()
        page.wait_for_timeout(1500)
        before = page.evaluate(TOPS)
        page.evaluate(MARK, CHARTS)
        page.locator("summary", has_text="Messages of the run").click()
        for message in ("message 1", "message 2"):
            events.log(message)
            page.get_by_text(message, exact=False).first.wait_for()
        assert page.evaluate(MARKED, CHARTS) == CHARTS, "two updates later all are the same nodes"
        page.locator("summary", has_text="Messages of the run").click()
        page.evaluate(HIDDEN, CHARTS)
        labels = [page.locator(".st-key-way figure").get_attribute("aria-label")]
        for step in (100, 120):
            events.point(dataclasses.replace(ON_THE_WAY, step=step, bytes=12_000.0 - 10 * step))
            page.wait_for_function(f"{POINTS} === {(step - 80) // 20}")
            labels.append(page.locator(".st-key-way figure").get_attribute("aria-label"))
        assert page.evaluate(MARKED, CHARTS) == CHARTS, "each new point was drawn into the same chart"
        assert page.evaluate("[...window.hidden]") == []
        assert len(set(labels)) == 3
        assert page.evaluate(TOPS) == before, "and nothing has moved since before the first point"
        events.state("cancelled")
    page.get_by_role("button", name="Resume").wait_for()
