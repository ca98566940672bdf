"""The options of a method on the Budget page: one field each, only what is set goes into the budget."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import nav
from app.budget import permalink
from compression import methods
from compression.budget import Budget


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    """The app before the Budget page was opened."""
    monkeypatch.setattr(sys, "argv", ["app/main.py", "--runs", str(tmp_path / "runs")])
    return AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=60)


@pytest.fixture
def page(start: AppTest) -> AppTest:
    start.switch_page("../pages/budget.py").run()
    assert not start.exception, start.exception
    return start


def options(app: AppTest) -> dict[str, object]:
    """The options that the draft holds."""
    return dict(app.session_state["draft"].options) if "draft" in app.session_state else {}


def test_every_option_has_a_field_that_leaves_it_to_the_method(page: AppTest) -> None:
    shown = {field.key for kind in ("selectbox", "number_input") for field in page.get(kind)}
    table = {option.name: option for option in methods.get("geta").Config.table()}
    for name in table:
        assert (f"option geta {name}" in shown) == (name != "criteria")
    assert page.selectbox(key="option geta preset").value is None
    assert page.number_input(key="option geta distill").help.startswith(table["distill"].help)
    assert options(page) == {}


def test_what_is_set_goes_into_the_budget_and_can_be_taken_back(page: AppTest) -> None:
    page.selectbox(key="option geta preset").select("paper").run()
    page.number_input(key="option geta saliency_batches").set_value(20).run()
    assert options(page) == {"preset": "paper", "saliency_batches": 20}
    methods.get("geta").check_budget(Budget(options=options(page)))
    page.number_input(key="option geta saliency_batches").set_value(None).run()
    assert options(page) == {"preset": "paper"}
    assert not page.exception


def test_an_empty_field_shows_what_the_preset_takes(page: AppTest) -> None:
    def shown() -> list[str]:
        fields = (page.number_input(key="option geta distill"), page.selectbox(key="option geta ranges"))
        return [field.placeholder.partition(" (")[0] for field in fields]

    assert page.number_input(key="option geta distill").placeholder.endswith("tuned)")
    assert shown() == ["0.9", "max"]
    page.selectbox(key="option geta preset").select("accurate").run()
    assert shown() == ["0.9", "fitted"]
    page.selectbox(key="option geta preset").select("paper").run()
    assert shown() == ["0", "max"]


def test_another_method_does_not_get_them(page: AppTest) -> None:
    page.number_input(key="option geta distill").set_value(0.5).run()
    page.pills(key="method").set_value("ptq").run()
    assert not page.exception
    assert not page.error
    assert options(page) == {}
    assert "geta" not in {word for field in page.number_input for word in str(field.key).split()}


def test_a_loaded_budget_fills_the_fields(start: AppTest) -> None:
    loaded = Budget(options={"preset": "paper", "temperature": 2})
    start.query_params["budget"] = permalink.pack(loaded)
    page = start.switch_page("../pages/budget.py").run()
    assert page.selectbox(key="option geta preset").value == "paper"
    assert page.number_input(key="option geta temperature").value == 2
