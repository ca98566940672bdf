"""The options of a method on the Budget page: one field each, only what is set goes into the budget."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import nav
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


def kept(app: AppTest) -> dict[str, object]:
    chosen = app.session_state["options"] if "options" in app.session_state else {}  # noqa: SIM401
    return dict(chosen.get("geta", {}))


def test_every_option_has_a_field_that_leaves_it_to_the_method(page: AppTest) -> None:
    shown = {field.key for kind in ("selectbox", "number_input") for field in page.get(kind)}
    for option in methods.get("geta").options:
        assert (f"option geta {option.name}" in shown) == (option.name != "criteria")
    assert page.selectbox(key="option geta preset").value is None
    told = page.number_input(key="option geta distill").help
    assert told.startswith(methods.get("geta").options[1].help) and told.startswith("How much of the loss")
    assert kept(page) == {}


def test_what_is_set_goes_into_the_budget_and_can_be_taken_back(page: AppTest) -> None:
    page.selectbox(key="option geta preset").select("paper").run()
    page.number_input(key="option geta saliency_batches").set_value(20).run()
    assert kept(page) == {"preset": "paper", "saliency_batches": 20}
    methods.get("geta").check(Budget(options=kept(page)))
    page.number_input(key="option geta saliency_batches").set_value(None).run()
    assert kept(page) == {"preset": "paper"}
    assert not page.exception


def test_another_method_does_not_get_them(page: AppTest) -> None:
    page.number_input(key="option geta distill").set_value(0.5).run()
    page.session_state["method"] = "opq"
    page.run()
    assert not page.exception
    assert not page.error
    assert not [field for field in page.number_input if str(field.key).startswith("option geta distill")]


def test_a_loaded_budget_fills_the_fields(start: AppTest) -> None:
    loaded = json.loads(json.dumps(Budget(options={"preset": "paper", "temperature": 2}).to_dict()))
    start.session_state["options"] = {"geta": loaded["options"]}
    page = start.switch_page("../pages/budget.py").run()
    assert page.selectbox(key="option geta preset").value == "paper"
    assert page.number_input(key="option geta temperature").value == 2
