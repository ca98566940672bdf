"""Every method leads to the lesson that explains it: from Budget, from its runs, in its reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from opened import Open, errors, opener
from written import finished

from app import explained, nav
from compression import methods
from compression.methods.document import markdown
from lessons import contents

METHODS = list(methods.all_methods())


@pytest.fixture
def open_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    return opener(tmp_path / "runs", monkeypatch)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_names_a_lesson_that_is_there(method: str) -> None:
    lesson = methods.get(method).info.lesson
    assert lesson in [entry.name for entry in contents.CONTENTS]
    assert (nav.ROOT / "lessons" / str(lesson) / "text.md").is_file()
    assert f"](../lessons/{lesson}/text.md)" in markdown().split(f"(`{method}`)")[1].split("\n## ")[0]


def links(app: object) -> dict[str, str]:
    """Label → lesson, of the links to Learn that name one."""
    result = {}
    for element in app.get("page_link"):  # type: ignore[attr-defined]
        query = parse_qs(element.proto.query_string)
        if element.proto.page == "learn" and "lesson" in query:
            result[element.proto.label] = query["lesson"][0]
    return result


@pytest.mark.parametrize("method", ["bsq", "ptq"])
def test_the_budget_page_links_to_the_lesson_and_says_the_paper(open_page: Open, method: str) -> None:
    app = open_page("budget", model="resnet8", data="mnist5k", method=method)
    assert errors(app) == []
    entry, info = explained.entry(method), methods.get(method).info
    assert entry is not None and entry.name == info.lesson
    assert links(app) == {f"Lesson {entry.number}: {contents.text(entry.name)['Title']}": str(entry.number)}
    captions = [caption.value for caption in app.caption]
    assert info.sentence in captions and (info.paper is None or any(info.paper in caption for caption in captions))


def test_a_run_links_to_the_lesson_of_its_method(open_page: Open, tmp_path: Path) -> None:
    app = open_page("runs", run=finished(tmp_path / "runs"))
    assert errors(app) == []
    assert list(links(app).values()) == ["5"]


def test_methods_of_others_without_a_lesson_have_no_link(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(nav, "link", lambda *_, **query: drawn.append(query["lesson"]))
    described = methods.get("ptq")
    for lesson in (None, "no such lesson"):
        monkeypatch.setattr(type(described), "info", dataclasses.replace(described.info, lesson=lesson))
        explained.sources("ptq")
    explained.sources("not installed")
    assert drawn == []
