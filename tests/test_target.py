"""A target on the front: budgets of every method that fit, what reaches it, the grid that takes clicks, the page."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from opened import Open, errors
from test_match import subject  # noqa: F401  (a fixture)
from written import finished

from compression import match, methods
from compression.budget import Budget
from compression.forecast import Subject
from compression.plots import choice, target
from compression.plots.axes import AXES
from compression.plots.candidates import Candidate, CandidatesInfo, candidates_info
from compression.tasks import ACCURACY


def test_every_method_has_a_budget_that_fits_or_says_why_not(request: pytest.FixtureRequest) -> None:
    network: Subject = request.getfixturevalue("subject")
    offers = match.offers(network, Budget(method="geta", epochs=2, seed=5), "bytes", 9_000)
    assert tuple(offer.method for offer in offers) == methods.names()
    for offer in offers:
        if offer.match is None:
            assert offer.reason
            continue
        again = methods.get(offer.method).forecast(network, offer.match.budget)
        assert match.quantity(again, "bytes") == offer.match.value
        assert offer.match.met == (offer.match.value <= 9_000 * 1.000001)
        assert offer.match.budget.seed == 5
    assert sum(offer.match is not None and offer.match.met for offer in offers) > 5


def _info() -> CandidatesInfo:
    dense = {"bytes": 80_000, "score": 0.98, "split": "test"}
    ends = {
        "a": ("geta", 0.97, 9_000),
        "b": ("geta", 0.95, 6_000),
        "c": ("opq", 0.90, 5_000),
        "d": ("opq", 0.96, 12_000),
    }
    listed = [
        Candidate(run, run, method, dense, {"bytes": size, "score": score, "split": "test"})
        for run, (method, score, size) in ends.items()
    ]
    return candidates_info(listed, AXES["bytes"])


def test_what_reaches_a_target_and_what_comes_nearest() -> None:
    marks = _info().finished
    aim = target.Target(9_500, 0.94)
    assert [mark.run for mark in marks if aim.reached(mark)] == ["a", "b"]
    assert (target.nearest(marks, aim) or marks[2]).run == "b", "the smallest that reaches it"
    assert [aim.distance(mark) for mark in marks[:2]] == [0, 0]
    far = target.Target(6_000, 0.96)
    by_hand = {
        mark.run: math.hypot(max(0, math.log2(mark.cost / 6_000)), max(0, 0.96 - mark.score) / 0.1) for mark in marks
    }
    assert {mark.run: far.distance(mark) for mark in marks} == pytest.approx(by_hand)
    assert (target.nearest(marks, far) or marks[0]).run == min(by_hand, key=by_hand.__getitem__) == "b"
    assert target.nearest((), far) is None
    usual = target.usual(_info())
    assert usual == target.Target(5_000, 0.97, ACCURACY)


def test_a_click_anywhere_is_near_a_point_of_the_grid_and_markers_lie_above_it() -> None:
    figure = choice.choice_figure(_info(), aim=target.Target(7_000, 0.95))
    plain = choice.choice_figure(_info())
    grid, *others = figure.data
    assert [trace.name for trace in others[:-1]] == [trace.name for trace in plain.data]
    assert len(grid.x) == target.COLUMNS * target.ROWS
    assert grid.marker.opacity == 0
    left, right = figure.layout.xaxis.range
    xs = sorted({round(math.log10(x), 6) for x in grid.x})
    assert xs[0] - left < 0.01 * (right - left) and right - xs[-1] < 0.01 * (right - left)
    (area,) = figure.layout.shapes
    assert (area.x1, area.y0, area.y1) == (7_000, 95, figure.layout.yaxis.range[1])
    assert not plain.layout.shapes


def test_a_target_on_the_page(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    root = tmp_path / "runs"
    small, good = (finished(root, score, size, Budget(sparsity=share)) for score, size, share in (
        (0.90, 4_000, 0.8), (0.97, 9_000, 0.3),
    ))  # fmt: skip
    app = open_page("compare", run=good, gallery_shown="false")
    assert "target_start" not in [button.key for button in app.button]
    app.toggle(key="target").set_value(True).run()
    assert errors(app) == []
    assert (app.number_input(key="target_kb").value, app.number_input(key="target_score").value) == (4.0, 97.0)
    app.button(key="show_nearest").click().run()
    assert app.session_state["at_run"] == small, "as small, but 7 points worse: nearer than one of twice the size"
    app.number_input(key="target_kb").set_value(9.5).run()
    app.button(key="show_nearest").click().run()
    assert app.session_state["at_run"] == good, "the one that reaches it"
    offers = next(frame.value for frame in app.dataframe if "forecast" in frame.value.columns)
    assert offers["method"][0] == "GETA", "the method that was nearest comes first"
    assert offers["its nearest finished run"][0] == "9.00 kB, 97.0 %"
    started: list[Budget] = []
    monkeypatch.setattr("app.runs.runlog.start", lambda budget: started.append(budget) or small)
    app.button(key="target_start").click().run()
    (budget,) = started
    assert budget.method == "geta"
    network: Subject = request.getfixturevalue("subject")
    assert match.quantity(methods.get("geta").forecast(network, budget), "bytes") <= 9_500 * 1.000001
