"""Pages of the app opened without a browser on a runs folder of their own, and what stands on them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app import nav

Open = Callable[..., AppTest]
SECONDS = 120


def opener(runs: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """What opens a page by its name: further words are arguments of the app, keywords go into the address."""

    def opened(name: str, *arguments: str, **query: Any) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app/main.py", "--runs", str(runs), *arguments])
        app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=SECONDS)
        if name != "start":
            app.switch_page(f"../pages/{name}.py")
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
        assert not app.exception, app.exception
        return app

    return opened


def errors(app: AppTest) -> list[str]:
    """The red lines of the page."""
    return [str(element.value) for element in app.error]


def page_text(app: AppTest) -> str:
    """All running text of the page."""
    return "\n".join(str(element.value) for element in (*app.markdown, *app.caption, *app.info))


def numbers(text: str) -> list[float]:
    """The numbers that stand in a text, in order."""
    return [float(number) for number in re.findall(r"\d+(?:\.\d+)?", text)]


def folds(app: AppTest) -> list[str]:
    """The keys of the folded parts, of those that have one."""
    return [element.proto.id.split("-", 2)[2] for element in app.expander if element.proto.id]


def targets(app: AppTest) -> list[str]:
    """The names of the pages that links lead to; Start's is empty."""
    return [element.proto.page for element in app.get("page_link")]


def links(app: AppTest) -> list[str]:
    """The labels of the links to other pages."""
    return [element.proto.label for element in app.get("page_link")]
