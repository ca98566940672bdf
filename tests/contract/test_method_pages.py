"""Every method that is registered on the pages: form, forecast, run, comparison and export, with its own words.

The method of ``docs/adding-a-method.md`` is one of them, though no file of the app knows it.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from opened import Open, errors, opener, page_text
from streamlit.testing.v1 import AppTest

from compression import methods
from compression.asks import Ask
from tests.contract.runs import finished

pytestmark = pytest.mark.usefixtures("with_hello")


@pytest.fixture
def page(root: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    return opener(root, monkeypatch)


def _sliders(app: AppTest) -> set[str]:
    return {slider.key for slider in app.slider if slider.key.startswith("ask ")}


def _drawn(asks: tuple[Ask, ...], optional: bool) -> set[str]:
    controls = {ask.field: ask.control() for ask in asks if not ask.excludes or ask.value({}) is not None}
    return {f"ask {field}" for field, control in controls.items() if control and control.optional == optional}


def test_the_budget_page_asks_what_the_method_asks(name: str, page: Open) -> None:
    method = methods.get(name)
    app = page("budget", method=name)
    assert errors(app) == []
    assert app.pills(key="method").value == name
    assert _sliders(app) == _drawn(method.asks, optional=False)
    assert {toggle.key.removesuffix(" on") for toggle in app.toggle} >= _drawn(method.asks, optional=True)
    offered = {field.key for field in (*app.selectbox, *app.number_input) if f"option {name} " in field.key}
    assert offered == {f"option {name} {option.name}" for option in method.Config.table() if option.simple}
    assert any(method.info.sentence == caption.value for caption in app.caption)
    assert app.button(key="start").label == f"Start {method.info.label} run"
    assert bool(app.metric), "the forecast, or what is known of the network"
    assert ("epochs" in {field.key for field in app.number_input}) == method.info.trains


def test_its_run_shows_what_was_asked_and_its_stages(name: str, page: Open, root: Path) -> None:
    method, (folder, _) = methods.get(name), finished(root, name)
    app = page("runs", run=folder.id)
    assert errors(app) == []
    listed = next(frame.value for frame in app.dataframe if "run" in frame.value.columns)
    (row,) = (row for row in listed.to_dict("records") if row["run"] == folder.id)
    assert row["method"] == method.info.label
    shown = page_text(app)
    for ask in method.asks:
        words = ask.words(ask.value(folder.budget().asks))
        assert words in str(row["settings"])
        assert words in shown


def test_it_can_be_compared(name: str, page: Open, root: Path) -> None:
    folder, _ = finished(root, name)
    app = page("compare", run=folder.id)
    assert errors(app) == []
    method, shown = methods.get(name), page_text(app)
    assert method.info.label in shown
    assert all(ask.words(ask.value(folder.budget().asks)) in shown for ask in method.asks)


def test_it_can_be_taken_home(name: str, page: Open, root: Path) -> None:
    folder, _ = finished(root, name)
    app = page("export", run=folder.id)
    assert errors(app) == []
    (chosen,) = (box for box in app.selectbox if box.value == folder.id)
    label = next(option for option in chosen.options if folder.id in option)
    method = methods.get(name)
    assert all(ask.words(ask.value(folder.budget().asks)) in label for ask in method.asks)


def test_every_method_looks_different_and_keeps_its_look() -> None:
    looks = {name: theme_of(name) for name in methods.names()}
    assert len(set(looks.values())) == len(looks)


def theme_of(name: str) -> tuple[str, str]:
    """Colour and marker."""
    from compression.plots.theme import style

    return style(name).color, style(name).symbol
