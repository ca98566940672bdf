"""Objects as notebooks show them: what the HTML holds is what the objects hold, and names are only ever names."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_type_hints

import pytest
import written
from torch import nn

import compression as cx
from compression import methods, zoo
from compression.export.bundle import Bundle
from compression.forecast import Forecast, Subject
from compression.graph.types import Graph, Group
from compression.plots import words
from compression.quant.allocation import Allocation
from compression.runs.folder import RunFolder
from compression.runs.listing import RunsTable
from compression.runs.store import Store
from compression.runs.sweep import specs
from compression.widgets import rich
from compression.widgets.view import MOST_ROWS, Bar, Curve, Table, View

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = (
    "<script>alert(1)</script>", "\"' onload='x", "</td></table><img src=x onerror=y>", "a\ud800b", "exe.\u202etxt",
    "&lt;b&gt;", "x\ny\x1b[31m", "\u2066i\u2069",
)  # fmt: skip
VOID = {"img", "br", "hr", "input", "meta", "link"}


class Reader(HTMLParser):
    """The cells of all tables, the texts outside them, every tag and attribute; tags that do not match are an error."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()
        self.texts: list[str] = []
        self.widths: list[float] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        assert tag not in VOID
        self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.widths += [float(width) for width in re.findall(r";width:([\d.]+)%", dict(attrs).get("style") or "")]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if "td" in self._open or "th" in self._open:
            self.rows[-1][-1] += data

    @property
    def body(self) -> list[list[str]]:
        return self.rows[1:]


def read(shown: Any) -> Reader:
    """The HTML of an object, which every front end may show: no script, style sheet, address or identifier in it."""
    html = shown._repr_html_()
    html.encode("utf-8")
    reader = Reader(html)
    assert set(reader.tags) <= {"div", "b", "span", "table", "thead", "tbody", "tr", "th", "td", "svg", "polyline"}
    allowed = {"style", "scope", "colspan", "aria-hidden", "role", "aria-label", "points", "fill", "stroke"}
    assert reader.attributes <= allowed | {"stroke-width", "width", "height", "viewbox"}
    assert not re.search(r"url\(|position:|background:(white|black)|[^-]color:", html)
    return reader


@pytest.fixture(scope="module")
def network() -> nn.Module:
    return zoo.build("resnet8").eval()


@pytest.fixture(scope="module")
def graph(network: nn.Module) -> Graph:
    return cx.trace(network, *zoo.example("resnet8"))


@pytest.fixture(scope="module")
def allocation(network: nn.Module) -> Allocation:
    return cx.opq.allocate(network, sparsity=0.5, bits=4)


def forecast(network: nn.Module, graph: Graph, method: str, **asks: Any) -> Forecast:
    chosen, budget = methods.of_budget(cx.Budget(method=method, **asks))
    return chosen.forecast(Subject(network, graph), budget)


def test_a_graph_is_a_row_for_each_group_and_a_group_its_ties_and_slices(graph: Graph) -> None:
    reader = read(graph)
    assert [row[0] for row in reader.body] == [group.id for group in graph.groups]
    assert [int(row[2]) for row in reader.body] == [group.units for group in graph.groups]
    assert [row[3] == "prunable" for row in reader.body] == [group.prunable for group in graph.groups]
    assert {row[1] for row in reader.body} == {"conv", "linear"}
    group = graph.prunable[0]
    slices = read(group).rows[len(group.ties) + 2 :]
    assert [(name, role, int(numel)) for name, role, _, numel in slices] == [
        (member.name, member.role, member.numel) for member in group.members if not member.buffer
    ]
    assert [row[0] for row in read(group).rows[1 : len(group.ties) + 1]] == [tie.op for tie in group.ties]


def test_a_budget_is_every_ask_option_and_bound() -> None:
    budget = cx.Budget(
        method="geta", sparsity=0.4, weight_bits=(4, 8), epochs=7, options={"forgetting": 1.5},
        groups={"conv1": {"sparsity": [0.0, 0.2]}}, layers={"linear": {"weight_bits": [8, 8]}},
    )  # fmt: skip
    shown = dict(read(budget).body)
    assert (shown["sparsity"], shown["weight_bits"], shown["epochs"]) == ("0.4", "4 to 8", "7")
    assert json.loads(shown["group conv1"]) == {"sparsity": [0.0, 0.2]}
    assert json.loads(shown["layer linear"]) == {"weight_bits": [8, 8]}
    assert shown["option forgetting"] == "1.5"
    assert eval(repr(budget), {"Budget": cx.Budget}) == budget


def test_an_allocation_has_its_figures_and_bars_as_long_as_they_say(allocation: Allocation) -> None:
    reader = read(allocation)
    assert [(row[0], int(row[1].replace(",", "")), int(row[3])) for row in reader.body] == [
        (layer.name, layer.numel, layer.bits) for layer in allocation.layers
    ]
    shares = [100 * layer.pruned / layer.numel for layer in allocation.layers]
    assert [float(row[2].removesuffix(" %")) for row in reader.body] == pytest.approx(shares, abs=0.05)
    assert reader.widths[::2] == pytest.approx(shares, abs=0.5)
    assert reader.widths[1::2] == pytest.approx([100 * layer.bits / 16 for layer in allocation.layers], abs=0.5)


def test_a_forecast_says_its_bytes_and_of_what_is_unknown_why(network: nn.Module, graph: Graph) -> None:
    known = forecast(network, graph, "geta", sparsity=0.5, weight_bits=(4, 8))
    assert known.bytes is not None
    text = " ".join(read(known).texts)
    assert words.between(*known.bytes, words.size) in text and f"{known.units}" in text
    assert [row[0] for row in read(known).body] == [layer.name for layer in known.layers]
    assert "unmeasured" in read(Forecast.unknown("unmeasured")).texts


def test_a_run_has_its_figures_before_and_after_and_a_running_one_what_there_is(tmp_path: Path) -> None:
    done = RunFolder.open(tmp_path, written.finished(tmp_path, accuracy=0.912, size=5_000))
    rows = {name: values for name, *values in read(done).body}
    assert rows["size of the file"] == [words.size(written.DENSE.bytes), words.size(5_000)]
    assert rows["test accuracy"] == [f"{100 * written.DENSE.score:.2f} %", "91.20 %"]
    going = written.begun(tmp_path, cx.Budget(), written.DENSE, written.ON_THE_WAY)
    assert read(going).rows == [] and going.id in "".join(read(going).texts)
    assert repr(done) == f"RunFolder({str(done.path)!r})"
    done.spec_path.write_text("{")
    assert "spec.json" in "".join(read(done).texts)


def test_a_sweep_marks_the_runs_that_no_other_beats(tmp_path: Path) -> None:
    store, budgets = Store(tmp_path), [cx.Budget(method="opq", sparsity=share, bits=4) for share in (0.2, 0.5, 0.8)]
    spec, children = specs(budgets[0], budgets, store)
    ends = {child["id"]: end for child, end in zip(children, [(0.97, 9e3), (0.95, 9.5e3), (0.90, 4e3)], strict=True)}
    folders = {name: RunFolder.create(tmp_path, child) for name, child in zip(ends, children, strict=True)}
    sweep = RunFolder.create(tmp_path, spec)
    for name, (score, size) in ends.items():
        with cx.runs.EventWriter(folders[name].events_path) as events:
            events.state("running", pid=1, host="elsewhere")
            events.point(written.DENSE)
            events.point(written.point(score, size, "final"))
    rows = read(sweep).body
    on_front = {row[-1] for row in rows if row[5]}
    brute = {
        one for one, (score, size) in ends.items()
        if not any(s >= score and b <= size and (s, b) != (score, size) for s, b in ends.values())
    }  # fmt: skip
    assert on_front == brute and len(rows) == 3 and len(brute) == 2
    assert [row[2] for row in rows] == [words.size(size) for _, size in ends.values()]


def test_the_table_of_runs_is_the_module_called(tmp_path: Path) -> None:
    first = written.finished(tmp_path, accuracy=0.97)
    second = written.finished(tmp_path, accuracy=0.95, size=4_000)
    table = cx.runs(tmp_path)
    assert isinstance(table, RunsTable) and len(table) == 2
    assert {each.info.id for each in table} == {first, second} and table[first].id == first
    assert sorted(row[-1] for row in read(table).body) == sorted((first, second))
    frame = table.frame.set_index("run")
    assert (frame.loc[first, "score"], frame.loc[second, "bytes"]) == (0.97, 4_000)
    assert len(cx.runs(tmp_path / "none")) == 0 and not (tmp_path / "none").exists()
    cx.runs.labels.write(table[first], cx.runs.labels.labels("", ["paper"]))
    assert [each.info.id for each in cx.runs(tmp_path, tag="paper")] == [first]


def test_type_checkers_see_the_names_of_the_module_that_is_called() -> None:
    from compression.runs.typed import runs as seen

    own = {name: value for name, value in vars(seen).items() if not name.startswith("__")}
    assert own.keys() == set(cx.runs.__all__)
    assert [name for name in own if getattr(seen, name) is not getattr(cx.runs, name)] == []
    assert get_type_hints(seen.__init__).keys() == {"root", "tag", "sweep", "return"}


def test_a_bundle_is_its_files_and_what_its_run_ended_with(tmp_path: Path) -> None:
    files = {"weights.packed": {"bytes": 4_000, "sha256": "ab" * 32}, "load.py": {"bytes": 120, "sha256": "cd" * 32}}
    outcome = {"baseline": written.DENSE.to_dict(), "final": written.point(0.9, 4_000, "final").to_dict()}
    bundle = Bundle(tmp_path / "b.zip", "run-1", 4_200, files, {}, outcome)
    rows = read(bundle).rows
    assert [row[:2] for row in rows[-2:]] == [["weights.packed", "4,000"], ["load.py", "120"]]
    assert ["test accuracy", "98.00 %", "90.00 %"] in rows
    assert "result" not in bundle.to_dict()


def test_what_one_call_compressed_is_its_layers() -> None:
    budget = cx.Budget(method="opq", sparsity=0.5, bits=4)
    weight = SimpleNamespace(name="fc", kind="uniform", bits=4, shape=(2, 3), zeros=3)
    small = rich.CompressedNetwork(nn.Linear(2, 2), nn.Linear(4, 4), {"fc": [0, 1]}, {}, budget, {"fc": weight})  # type: ignore[dict-item]
    reader = read(small)
    assert reader.body == [["fc", "2×3", "uniform", "4", "50.0 %"]]
    numbers = {int(number) for number in re.findall(r"\d+", " ".join(reader.texts))}
    assert numbers >= {20, 6}  # parameters of the two linear layers


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_shown_and_never_read(
    name: str, graph: Graph, allocation: Allocation, tmp_path: Path, network: nn.Module
) -> None:
    """As the id of a group and a node, of a layer, an option, a data set, an error, a file and a folder."""
    group = dataclasses.replace(graph.groups[0], id=name)
    layer = dataclasses.replace(allocation.layers[0], name=name)
    known = forecast(network, graph, "geta")
    whole = "".join(char for char in name if not "\ud800" <= char < "\ue000")  # a budget takes no half pairs
    shown: list[Any] = [
        group,
        dataclasses.replace(graph, groups=(group,), values_read=name),
        dataclasses.replace(allocation, layers=(layer,), notes=(name,)),
        dataclasses.replace(known, notes=(name,), layers=(dataclasses.replace(known.layers[0], name=name),)),
        cx.Budget(method="opq", data=whole, options={whole: whole}, layers={whole: {}}, weights=whole),
        Bundle(Path(name.replace("/", ":")), name, 1, {name: {"bytes": 1, "sha256": name}}),
        View(name, ((name, name),), (Table((name,), [(Bar(0.5, name),)]),), (name,), Curve([(0, 0), (1, 1)], name)),
    ]
    for each in shown:
        reader = read(SimpleNamespace(_repr_html_=each.html)) if isinstance(each, View) else read(each)
        text = each.text() if isinstance(each, View) else str(each)
        everything = "".join(reader.texts)
        if name.isprintable():
            assert name in everything and name in text
        for characters in (everything, text.replace("\n", "")):
            assert not re.search("[\x00-\x1f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", characters)


def test_a_thousand_groups_stay_small(graph: Graph) -> None:
    groups = tuple(dataclasses.replace(graph.groups[0], id=f"g{i}") for i in range(1000))
    many = dataclasses.replace(graph, groups=groups)
    html = many._repr_html_()
    assert len(html) < 100_000
    assert len(read(many).body) == MOST_ROWS + 1 and f"{1000 - MOST_ROWS:,}" in read(many).body[-1][0]
    assert len(str(many).splitlines()) < 20
    long = Curve([(float(i), math.sin(i / 99)) for i in range(100_000)], "long").html()
    assert len(long) < 5_000 and long.count(",") <= 210


def test_a_curve_goes_from_its_first_place_to_its_last_and_up_where_it_is_better() -> None:
    places = [(0.0, 1.0), (5.0, 3.0), (10.0, 2.0)]
    (points,) = re.findall(r'points="([^"]+)"', Curve(places, "three").html())
    drawn = [tuple(map(float, place.split(","))) for place in points.split()]
    assert [x for x, _ in drawn] == pytest.approx([4, 130, 256])
    assert [y for _, y in drawn] == pytest.approx([56, 4, 30])
    assert Curve(places[:1], "one").html() == ""


def shown_objects(graph: Graph, allocation: Allocation, folder: Path) -> list[Any]:
    return [graph, graph.groups[0], allocation, cx.Budget(), Forecast.unknown("why"), cx.runs(folder)]


def test_text_is_a_few_lines_without_addresses(graph: Graph, allocation: Allocation, tmp_path: Path) -> None:
    for each in shown_objects(graph, allocation, tmp_path):
        text = str(each)
        assert 1 <= len(text.splitlines()) < 40 and max(map(len, text.splitlines())) < 400
        assert not re.search(r"0x[0-9a-f]{6}|object at|<\w", text)


def test_ipython_shows_the_html_and_the_text(graph: Graph, allocation: Allocation, tmp_path: Path) -> None:
    formatters = pytest.importorskip("IPython.core.formatters", reason="install requirements-dev.txt")
    formatter = formatters.DisplayFormatter()
    for each in shown_objects(graph, allocation, tmp_path):
        data, _ = formatter.format(each)
        assert data["text/html"] == each._repr_html_() and data["text/plain"] == str(each)


def test_marimo_shows_the_html(graph: Graph, allocation: Allocation, tmp_path: Path) -> None:
    marimo = pytest.importorskip("marimo", reason="install marimo to see it there")
    for each in shown_objects(graph, allocation, tmp_path):
        assert marimo.as_html(each).text == each._repr_html_()


WITHOUT = """
import sys
for name in ("pandas", "plotly", "IPython", "marimo", "onnx", "onnxruntime", "captum", "torchvision", "streamlit"):
    sys.modules[name] = None
import compression as cx
from compression import zoo
print(cx.trace(zoo.build("resnet8"), *zoo.example("resnet8")))
table = cx.runs(sys.argv[1])
print(table)
try:
    table.frame
except cx.CompressionError as error:
    print("pandas" in str(error))
"""


def test_nothing_optional_is_needed(tmp_path: Path) -> None:
    run = written.finished(tmp_path)
    command = [sys.executable, "-c", WITHOUT, str(tmp_path)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert run in result.stdout and result.stdout.endswith("True\n")


def test_every_drawn_class_says_so() -> None:
    assert [each for each in rich.VIEWS if "_repr_mimebundle_" not in dir(each)] == []
    check: Callable[[type], bool] = lambda each: each.__repr__ is not object.__repr__  # noqa: E731
    assert all(map(check, (*rich.VIEWS, Group)))
