"""Who leads a race: areas by counting cells, what they are in halvings, growth over time, and all runs as lines."""

from __future__ import annotations

import math
import random
from typing import Any

import pytest
from opened import Open, errors, page_text
from written import finished

from compression.budget import Budget
from compression.front import hypervolume
from compression.plots import parallel, standing
from compression.plots.front_data import FrontRun
from compression.runs.folder import RunFolder
from compression.runs.store import Store
from compression.runs.sweep import specs
from compression.tasks import ACCURACY, Metric


@pytest.mark.parametrize("seed", range(20))
def test_the_area_is_that_of_the_cells_which_some_place_dominates(seed: int) -> None:
    """Places on whole numbers, so that unit cells can be counted one by one."""
    draw = random.Random(seed)
    places = [(float(draw.randint(0, 9)), float(draw.randint(0, 9))) for _ in range(draw.randint(0, 7))]
    reference = (draw.randint(1, 9), draw.randint(0, 8))
    cells = sum(
        any(cost <= x and goodness >= y + 1 for cost, goodness in places)
        for x in range(reference[0])
        for y in range(reference[1], 10)
    )
    assert hypervolume(places, (float(reference[0]), float(reference[1]))) == cells


def _point(score: float, size: float, **more: Any) -> dict[str, Any]:
    return {"score": score, "bytes": size, "macs": 1e6, "rel_bops": 0.1, **more}


START = _point(0.9, 64_000.0, t=100.0, attempt=1)


def _run(name: str, method: str, final: dict[str, Any] | None, *points: dict[str, Any], **more: Any) -> FrontRun:
    return FrontRun(name, name, method, points, START, final, **more)


def test_a_file_of_an_eighth_that_is_as_good_is_worth_three_halvings() -> None:
    assert standing.halvings([_point(0.9, 8_000)], START, ACCURACY) == pytest.approx(3)
    assert standing.halvings([_point(0.85, 8_000)], START, ACCURACY) == pytest.approx(1.5), "half of the depth"
    assert standing.halvings([_point(0.8, 8_000), _point(0.99, 64_000), START], START, ACCURACY) == pytest.approx(0)
    both = [_point(0.9, 16_000), _point(0.85, 8_000)]
    assert standing.halvings(both, START, ACCURACY) == pytest.approx(2 + 0.5)
    loss = Metric("loss", "loss", "of a task", better="lower", highest=math.inf)
    dense = _point(0.5, 64_000.0)
    worth = [standing.halvings([_point(score, 32_000.0)], dense, loss) for score in (0.5, 0.525, 0.55, 0.6)]
    assert worth == pytest.approx([1, 0.5, 0, 0]), "without an end of its range, a tenth of the dense model's score"


def test_seeds_are_averaged_before_methods_are_ranked() -> None:
    """One lucky seed of three does not make a leader: by the best seed alone the first would lead."""
    lucky = [
        _run(f"a{i}", "geta", _point(score, 8_000), recipe="a", seed=i) for i, score in enumerate((0.91, 0.8, 0.8))
    ]
    steady = [_run("b", "opq", _point(0.88, 8_000), recipe="b"), _run("c", "ptq", None)]
    listed = standing.standings([*lucky, *steady])
    assert [row.method for row in listed] == ["opq", "geta", "ptq"]
    mean = (0.91 + 0.8 + 0.8) / 3
    assert [row.area for row in listed] == pytest.approx([3 * 0.8, 3 * (mean - 0.8) / 0.1, 0])
    first, second, third = standing.rows(listed, ACCURACY)
    assert (first["rank"], second["rank"], third["rank"]) == (1, 2, None)
    assert (second["finished"], third["finished"]) == ("3 of 3", "0 of 1")
    assert second[f"test {ACCURACY.axis}"] == pytest.approx(83.67)
    assert third["bytes"] is None


def test_the_area_over_time_counts_work_alone_and_one_run_after_the_other() -> None:
    """A pause of an hour between two attempts is no work; the second run begins where the first one ended."""
    one = _run(
        "a", "geta", _point(0.9, 16_000, t=4_000.0, attempt=2),
        _point(0.9, 32_000, t=110.0, attempt=1), _point(0.9, 16_000, t=3_900.0, attempt=2),
        _point(0.7, 8_000, t=3_990.0, attempt=2),
    )  # fmt: skip
    two = _run("b", "geta", None, _point(0.9, 8_000, t=105.0, attempt=1))
    other = _run("c", "geta", None, _point(0.85, 32_000, t=103.0, attempt=1), seed=7)
    first, second = standing.growths([one, two, other])
    assert (first.seed, second.seed) == (0, 7)
    assert first.seconds == pytest.approx((10, 10, 100, 115)), "10 + 90 + 10 s of the first run, then 5 of the second"
    assert first.area == pytest.approx((1, 2, 2, 3)), "it never falls"
    assert second.area == pytest.approx((0.5,))
    rows = standing.growth_rows([first, second])
    assert len(rows) == 5
    drawn = standing.growth_figure([first, second])
    assert [trace.name for trace in drawn.data] == ["GETA"]
    assert list(drawn.data[0].y) == [*first.area, None, *second.area, None]
    assert standing.growths([FrontRun("x", "X", "geta")]) == []
    assert standing.growth_figure([]).layout.annotations


RECORDS = [
    {"run": "a", "method": "opq", "seed": 0, "ask.sparsity": 0.3, "ask.bits": 4, "ask.scale": "max", "score": 0.9,
     "bytes": 1e4, "macs": 1e6, "rel_bops": 0.1},
    {"run": "b", "method": "geta", "seed": 0, "ask.sparsity": 0.5, "ask.weight_bits": "4:8", "ask.scale": None,
     "score": 0.8, "bytes": 1e3, "macs": 1e5, "rel_bops": 0.1},
    {"run": "c", "method": "geta", "seed": 0, "ask.sparsity": 0.7, "ask.weight_bits": "4:8", "score": None},
]  # fmt: skip


def test_lines_through_what_runs_differ_in() -> None:
    info = parallel.parallel_info(RECORDS, ACCURACY)
    assert [row["run"] for row in info.rows] == ["a", "b"], "a run without a result is no line"
    labels = [axis.label for axis in info.coordinates]
    assert labels == ["method", "sparsity", "scale", "size", "MACs", f"test {ACCURACY.axis}"]
    by_name = {axis.label: axis for axis in info.coordinates}
    assert by_name["size"].values == pytest.approx((4, 3)), "on a logarithmic axis"
    assert [text for _, text in by_name["method"].ticks] == ["OPQ", "GETA"]
    assert [text for _, text in by_name["scale"].ticks] == ["max", "–"]
    ranges = [{**RECORDS[1], "ask.weight_bits": wide} for wide in ("4:8", "2:6")]
    (axis,) = parallel.parallel_info(ranges, ACCURACY).coordinates
    assert [text for _, text in axis.ticks] == ["4–8", "2–6"]
    (trace,) = parallel.parallel_figure(info).data
    assert [list(dimension["values"]) for dimension in trace.dimensions] == [list(a.values) for a in info.coordinates]
    assert list(trace.line.color) == pytest.approx([90, 80])
    empty = parallel.parallel_info(RECORDS[2:], ACCURACY)
    assert empty.rows == []
    assert len(parallel.parallel_figure(empty).data) == 1


def test_a_race_has_its_board_on_the_page(open_page: Open, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path / "runs", slots=0)
    monkeypatch.setattr("app.runs.runlog.store", lambda: store)
    budgets = [Budget(method=method, seed=seed) for method in ("geta", "opq") for seed in (0, 1)]
    runs = [finished(store.root, 0.96 + 0.005 * i, 5_000, budget) for i, budget in enumerate(budgets)]
    spec, _ = specs(budgets[0], budgets, store, {}, "auto")
    sweep = RunFolder.create(store.root, {**spec, "children": runs})
    app = open_page("runs", run=sweep.id)
    assert errors(app) == []
    board = next(frame.value for frame in app.dataframe if "rank" in frame.value.columns)
    assert list(board["method"]) == ["OPQ", "GETA"], "the more accurate one at the same size leads"
    assert list(board["finished"]) == ["2 of 2", "2 of 2"]
    assert board[standing.AREA][0] > board[standing.AREA][1] > 0
    assert "halvings" in page_text(app)
    app.session_state["all_settings"] = True
    app.run()
    assert not app.exception
    lines = next(chart.proto.spec for chart in app.get("plotly_chart") if "parcoords" in chart.proto.spec)
    assert "method" in lines and "seed" in lines
    single = open_page("runs", run=runs[0])
    assert not [frame for frame in single.dataframe if "rank" in frame.value.columns]
