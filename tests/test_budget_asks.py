"""A method of somebody else, with asks that no file of the app knows: in the form, in the address, in the run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import pytest
from opened import Open, errors
from pydantic import Field
from streamlit.testing.v1 import AppTest
from torch import nn

import compression as cx
from app.model import catalog
from compression import methods
from compression.asks import Ask, Control
from compression.budget import Budget
from compression.errors import CompressionError
from compression.forecast import Forecast, Subject
from compression.methods.base import Compressed, Info, Method, Reporter, Setup
from compression.options import Options, Real
from compression.tasks import task_of
from tests.contract.runs import DATA, network
from tests.stripes import striped

TASK = task_of(striped())

RESNET8 = catalog.ChosenModel("resnet8", "mnist5k", (1, 28, 28), 10)


@dataclass(frozen=True)
class Rank(Ask):
    """How many columns the factors of a layer have."""

    field: str = "rank"
    default: int = 8
    help: str = "columns of the factors of every layer"
    option: str = "--rank"

    def accept(self, value: Any) -> int:
        if not isinstance(value, int) or not 1 <= value <= 64 or value == 13:
            raise CompressionError(f"rank must be a whole number in 1..64 other than 13, not {value!r}")
        return value

    def control(self) -> Control:
        return Control("slider", "Rank of the factors", 1, 64, 1, self.default)

    def words(self, value: Any) -> str:
        return f"rank {value}"


@dataclass(frozen=True)
class Band(Ask):
    """Shares of the energy that factors keep, or all of it."""

    field: str = "band"
    default: tuple[float, float] | None = None
    help: str = "leave out columns: shares of the energy to keep"

    def accept(self, value: Any) -> tuple[float, float] | None:
        return None if value is None else (float(value[0]), float(value[1]))

    def control(self) -> Control:
        return Control("range", "Energy kept", 0.5, 1.0, 0.05, (0.75, 1.0), optional=True)


class FactorsOptions(Options):
    centre: Literal["mean", "none"] = Field("none", description="What is subtracted first.")
    shrink: Real = Field(0.0, ge=0, le=1, description="How much small columns shrink.")


class Factors(Method):
    """Replaces weights by factors: here it only remembers what it was given."""

    info = Info("factors", "Factors [x](http://elsewhere)", "**Factors** of low rank.", "low-rank", 90, trains=False)
    asks = (Rank(), Band())
    Config = FactorsOptions

    def __init__(self) -> None:
        self.ran: list[Mapping[str, Any]] = []

    def forecast(self, subject: Subject, budget: Budget) -> Forecast:
        return Forecast.unknown("Factors are known after the run.")

    def run(self, setup: Setup, report: Reporter) -> Compressed:
        options = self.options(setup.budget)
        self.ran.append({**self.values(setup.budget), **options.model_dump()})
        return Compressed(setup.model)


@pytest.fixture
def factors(monkeypatch: pytest.MonkeyPatch) -> Factors:
    """The method, registered beside those of the program."""
    method = Factors()
    known = {**methods.all_methods(), "factors": method}
    monkeypatch.setattr(methods, "all_methods", lambda: known)
    return method


def started(app: AppTest, monkeypatch: pytest.MonkeyPatch) -> Budget:
    """The budget that the button would start."""
    budgets: list[Budget] = []

    def start(budget: Budget) -> str:
        budgets.append(budget)
        raise CompressionError("only looked at")

    monkeypatch.setattr("app.runs.runlog.start", start)
    app.button(key="start").click().run()
    return budgets[0]


def test_asks_and_options_of_a_new_method_reach_its_run(
    open_page: Open, factors: Factors, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = open_page("budget")
    app.button_group(key="method").set_value("factors").run()
    assert errors(app) == []
    rank = app.slider(key="ask rank")
    assert (rank.min, rank.max, rank.step, rank.value, rank.label) == (1, 64, 1, 8, Rank().control().label)
    assert {slider.key for slider in app.slider} == {"ask rank"}, "nothing that other methods ask"
    assert [button.key for button in app.button if str(button.key).startswith("preset ")] == []
    rank.set_value(17).run()
    app.toggle(key="ask band on").set_value(True).run()
    assert app.slider(key="ask band").value == (0.75, 1.0)
    app.slider(key="ask band").set_value((0.6, 0.9)).run()
    app.selectbox(key="option factors centre").select("mean").run()
    app.number_input(key="option factors shrink").set_value(0.25).run()
    assert errors(app) == []

    fresh = open_page("budget", **app.query_params)
    assert errors(fresh) == []
    assert (fresh.slider(key="ask rank").value, fresh.slider(key="ask band").value) == (17, (0.6, 0.9))
    assert fresh.button(key="start").label == r"Start Factors \[x](http:⁠//elsewhere) run", "a label is no link"
    budget = started(fresh, monkeypatch)
    assert budget == started(app, monkeypatch)
    factors.run(Setup(nn.Identity(), catalog.traced(RESNET8).graph, TASK, budget), Reporter())
    assert factors.ran == [{"rank": 17, "band": (0.6, 0.9), "centre": "mean", "shrink": 0.25}]


def test_what_a_new_ask_refuses_changes_nothing(open_page: Open, factors: Factors) -> None:
    app = open_page("budget", budget="")
    app.button_group(key="method").set_value("factors").run()
    app.slider(key="ask rank").set_value(13).run()
    assert errors(app) == ["Rank must be a whole number in 1..64 other than 13, not 13."]
    assert app.slider(key="ask rank").value == 8
    assert errors(app.run()) == []


def test_every_part_of_the_page_opens_for_a_new_method(open_page: Open, factors: Factors) -> None:
    for part in ("Plan", "Layers", "Sensitivity", "Saliency", "A and B", "Save and load"):
        app = open_page("budget", method="factors", part=part)
        assert errors(app) == []
        assert [metric.label for metric in app.metric] == []
        (note,) = factors.forecast(None, Budget()).notes  # type: ignore[arg-type]
        assert [caption.value for caption in app.caption].count(note) == 1


def test_values_and_options_of_another_method_come_back_with_it(open_page: Open, factors: Factors) -> None:
    app = open_page("budget")
    app.slider(key="ask sparsity").set_value(0.31).run()
    app.selectbox(key="option geta preset").select("paper").run()
    app.button_group(key="method").set_value("factors").run()
    assert app.session_state["draft"].options == {}, "no other method has this option"
    app.button_group(key="method").set_value("geta").run()
    assert (app.slider(key="ask sparsity").value, app.selectbox(key="option geta preset").value) == (0.31, "paper")
    assert errors(app) == []


def test_asks_of_a_new_method_reach_it_in_one_call(factors: Factors) -> None:
    done = cx.compress(network(), DATA, method="factors", rank=3, epochs=0.1, options={"shrink": 0.25})
    (ran,) = factors.ran
    assert (ran["rank"], ran["shrink"], done.budget.epochs) == (3, 0.25, 0.1)
    with pytest.raises(CompressionError, match="unknown field 'ranks'"):
        cx.compress(network(), DATA, method="factors", ranks=3)
