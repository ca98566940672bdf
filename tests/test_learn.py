"""The Learn page: every lesson renders at every end of its controls, checks its exercise, and takes any address."""

from __future__ import annotations

import ast
import contextlib
import gc
import json
import re
import sys
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import plotly.graph_objects as go
import pytest
from streamlit.testing.v1 import AppTest

from app import nav, terms, theme, words
from app.gallery import gallery
from app.learn import lesson_page
from app.learn.controls import Field, parse, write
from app.learn.exercises import ALMOST, RIGHT, WRONG, check, read_number
from compression.errors import CompressionError
from compression.plots import fonts
from lessons import contents, sources
from lessons.channels.lesson import import_early
from lessons.contents import CONTENTS, PLACE, Entry
from lessons.lesson import Lesson, Number, Pick, Slider

Open = Callable[..., AppTest]
METHOD_COLORS = {theme.style(method).color for method in ("sequential", "magnitude", "ptq")}
EACH = pytest.mark.parametrize("each", CONTENTS, ids=lambda each: each.name)


@pytest.fixture
def learn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Open:
    """Open the page; keywords go into the address."""

    def opened(**query: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app/main.py", "--runs", str(tmp_path / "runs")])
        app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=120)
        app.switch_page("../pages/learn.py")
        for key, value in query.items():
            app.query_params[key] = value
        app.run()
        assert not app.exception, app.exception
        assert not app.error, [element.value for element in app.error]
        return app

    return opened


def messages(app: AppTest) -> list[str]:
    return [str(element.value) for element in app.info]


def heads(app: AppTest) -> list[str]:
    return [str(element.value).partition("\n")[0] for element in app.markdown]


def chosen(lesson: Lesson, **changed: Any) -> dict[str, Any]:
    """The values of a lesson's fields: the changed ones, else those they start with."""
    values: dict[str, Any] = {}
    while len(values) < len(fields := lesson.fields(values)):
        field = fields[len(values)]
        values[field.key] = changed.get(field.key, field.default)
    return values


def ends(field: Field) -> list[Any]:
    if isinstance(field, Slider):
        return [field.low, field.high]
    return [[], list(field.options)] if isinstance(field.default, list) else list(field.options)


def typed(answer: Number | Pick, right: bool) -> str:
    if isinstance(answer, Pick):
        return answer.value if right else next(name for name in answer.options if name != answer.value)
    return f"{answer.value if right else answer.value + 10 * answer.tolerance + 7}"


def test_lessons_in_order() -> None:
    assert [each.number for each in CONTENTS] == list(range(1, 17))
    for file in ("text.md", "lesson.py"):
        assert {path.parent.name for path in contents.FOLDER.glob(f"*/{file}")} == {each.name for each in CONTENTS}


@EACH
def test_a_lesson_shows_something_at_every_end_of_its_controls(each: Entry) -> None:
    lesson, places = each.load(), set(PLACE.findall(contents.page(f"{each.name}/text")))
    first = chosen(lesson)
    for field in lesson.fields(first):
        assert parse(field, write(first[field.key])) == first[field.key]
        for value in ends(field):
            view = lesson.show(chosen(lesson, **{field.key: value}))
            assert view.figure.data, (field.key, value)
            assert view.rows, (field.key, value)
            assert not any(color in view.figure.to_json() for color in METHOD_COLORS), (field.key, value)
            assert places <= set(view.facts), (field.key, value)
            assert not any(bad in fact for fact in view.facts.values() for bad in ("nan", "None")), view.facts


@EACH
def test_the_exercise_takes_the_right_answer_only(each: Entry) -> None:
    answer = each.load().answer()
    assert check(answer, typed(answer, right=True)) == RIGHT
    assert check(answer, typed(answer, right=False)) == WRONG
    for nothing in ("", "  ", "many", "nan", "inf", "-inf", "1e999", "½", "1_0", "٣", "1/0", "1/7/2"):
        with pytest.raises(CompressionError) as refused:
            check(answer, nothing)
        assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3,5", 3.5),
        (" 12 %", 12.0),
        ("1 000", 1000.0),
        ("−2", -2.0),
        (".5", 0.5),
        ("2e-3", 0.002),
        ("1/7", 1 / 7),
        ("-3 / 4", -0.75),
    ],
)
def test_numbers_as_people_type_them(text: str, value: float) -> None:
    assert read_number(text) == value


def test_a_tolerance_is_a_distance() -> None:
    answer = Number(10.0, 0.5)
    assert [check(answer, str(value)) for value in (9.5, 10.5, 9.49, 10.51)] == [RIGHT, RIGHT, WRONG, WRONG]


def test_an_answer_that_is_rounded_too_far_is_almost_right() -> None:
    answer = Number(1 / 7, 0.0005)
    assert {text: check(answer, text) for text in ("1/7", "0.1429", "0,143", "0.14", ".1", "0.15", "0")} == {
        "1/7": RIGHT, "0.1429": RIGHT, "0,143": RIGHT, "0.14": ALMOST, ".1": ALMOST, "0.15": WRONG, "0": WRONG
    }  # fmt: skip


def figures(app: AppTest) -> list[dict[str, Any]]:
    """The figures of the page that change in place."""
    live = [each.proto for each in app.get("bidi_component") if each.proto.component_name == "chart"]
    return [json.loads(json.loads(proto.json)["figure"]) for proto in live]


@EACH
def test_a_lesson_is_drawn_and_checks_what_is_typed(learn: Open, each: Entry) -> None:
    app = learn(lesson=str(each.number))
    title = contents.text(each.name)["Title"]
    assert [element.value for element in app.subheader] == [f"{each.number}. {title}"]
    assert len(figures(app)) == 1
    assert messages(app) == []
    assert not any("«" in element.value for element in app.markdown)
    answer = each.load().answer()
    for right in (False, True):
        _answered(app, each, typed(answer, right))
        assert (len(app.success), len(app.warning)) == ((1, 0) if right else (0, 1))
    if isinstance(answer, Number):
        _answered(app, each, "a few")
        assert "no number" in messages(app)[0]
        assert not app.success
    assert not app.exception


def _answered(app: AppTest, each: Entry, text: str) -> None:
    key = f"exercise{each.number}_answer"
    fields = [f for kind in ("text_input", "radio", "selectbox") for f in getattr(app, kind) if f.key == key]
    fields[0].set_value(text)
    next(button for button in app.button if button.label == "Check").click()
    app.run()


def test_a_link_opens_a_lesson_in_its_state(learn: Open) -> None:
    app = learn(lesson="2", bits="3", clip="58", layer="layer2.0.conv2")
    assert (app.slider(key="lesson2_bits").value, app.slider(key="lesson2_clip").value) == (3, 58)
    assert app.selectbox(key="lesson2_layer").value == "layer2.0.conv2"
    app.slider(key="lesson2_bits").set_value(5).run()
    assert app.query_params["bits"] in ("5", ["5"])
    app.slider(key="lesson2_bits").set_value(4).run()
    assert "bits" not in app.query_params, "what is as at the beginning needs no place in the address"


def test_both_ways_to_forget_are_shown_at_every_end_of_their_controls(learn: Open) -> None:
    lesson = CONTENTS[4].load()
    for way in ("published", "uniform"):
        fields = lesson.fields(values := chosen(lesson, shown="forgetting", way=way))
        for field in fields[2:]:
            for value in ends(field):
                view = lesson.show(chosen(lesson, **{**values, field.key: value}))
                assert len(view.rows) == 10
                assert not any(bad in fact for fact in view.facts.values() for bad in ("nan", "None")), view.facts
    app = learn(lesson="5", shown="forgetting", way="uniform", at="500")
    assert (app.selectbox(key="lesson5_way").value, app.slider(key="lesson5_at").value) == ("uniform", 500)
    assert messages(app) == []
    app.selectbox(key="lesson5_way").set_value("published").run()
    assert app.slider(key="lesson5_at").value == 500
    app.pills(key="lesson5_shown").set_value("run").run()
    assert {"way", "at"}.isdisjoint(app.query_params)
    assert messages(app) == []


def test_parts_travel_in_the_address(learn: Open) -> None:
    app = learn(lesson="1", parts="residual,flatten", remove="residual", channel="5")
    assert app.slider(key="lesson1_channel").value == 5
    assert any("slices of **4** modules" in element.value for element in app.markdown)
    assert messages(app) == []


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"lesson": "99"}, "There is no lesson “99”"),
        ({"lesson": "two"}, "There is no lesson “two”"),
        ({"lesson": "2", "bits": "99"}, "The address asks for bits “99”; there is 2 to 8"),
        ({"lesson": "2", "bits": "nan"}, "The address asks for bits “nan”"),
        ({"lesson": "2", "bits": "3.5"}, "The address asks for bits “3.5”"),
        ({"lesson": "2", "layer": "../../etc"}, "The address asks for layer “../../etc”"),
        ({"lesson": "1", "parts": "residual,magic"}, "The address asks for parts"),
        ({"lesson": "2", "colour": "red"}, "no “colour”"),
        ({"view": "cellar"}, "There is no view “cellar”"),
        ({"view": "glossary", "term": "dragon"}, "no “dragon”"),
    ],
)
def test_an_unknown_state_gets_one_friendly_line(learn: Open, query: dict[str, str], words: str) -> None:
    lines = messages(learn(**query))
    assert len(lines) == 1, lines
    assert words in lines[0]
    assert "\n" not in lines[0]


def test_a_control_that_goes_takes_its_value_out_of_the_address(learn: Open) -> None:
    app = learn(lesson="9", zeros="50")
    app.pills(key="lesson9_count").set_value("time").run()
    assert "zeros" not in app.query_params
    assert app.query_params["count"] in ("time", ["time"])
    assert messages(app) == []
    (line,) = messages(learn(lesson="9", count="time", zeros="50"))
    assert "“zeros”" in line and "“count”" not in line


def test_the_next_lesson_takes_nothing_of_the_last_one_along(learn: Open) -> None:
    app = learn(lesson="2", bits="3")
    app.button(key="next").click().run()
    assert app.query_params["lesson"] in ("3", ["3"])
    assert "bits" not in app.query_params
    assert app.subheader[0].value.startswith("3. ")
    assert messages(app) == []


def test_the_next_lesson_begins_with_its_own_layer(learn: Open) -> None:
    app = learn(lesson="6", layer="layer3.0.conv2", gone="40")
    app.button(key="next").click().run()
    assert app.selectbox(key="lesson7_layer").value == "layer2.0.conv1"
    assert {"layer", "gone"}.isdisjoint(app.query_params)
    assert messages(app) == []


def test_an_edited_text_is_shown_and_a_wrong_place_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "FOLDER", tmp_path)
    whole = "# T\n\nidea «a»\n" + "".join(f"\n## {name}\n\ntext\n" for name in contents.SECTIONS)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "text.md").write_text(whole, encoding="utf-8")
    words = contents.text("x")
    assert words == {"Title": "T", "Idea": "idea «a»", **dict.fromkeys(contents.SECTIONS, "text")}
    assert contents.fill(words["Idea"], {"a": "7"}) == "idea 7"
    with pytest.raises(CompressionError, match="asks for «a»"):
        contents.fill(words["Idea"], {"b": "7"})
    (tmp_path / "x" / "text.md").write_text(whole.replace("## Hint", "## Hnt"), encoding="utf-8")
    with pytest.raises(CompressionError, match=r"x/text.md: there is no section '## Hint'"):
        contents.text("x")
    (tmp_path / "x" / "text.md").write_text(whole.removeprefix("# T"), encoding="utf-8")
    with pytest.raises(CompressionError, match=r"x/text.md: the first line must be '# '"):
        contents.text("x")


def test_the_glossary_has_every_word_of_the_pages(learn: Open) -> None:
    names = {term.name.lower(): term for term in terms.everything()}
    needed = "graph group unit quantizer bit-width budget method run sweep point front bundle ledger step exponent bops"
    needed += " macs sparsity saliency projection codebook threshold entropy equality dominated distillation survivor"
    assert not {word for word in needed.split() if word not in names}
    assert all(len(term.explanation) > 20 for term in names.values())
    assert len({term.anchor for term in names.values()}) == len(names)
    app = learn(view="glossary", term="bit-width")
    assert any(element.value.startswith("#### Bit-width") for element in app.markdown)
    app.text_input(key="term_search").set_value("pareto").run()
    assert [line for line in heads(app) if line.startswith("##### ")] == ["##### Front"]
    app.text_input(key="term_search").set_value("zzz").run()
    assert [("“zzz”" in each.value, each.icon) for each in app.info] == [(True, ":material/search_off:")]
    assert not [line for line in heads(app) if line.startswith("##### ")]


def test_every_help_text_leads_to_the_glossary() -> None:
    """All help of the pages goes through ``tip``; buttons and links, whose tooltips none can reach, may do without."""
    bare = []
    for path in [*(nav.ROOT / "app").rglob("*.py"), *(nav.ROOT / "pages").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and not ast.unparse(node.func).endswith(("button", "page_link")):
                texts_of = [word.value for word in node.keywords if word.arg == "help"]
                bare += [f"{path.name}:{value.lineno}" for value in texts_of if not _tipped(value)]
            if isinstance(node, ast.Dict):
                items = zip(node.keys, node.values, strict=True)
                values = [value for key, value in items if isinstance(key, ast.Constant) and key.value == "help"]
                bare += [f"{path.name}:{value.lineno}" for value in values if not _tipped(value)]
    assert not bare


def _tipped(value: ast.expr) -> bool:
    return isinstance(value, ast.Call) and ast.unparse(value.func) == "tip"


def test_a_tip_links_every_term_once_and_leaves_the_text_alone() -> None:
    given = "Clipping bounds of a unit’s BOPs; MACs, bops and `graph` code, [run](x)."
    tip = terms.tip(given)
    assert tip is not None
    text, _, links = tip.partition("\n\nGlossary: ")
    assert text == given
    names = re.findall(r"\[([^]]+)\]\(learn\?view=glossary&term=([a-z0-9-]+)\)", links)
    assert names == [("Clipping bound", "clipping-bound"), ("Unit", "unit"), ("BOPs", "bops"), ("MACs", "macs")]
    known = {term.anchor for term in terms.everything()}
    bops = next(term for term in terms.everything() if term.name == "BOPs")
    assert bops.also == ("bit operations",)
    assert "Also" not in bops.explanation
    assert "term=bops" in (terms.tip("Fewer bit operations.") or "")
    for text in words.HELP.values():
        anchors = re.findall(r"term=([a-z0-9-]+)", terms.tip(text) or "")
        assert anchors, text
        assert set(anchors) <= known
    assert terms.tip("") is None
    assert terms.tip("Nothing here.") == "Nothing here."


def test_terms_name_lessons_that_there_are() -> None:
    for number in re.findall(r"[Ll]essons? (\d+)", contents.page(terms.FILE)):
        assert 1 <= int(number) <= len(CONTENTS), number


def test_the_notes_for_teachers_plan_ninety_minutes(learn: Open) -> None:
    rows = re.findall(r"^\| (\d+)–(\d+) \|", contents.page("teachers"), flags=re.MULTILINE)
    spans = [(int(a), int(b)) for a, b in rows]
    assert (spans[0][0], spans[-1][1]) == (0, 90)
    assert all(before[1] == after[0] for before, after in pairwise(spans))
    app = learn(view="teachers")
    assert contents.page("teachers").strip() in [element.value for element in app.markdown]


def test_the_picture_for_slides_stands_alone() -> None:
    view = CONTENTS[1].load().show(chosen(CONTENTS[1].load()))
    page = lesson_page.html(view.figure, "Rounding").decode()
    assert "Plotly.newPlot" in page
    assert 'src="http' not in page
    assert view.figure.layout.title.text is None, "the figure on the page is left as it was"


@EACH
def test_a_lesson_leads_to_a_run_of_the_gallery_that_its_page_can_open(each: Entry) -> None:
    links = each.load().links
    assert links[0].run, "see it in your run"
    for link in links:
        assert link.page in nav.PAGES
        if link.run:
            run = gallery.find(link.run)
            assert run.info.state == "done"
            assert not link.methods or run.info.method in link.methods
            assert run.whole or not link.whole


def test_in_your_run_means_the_chosen_run_where_it_fits(learn: Open) -> None:
    opq, geta = "gallery.resnet8-mnist5k.opq-01", "gallery.resnet8-fashion_mnist.geta-w4-s30"
    assert _led(learn(lesson="4"), "Runs") == "gallery.resnet8-mnist5k.geta"
    assert _led(learn(lesson="4", run=geta), "Runs") == geta
    assert _led(learn(lesson="4", run=opq), "Runs") == "gallery.resnet8-mnist5k.geta", "OPQ learns no bits"
    assert _led(learn(lesson="9", run=geta), "Export") == "gallery.resnet8-mnist5k.geta", "its model is not kept"
    assert _led(learn(lesson="9", run=opq), "Export") == opq


def _led(app: AppTest, title: str) -> str:
    """The run in the address of the link to a page."""
    links = [element.proto for element in app.get("page_link")]
    page = next(name for name, info in nav.PAGES.items() if info.title == title)
    link = next(link for link in links if link.page == page)
    return parse_qs(link.query_string)["run"][0]


CPU_SECONDS, SHARE_WITHIN = 0.1, 0.9
SLOWER = {"picture": 2.0}
"""Lesson → its factor: a whole picture is computed anew, which takes 0.06 to 0.1 seconds of a processor left alone."""


@EACH
def test_a_control_answers_within_a_tenth_of_a_second(each: Entry) -> None:
    """Seconds of this thread on the processor, for values not seen before: what another program does is not counted."""
    lesson = each.load()
    first = chosen(lesson)
    lesson.show(first)
    if each.name == "channels":
        import_early().join()
    with uncollected():
        seconds = sorted(
            _seconds(lesson, {field.key: value})
            for field in lesson.fields(first)
            for value in [*ends(field), *between(field)]
        )
    most = CPU_SECONDS * SLOWER.get(each.name, 1.0)
    assert seconds[int(SHARE_WITHIN * (len(seconds) - 1))] <= most, seconds
    assert seconds[-1] <= 2 * most, seconds


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No collection of garbage meanwhile: in a process of hundreds of tests one takes half a second by itself."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _seconds(lesson: Lesson, changed: dict[str, Any]) -> float:
    start = time.thread_time()
    lesson.show(chosen(lesson, **changed))
    return time.thread_time() - start


def between(field: Field) -> list[Any]:
    if not isinstance(field, Slider):
        return []
    places = [round((field.high - field.low) / field.step * share) for share in (0.15, 0.35, 0.6, 0.85)]
    return [parse(field, write(field.low + field.step * place)) for place in places]


def test_a_control_whose_limits_change_goes_to_the_nearest_value(learn: Open) -> None:
    app = learn(lesson="12", layer="layer3.0.conv2", neuron="30")
    assert app.session_state["lesson12_neuron"] == 30
    app.selectbox(key="lesson12_layer").set_value("conv1").run()
    assert not app.exception, app.exception
    assert app.session_state["lesson12_neuron"] == 8
    assert messages(app) == []
    assert app.query_params["neuron"] in ("8", ["8"])


CITED = re.compile(r"\b([GOCBS]\d+)\b(?: to ([GOCBS]\d+))?")
"""Numbers of equations in the derivations: G1, O12 to O15."""


def check_source(source: str) -> None:
    """It links a paper of arXiv or a derivation of the project, and the equations it names are there."""
    addresses = re.findall(r"\]\(([^)]*)\)", sources.linked(source))
    assert addresses, source
    there = sources.derivations()
    for address in addresses:
        name = address.removeprefix(sources.VIEW)
        assert name in there or re.fullmatch(r"https://arxiv\.org/abs/\d{4}\.\d{5}", address), address
    named = sources.DERIVATION.findall(source)
    text = "".join(map(sources.derivation, named))
    equations = [each for pair in CITED.findall(source) for each in pair if each]
    assert all(f"\\tag{{{each}}}" in text for each in equations), source
    assert text or not equations, source


@EACH
def test_every_lesson_names_its_source(each: Entry) -> None:
    source = contents.text(each.name)["Source"]
    check_source(source)
    assert set(sources.PAPER.findall(source)) <= set(sources.TITLES)


def test_terms_that_come_from_a_paper_name_it() -> None:
    for term in terms.everything():
        assert "Source" not in term.explanation
        if term.source:
            check_source(term.source)
        assert term.source or not re.search(r"\b(GETA|OPQ|QASSO|QADG)\b", term.explanation), term.name


def test_the_source_stands_beside_the_formula_and_leads_to_the_derivation(learn: Open) -> None:
    app = learn(lesson="6")
    (line,) = (element.value for element in app.caption if element.value.startswith("Source: "))
    assert "[arXiv 2205.11141](https://arxiv.org/abs/2205.11141), section 3.2" in line
    assert sources.TITLES["2205.11141"] in line
    assert "[our derivation](learn?view=derivations&derivation=opq), O1 to O5" in line
    app = learn(view="derivations", derivation="opq")
    assert any(r"\tag{O5}" in element.value for element in app.markdown)
    assert messages(app) == []
    (line,) = messages(learn(view="derivations", derivation="../../etc"))
    assert "../../etc" in line


def test_one_row_leads_through_the_lessons(learn: Open) -> None:
    app = learn(lesson="1")
    assert app.button(key="lesson_previous").disabled
    assert app.selectbox(key="lesson").options[4] == "5. " + contents.text("stages")["Title"]
    app.button(key="lesson_next").click().run()
    assert app.subheader[0].value.startswith("2. ")
    app.selectbox(key="lesson").set_value(16).run()
    assert app.subheader[0].value.startswith("16. ")
    assert app.button(key="lesson_next").disabled


def test_larger_text_for_a_class_is_kept_in_the_address(learn: Open) -> None:
    app = learn(lesson="2", projector="1")
    assert app.toggle(key="projector").value
    usual, larger = (figures(each)[0] for each in (learn(lesson="2"), app))
    assert larger["layout"]["height"] == pytest.approx(1.3 * usual["layout"]["height"])
    app.button(key="next").click().run()
    assert app.query_params["projector"] in ("1", ["1"])
    assert messages(app) == []
    app.toggle(key="projector").set_value(False).run()
    assert "projector" not in app.query_params


def test_larger_text_is_that_of_every_part_of_a_figure_and_the_rest_stays() -> None:
    font = {"size": 10, "color": "#123456"}
    figure = go.Figure(go.Scatter(x=[1], y=[2], text=["a"], textfont={"size": 8}, marker={"size": 7}))
    figure.update_layout(height=200, annotations=[{"text": "b", "font": font}], legend={"font": font})
    larger = fonts.enlarged(figure, 1.5)
    assert (larger.layout.height, larger.layout.annotations[0].font.size, larger.layout.legend.font.size) == (
        300,
        15,
        15,
    )
    assert (larger.data[0].textfont.size, larger.data[0].marker.size, larger.layout.font.size) == (12, 7, None)
    assert larger.layout.annotations[0].font.color == font["color"]
    assert figure.layout.annotations[0].font.size == 10, "the figure itself is left as it was"
