"""What models and data sets are called: one title each, on every page; names only where they are typed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from opened import Open, errors
from streamlit.testing.v1 import AppTest
from written import finished

from app import names, nav
from app.gallery import gallery
from compression import data, zoo
from compression.budget import Budget
from compression.plots.titles import shortened
from compression.zoo.extra import ARCHITECTURES

RUN = "gallery.resnet8-mnist5k.geta"
OF_A_RUN = ("runs", "compare", "explain", "export")
NAMES = re.compile(rf"(?<![\w.:/-])({'|'.join(map(re.escape, (*zoo.names(), *data.names())))})(?![\w./-])")


def test_every_title_is_one_models_or_one_data_sets() -> None:
    models = [*zoo.names(), *(f"hf:{name}" for name in ARCHITECTURES), "torchvision:resnet18", "timm:resnet18"]
    for titles in (list(map(names.model_label, models)), list(map(names.data_label, data.names()))):
        assert len(set(titles)) == len(titles)
        assert not any(NAMES.search(title) for title in titles), titles


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        ({"a": "A, wide", "b": "B"}, {"a": "A", "b": "B"}),
        ({"a": "A, wide, deep", "b": "A"}, {"a": "A (wide, deep)", "b": "A"}),
        ({"a": "A, wide", "b": "A, deep"}, {"a": "A (wide)", "b": "A (deep)"}),
    ],
)
def test_titles_are_as_short_as_they_can_be(titles: dict[str, str], expected: dict[str, str]) -> None:
    assert shortened(titles) == expected


@pytest.mark.parametrize("page", nav.PAGES)
def test_no_page_shows_a_name_where_there_is_a_title(open_page: Open, tmp_path: Path, page: str) -> None:
    finished(tmp_path / "runs", 0.9, 4_000)
    finished(tmp_path / "runs", 0.8, 5_000, Budget(model="resnet20", data="cifar10"))
    query = {"lesson": "7"} if page == "learn" else {"run": RUN} if page in OF_A_RUN else {}
    app = open_page(page, **query)
    assert errors(app) == []
    shown = list(texts(app))
    assert [text for text in shown if NAMES.search(text)] == []
    assert any(names.model_label("resnet8") in text for text in shown), "the page does show a model"


def texts(app: AppTest) -> Iterator[str]:
    """What a page shows as text, without code, where names are typed, and without the ids of runs."""
    yield from (str(each.value) for each in (*app.markdown, *app.caption, *app.info, *app.metric))
    yield from (each.label for each in (*app.button, *app.expander, *app.selectbox, *app.multiselect))
    yield from (option for each in (*app.selectbox, *app.multiselect) for option in each.options)
    yield from (each.proto.label for each in app.get("page_link"))
    for table in app.dataframe:
        yield from (str(cell) for column in table.value if column != "run" for cell in table.value[column])


def test_other_files_of_the_same_name_keep_the_gallerys_title(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """CIFAR-10 in its own files is no CIFAR-10 (JPEG-75); of all others there is one kind."""
    infos = gallery.infos()
    monkeypatch.delenv("COMPRESSION_DATA", raising=False)
    monkeypatch.setenv("COMPRESSION_CACHE", str(tmp_path))
    for info in infos:
        own = info.data != "cifar10"
        assert gallery.comparable(info) == own
        assert gallery.data_label(info) == (names.data_label(info.data) if own else gallery.find(info.id).data)
