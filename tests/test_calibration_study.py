"""How many inputs a method needs: the study, its chart, and where the Budget page has it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from compression import methods
from compression.budget import Budget
from compression.errors import Cancelled, CompressionError
from compression.jobs import calibration as study
from compression.plots import calibration as figures
from compression.runs.folder import RunFolder
from compression.runs.reporter import RunReporter

BUDGET = Budget(method="gptq", model="resnet8", data="mnist5k", bits=2, batch_size=32)


class Watching(RunReporter):
    """Counts the steps, and asks to stop after ``most`` of them."""

    def __init__(self, folder: Path, most: int = 100) -> None:
        super().__init__(folder / "events.jsonl", checkpoint_path=folder / "checkpoint.pt")
        self.steps, self.most = 0, most

    def step(self, step: int, epoch: float, **values: object) -> None:
        self.steps = step

    def check(self) -> None:
        if self.steps >= self.most:
            raise Cancelled("enough")


def folder(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path, {"id": "study", "budget": BUDGET.to_dict(), "created": 0.0})


def test_scores_by_the_number_of_inputs(tmp_path: Path) -> None:
    question = {**study.request(BUDGET), "counts": [1, 64], "draws": 2}
    assert "samples" not in question["options"]
    with Watching(tmp_path) as events:
        result = study.carry_out(folder(tmp_path), events, **question)
    assert [(row["count"], row["draw"]) for row in result["rows"]] == [(1, 0), (1, 1), (64, 0), (64, 1)]
    info = figures.calibration_info(result)
    assert len(set(info.scores[1])) == 2, "other inputs, another result"
    assert statistics.fmean(info.scores[64]) > statistics.fmean(info.scores[1]) > info.first
    points, line = figures.calibration_figure(info, "gptq").data
    assert len(points.x) == 4
    assert list(line.x) == [1, 64]
    assert [row["inputs"] for row in info.rows] == [1, 64]


def test_it_stops_and_refuses(tmp_path: Path) -> None:
    question = {**study.request(BUDGET), "counts": [1], "draws": 3}
    with pytest.raises(Cancelled), Watching(tmp_path, most=1) as events:
        study.carry_out(folder(tmp_path), events, **question)
    with pytest.raises(CompressionError, match="no option samples"), Watching(tmp_path) as events:
        study.carry_out(RunFolder(tmp_path / "study"), events, **{**question, "method": "magnitude"})


def test_enough_is_where_more_inputs_change_less_than_the_draw() -> None:
    scores = {16: (0.60, 0.70), 64: (0.79, 0.82), 256: (0.80, 0.83), 1024: (0.81, 0.83)}
    rows = [{"count": n, "draw": i, "score": s} for n, each in scores.items() for i, s in enumerate(each)]
    assert figures.calibration_info({"rows": rows, "first": 0.5}).enough == 64


def test_the_page_offers_it_where_a_method_has_the_option(open_page: Callable[..., AppTest]) -> None:
    offered = {name for name in methods.names() if study.offered(name)}
    assert {"gptq", "spfq", "adaround"} <= offered
    for method in ("gptq", "magnitude"):
        app = open_page("budget", model="resnet8", data="mnist5k", method=method, part="Inputs")
        assert not app.exception, app.exception
        assert ([button.key for button in app.button if button.key == f"begin {study.KIND}"] != []) == (
            method in offered
        )
