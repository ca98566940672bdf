"""What an address, a file or a network is called is shown as it is on every page: no picture, link, icon, formula."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import plotly.graph_objects as go
import pytest
from opened import Open
from written import DENSE, begun, finished

from app import nav, plain
from compression.budget import Budget
from compression.runs.eventwriter import EventWriter
from compression.runs.folder import RunFolder
from tests.served import served

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page, Request
    from streamlit.testing.v1 import AppTest

PICTURE = "![x](http://elsewhere.example/leak.png)"
HOSTILE = (
    PICTURE,
    "torchvision:![x](http:elsewhere.example)",
    "[click](http://elsewhere.example)",
    "http://elsewhere.example www.elsewhere.example a@elsewhere.example",
    "<img src='http://elsewhere.example/x'>",
    ":red[x] :material/home: :smile: :small[y] $x^2$ `c` **b** _i_ ~~d~~",
    "# head",
    "&lt;b&gt; &#33;",
)
NUMBERS = ("nan", "inf", "-inf", "1e400", "-5", "9" * 309, "9" * 5000, "0x10", "١", "", "1e-400", "true", PICTURE)
PARAMETERS = {
    "start": (),
    "model": ("area",),
    "groups": ("overlay", "graph_search", "detail", "graph_view", "quantizers"),
    "budget": (
        "budget", "method", "sparsity", "bits", "average_bits", "equal_bits", "activations", "activation_bits",
        "equal_activation_bits", "epochs", "seed", "part",
    ),
    "runs": ("bits_kind",),
    "compare": ("cost", "loss", "layer_measure", "gallery_shown"),
    "explain": ("attribution", "tiles"),
    "export": (),
    "learn": ("lesson", "view", "term", "derivation", "sparsity", "bits"),
}  # fmt: skip
SHARED = ("model", "data", "weights", "run", "other", "group", "tour", "projector")
ACTIVE = re.compile(
    r"(?<!\\)\[[^\]]*\]\(\s*[a-z]*:?/*elsewhere|https?://elsewhere|www\.elsewhere|a@elsewhere|(?<!\\)<img"
    r"|:material/home:|:smile:|:red\[|:small\[y|(?<!\\)\$x\^2|(?<!\\)`c`|(?<!\\)\*\*b|(?<!\\)~~d|(?<!\\)&#33;"
)


def test_an_error_is_a_sentence_and_names_stay_as_they_are() -> None:
    for text in ("no run 'zzz'", "weights of the layer are missing"):
        assert plain.sentence(text) == f"{text.capitalize()}."
    for name in (
        "lr must be above 0.",
        "resnet8 has no data.",
        "layer1.0 is frozen!",
        "'a' is no run…",
        "--bits must be 2 to 16:",
        "A b?",
    ):
        assert plain.sentence(name) == name
    assert plain.sentence("") == ""


def marked(app: AppTest) -> list[str]:
    """Every text of a page that Streamlit reads as Markdown: bodies, labels, tooltips, captions."""
    texts: list[str] = []

    def read(message: Any) -> None:
        for field, value in message.ListFields():
            if isinstance(value, str) and field.name in ("body", "label", "help", "text", "caption"):
                texts.append(value)
            elif field.message_type is not None and field.message_type.full_name.startswith("google"):
                continue
            elif field.message_type is not None and not field.message_type.GetOptions().map_entry:
                for each in [value] if hasattr(value, "ListFields") else value:
                    read(each)

    def walk(block: Any) -> None:
        proto = getattr(block, "proto", None)
        if hasattr(proto, "ListFields"):
            read(proto)
        for child in getattr(block, "children", {}).values():
            walk(child)

    walk(app._tree)
    return texts


def read_as_markup(app: AppTest) -> list[str]:
    """The texts of a page in which a hostile value is more than its characters; code spans show them."""
    return [text for text in marked(app) if ACTIVE.search(re.sub(r"(`+) ?.*?\1", "", text))]


@pytest.mark.parametrize("name", nav.PAGES)
def test_no_page_reads_markup_out_of_its_address(open_page: Open, name: str) -> None:
    everything = " ".join(HOSTILE)
    query = dict.fromkeys((*SHARED, *PARAMETERS[name]), everything)
    assert read_as_markup(open_page(name, **query)) == []
    assert read_as_markup(open_page(name, **query | {"model": "resnet8", "data": "mnist5k"})) == []


@pytest.mark.parametrize("value", HOSTILE)
def test_the_error_line_reports_the_value(open_page: Open, value: str) -> None:
    app = open_page("model", model=value)
    assert read_as_markup(app) == []
    (line,) = app.error
    assert plain.text(value.removeprefix("torchvision:"))[2:] in line.value


@pytest.mark.parametrize("name", ["start", "runs", "compare", "explain", "export", "learn"])
def test_no_page_reads_markup_out_of_a_run(open_page: Open, tmp_path: Path, name: str) -> None:
    """A run whose model, data and layers are called so, as one made by others may be."""
    everything = " ".join(HOSTILE)
    root = tmp_path / "runs"
    budget = Budget(model=everything, data=everything, layers={everything: {"sparsity": 0.5}})
    runs = [finished(root, budget=budget), finished(root, budget=budget)]
    begun(root, budget, DENSE)
    lost = RunFolder.open(root, finished(root, budget=budget))
    with EventWriter(lost.events_path, 2) as events:
        events.state("failed", error=everything)
    for query in ({"run": runs[0], "other": runs[1]}, {"run": lost.id}):
        assert read_as_markup(open_page(name, **query)) == []


@pytest.mark.parametrize("value", [*NUMBERS, ["1", "2"], ["9" * 400, "nan", "x"]], ids=str)
def test_no_number_of_an_address_breaks_a_page(open_page: Open, value: str | list[str]) -> None:
    for method in ("GETA", "OPQ"):
        keys = PARAMETERS["budget"][2:-1]
        app = open_page("budget", method=method, **dict.fromkeys(keys, value))
        assert app.number_input(key="seed").value == {"-5": -5, "١": 1}.get(str(value), 0)
    for name, key in (("compare", "loss"), ("learn", "lesson"), ("explain", "tiles")):
        open_page(name, **{key: value})


@pytest.mark.parametrize(
    "value",
    [
        "resnet8",
        "torchvision:resnet18 takes RGB images (3 channels), not 1",
        "layer1.0.conv_2.weight",
        "3x32x32",
        "50 %",
    ],
)
def test_ordinary_names_stay_as_they_are(value: str) -> None:
    assert plain.text(value) == value


def test_code_holds_backticks_and_lines_are_one_line_of_visible_characters() -> None:
    assert plain.code("a`b``c") == "```a`b``c```"
    assert plain.code("`a`") == "`` `a` ``"
    assert plain.line("a\n\n# b\x00\u202ec") == "a # bc"
    assert len(plain.text("x" * 10**6)) == plain.LONGEST + 1


def test_figures_draw_no_links_and_keep_their_own_tags() -> None:
    own = go.Figure(go.Scatter(x=[1], y=[2], text=["<b>a</b><br>x < y"], customdata=["<a>"]))
    assert plain.figure(own) is own
    layer = '<a href="http://elsewhere.example">conv</a>'
    drawn = plain.figure(go.Figure(go.Bar(x=[1], y=[layer], hovertext=[f"<b>{layer}</b>"], customdata=[layer])))
    assert drawn.data[0].y[0] == layer.replace("<", "&lt;")
    assert drawn.data[0].hovertext[0].startswith("<b>&lt;a href")
    assert drawn.data[0].customdata[0] == layer


@pytest.mark.browser
def test_a_hostile_address_reaches_nobody_else_and_is_read_as_plain_text(page: Page, tmp_path: Path) -> None:
    elsewhere: list[str] = []

    def record(request: Request) -> None:
        if not request.url.startswith((address, address.replace("http", "ws"), "data:", "blob:", "about:")):
            elsewhere.append(request.url)

    with served(tmp_path / "runs", tmp_path / "log.txt") as app:
        address = app.address
        page.on("request", record)
        for name in nav.PAGES:
            keys = (*SHARED, *PARAMETERS[name])
            for value in HOSTILE if name == "model" else HOSTILE[:1]:
                path = "" if name == "start" else name
                page.goto(f"{address}/{path}?{urlencode(dict.fromkeys(keys, value))}")
                page.get_by_role("heading", name=nav.PAGES[name].question).wait_for()
                page.wait_for_function(
                    "document.querySelector('[data-testid=stApp]').dataset.testScriptState === 'notRunning'"
                )
                assert page.get_by_test_id("stException").count() == 0
                box = page.get_by_test_id("stAlert")
                assert box.locator("a, img, .katex, code, strong, em, del, h1, span[style*=color]").count() == 0, value
                if name == "model":
                    message = page.get_by_test_id("stAlertContentError").first.inner_text().replace(plain._JOINER, "")
                    assert " ".join(value.split()).removeprefix("torchvision:") in message
        page.goto("about:blank")  # a page that is open still asks for its server when that has ended
    assert elsewhere == []


def test_a_data_folder_without_weights_is_named_as_it_is_called(tmp_path: Path) -> None:
    from app.budget import start_run
    from app.model import catalog

    subject = catalog.ChosenModel("/x/![a](b).py:<img>", "/y/[l](z)", (3, 8, 8), 2)
    reason = start_run.obstacle(subject, None)
    assert r"!\[a](b).py: \<img> on \[l](z)" in reason
