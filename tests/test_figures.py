"""Figures from hand-made data: what the info objects say, and that the figures hold it in a stable order."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from app import names
from app.groups import grouping, layout, placement, quantized
from compression.budget import Budget
from compression.methods import all_methods
from compression.plots import (
    base,
    candidates,
    choice,
    dot,
    front,
    front_data,
    graph,
    model,
    placing,
    plan,
    run,
    run_view,
    theme,
    way,
    words,
)
from compression.plots.axes import AXES
from compression.tasks import ACCURACY


def point(step: int, accuracy: float, size: float, phase: str = "joint", split: str = "validation") -> dict[str, Any]:
    bits = {"conv": {"weight": 16 - step / 10, "activation": None}, "fc": {"weight": 8, "activation": 4}}
    kind = "packed" if split == "test" else "estimated"
    return {
        "step": step,
        "phase": phase,
        "split": split,
        "score": accuracy,
        "loss": 1 - accuracy,
        "bytes": size,
        "bytes_kind": kind,
        "unit_sparsity": 0.25,
        "weight_sparsity": 0.5,
        "bits": bits,
    }


DENSE = point(0, 0.98, 80_000, "baseline", "test")
RUNS = [
    front_data.FrontRun(
        "a", "A", "geta", (point(10, 0.9, 20_000), point(20, 0.3, 5_000), point(30, 0.95, 5_000)), DENSE
    ),
    front_data.FrontRun("b", "B", "opq", (), DENSE, point(9, 0.97, 6_000, "final", "test")),
    front_data.FrontRun("c", "C", "opq", (), DENSE, point(9, 0.96, 7_000, "final", "test")),
]


def test_results_say_who_is_beaten_and_the_way_where_the_open_run_stands() -> None:
    info = front_data.front_info(RUNS, ["a"])
    assert {end.run: end.dominated for end in info.finals} == {"b": False, "c": True}
    assert len(info.dense) == 1
    assert {row["split"] for row in info.rows} == {"test"}, "no estimate on validation data among results"
    going = way.way_info(RUNS[:1])
    assert [point.bytes for point in going.points] == [20_000, 5_000, 5_000]
    assert [(each.bytes, each.score) for each in going.front("geta")] == [(5_000, 0.95)]
    assert going.hidden == 1
    assert "16.0× smaller" in going.points[-1].sentence
    assert {row["split"] for row in going.rows} == {"validation"}


def test_the_way_keeps_its_traces_while_the_run_grows() -> None:
    infos = [way.way_info([dataclasses.replace(RUNS[0], points=RUNS[0].points[:n])]) for n in (0, 1, 3)]
    figures = [way.way_figure(info) for info in infos]
    assert len({tuple(trace.name for trace in figure.data) for figure in figures}) == 1
    assert figures[2].layout.xaxis.type == "log"
    lowest = min(figures[2].data[0].y)
    assert lowest > 30, "what lies below the picture is drawn at its bottom edge"
    assert "30.0 %" in figures[2].data[0].hovertext[1], "and its sentence keeps the true value"
    assert not figures[2].layout.shapes
    (line,) = way.way_figure(way.way_info(RUNS[:1], target=0.93)).layout.shapes
    assert line.y0 == line.y1 == 93


def test_the_ways_of_several_runs_are_one_trace_a_method_with_a_gap_between_runs() -> None:
    other = dataclasses.replace(RUNS[0], run="d", method="opq", points=RUNS[0].points[:1])
    info = way.way_info([RUNS[0], other, dataclasses.replace(RUNS[0], run="e")])
    assert [len(trail) for trail in info.trails] == [3, 1, 3]
    first, best, last, second, *_ = way.way_figure(info).data
    sizes = [point["bytes"] for point in RUNS[0].points]
    assert (list(first.x), list(second.x)) == ([*sizes, None, *sizes], sizes[:1])
    assert first.y[3] is None and first.hovertext[3] == ""
    assert list(last.x) == [sizes[-1]] * 2, "where either run is"
    assert (first.showlegend, best.name) == (False, theme.style("geta").label)


def test_results_do_not_change_while_a_run_is_on_its_way() -> None:
    short = [dataclasses.replace(RUNS[0], points=RUNS[0].points[:1]), *RUNS[1:]]
    figures = [front.front_figure(front_data.front_info(runs, ["a"])).to_json() for runs in (short, RUNS)]
    assert figures[0] == figures[1]


def test_a_method_has_its_full_colour_in_the_legend_even_where_all_its_runs_are_faint() -> None:
    runs = [
        dataclasses.replace(RUNS[2], run=name, final={**RUNS[2].final, "bytes": size})
        for name, size in (("d", 7e3), ("e", 8e3))
    ]
    runs = [RUNS[1], *(dataclasses.replace(run, method="ptq") for run in runs)]
    look = theme.style("ptq")
    for figure in (front.front_figure(front_data.front_info(runs)), choice.choice_figure(_chosen(runs))):
        shown, drawn = (trace for trace in figure.data if trace.name == look.label)
        assert (shown.marker.color, shown.showlegend is not False, shown.x) == (look.color, True, (None,))
        assert drawn.showlegend is False
        assert shown.legendgroup == drawn.legendgroup
        assert look.color not in drawn.marker.color


def _chosen(runs: Sequence[front_data.FrontRun]) -> candidates.CandidatesInfo:
    listed = [candidates.Candidate(run.run, run.label, run.method, run.baseline, run.final or {}) for run in runs]
    return candidates.candidates_info(listed, AXES["bytes"])


def test_the_axis_of_results_alone_has_no_empty_half() -> None:
    """Of finished runs between 94 and 98 % the lower half of the chart was empty."""
    runs = [
        dataclasses.replace(RUNS[1], run=str(score), final={**RUNS[1].final, "score": score}) for score in (0.94, 0.97)
    ]
    low, high = front.front_figure(front_data.front_info(runs)).layout.yaxis.range
    assert (94 - low) / (high - low) < 0.3


@pytest.mark.parametrize("height", [200, 380, 900])
def test_no_legend_lies_under_the_buttons_of_a_figure(height: int) -> None:
    """Plotly's buttons take about 24 pixels at the top right; a legend begins below them, wherever it ends."""
    for legend in ({}, base.TWO_COLUMNS):
        figure = base.figure(height).update_layout(legend=legend)
        where = figure.layout.legend
        assert (where.yref, where.yanchor) == ("container", "top")
        assert (1 - where.y) * height == pytest.approx(base.BAR)


def test_a_tooltip_has_lines_that_a_phone_shows() -> None:
    """Sentences are broken between words, names that have no blanks stay whole, and nothing of a text is lost."""
    texts = ["<b>layer1.0.conv1</b><br>" + "2 of 16 units removed, at 4 bits a weight, " * 5, "x" * 60 + " bits"]
    for text, shown in zip(texts, base.tooltips(texts), strict=True):
        lines = shown.split("<br>")
        assert all(len(line) <= base.TOOLTIP_LETTERS or " " not in line for line in lines)
        assert " ".join(lines).split() == text.replace("<br>", " ").split()
    assert list(base.scatter([1, 2], [1, 2], hovertext=texts).hovertext) == base.tooltips(texts)
    drawn = (*front.front_figure(front_data.front_info(RUNS, ["a"])).data, *way.way_figure(way.way_info(RUNS[:1])).data)
    sentences = [text for trace in drawn for text in trace.hovertext or ()]
    assert sentences
    assert max(len(line) for text in sentences for line in text.split("<br>")) <= base.TOOLTIP_LETTERS


def test_front_without_anything_to_draw() -> None:
    run = front_data.FrontRun("a", "A", "geta", ({**point(1, 0.5, 10), "score": None},))
    info, going = front_data.front_info([run], ["a"]), way.way_info([run])
    assert not going.points
    assert going.rows == info.rows == []
    assert front.front_figure(info).data
    assert way.way_figure(going).data


def test_a_method_looks_the_same_everywhere() -> None:
    looks = [theme.style(name) for name in (*all_methods(), theme.DENSE)]
    assert len({(look.color, look.symbol) for look in looks}) == len(looks)
    assert all(method.info.label == theme.style(name).label for name, method in all_methods().items())
    assert (theme.style("new-one").label, theme.style("new-one").color) == ("new-one", theme.MUTED)
    assert theme.style("") == theme.style(next(iter(all_methods())))
    figure = front.front_figure(front_data.front_info(RUNS))
    finished = next(trace for trace in figure.data if trace.name.startswith("OPQ") and trace.hovertext)
    color = theme.style("opq").color
    assert finished.marker.color == (theme.rgba(color, 1), theme.rgba(color, 0.45)), "the beaten one is faint"


# What eyes without one kind of cone make of linear RGB (Machado, Oliveira and Fernandes 2009, severity 1).
EYES = {
    "all cones": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def linear(color: str) -> np.ndarray:
    """Linear RGB of ``#rrggbb``."""
    share = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIE L*a*b* (D65) of linear RGB."""
    to_xyz = np.array([[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]])
    x = to_xyz @ np.clip(rgb, 0, 1) / np.array([0.9505, 1.0, 1.0888])
    f = np.where(x > 216 / 24389, np.cbrt(x), (24389 / 27 * x + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("eyes", EYES)
def test_the_colors_of_methods_stay_apart_for_all_eyes(eyes: str) -> None:
    colors = [*theme.COLORS, theme.MUTED]
    for one, other in itertools.combinations(colors, 2):
        assert np.linalg.norm(lab(EYES[eyes] @ linear(one)) - lab(EYES[eyes] @ linear(other))) > 12, (one, other)


def test_markers_are_seen_on_white_and_on_near_black() -> None:
    for color in (*theme.COLORS, *theme.SERIES, theme.MUTED):
        luminance = float(linear(color) @ [0.2126, 0.7152, 0.0722])
        assert 1.05 / (luminance + 0.05) >= 2.8, color
        assert (luminance + 0.05) / 0.056 >= 2.8, color


def test_the_first_methods_keep_their_looks() -> None:
    looks = {name: (theme.style(name).color, theme.style(name).symbol) for name in all_methods()}
    first = {
        "geta": ("#2b7bba", "circle"),
        "opq": ("#e07b00", "square"),
        "sequential": ("#0f9d78", "diamond"),
        "magnitude": ("#a8328f", "triangle-up"),
        "ptq": ("#8c6d1f", "cross"),
    }
    assert {name: looks[name] for name in first} == first


def test_twenty_methods_can_be_told_apart() -> None:
    looks = {(theme.COLORS[slot % len(theme.COLORS)], theme.SYMBOLS[slot % len(theme.SYMBOLS)]) for slot in range(20)}
    assert len(looks) == 20
    assert not {*theme.SERIES} & {*theme.COLORS}, "no method's colour for what is not that method"


def test_a_budget_in_words_for_every_method() -> None:
    """Of either version of the file: what each method's asks say of it, and nothing of another method's."""
    version1 = {
        "sparsity": 0.5,
        "bits": 3.5,
        "weight_bits": [4, 6],
        "activation_bits": [4, 8],
        "model": "m",
        "data": "d",
    }
    for name, method in all_methods().items():
        budget = Budget.from_dict({**version1, "method": name})
        parts = [ask.words(ask.value(budget.asks)) for ask in method.asks]
        assert names.request({**version1, "method": name}) == ", ".join(filter(None, parts))
        assert names.request(budget.to_dict()) == names.request({**version1, "method": name})
        counted = method.removes_units and method.ask("--sparsity") is not None
        assert ("units" in names.request(budget.to_dict())) == counted
    assert "'new-one'" in names.request({**version1, "method": "new-one"})
    changed = Budget(method="ptq", asks={"bits": 4}, options={"group": 64, "clip": "mse", "statistics": False})
    usual = names.request(changed.replace(options={}).to_dict())
    assert names.request(changed.to_dict()) == f"{usual}, group 64, statistics False", "defaults are left out"


def test_stages_look_as_their_method_says() -> None:
    for name, method in all_methods().items():
        assert [theme.stage(stage.name, name).label for stage in method.info.stages] == [
            s.label for s in method.info.stages
        ]
    assert theme.stage("WARM_UP", "geta") == theme.stage("warm-up", "geta")
    assert theme.stage("fine_tune", "new-one") == theme.StageStyle("Fine tune", theme.MUTED)
    assert theme.stage("joint", "geta").tint != theme.stage("joint", "opq").tint, "a stage of another method"


def test_stages_and_time_left() -> None:
    events = [
        {"kind": "state", "state": "running", "step": 0, "t": 0.0},
        {"kind": "plan", "total_steps": 100, "step": 0, "t": 0.0},
        {"kind": "phase", "phase": "warm-up", "step": 1, "t": 0.0},
        {"kind": "step", "step": 1, "t": 0.0, "loss": 1.0, "score": 0.5},
        {"kind": "phase", "phase": "joint", "step": 20, "t": 19.0},
        {"kind": "point", "t": 20.0, **point(21, 0.9, 9_000)},
        {"kind": "step", "step": 51, "t": 50.0, "loss": 0.5, "score": 0.9},
    ]
    view = run_view.run_view("r", "running", {"method": "geta"}, events)
    assert view.stages == (base.RunStage("warm-up", 1, 20, "geta"), base.RunStage("joint", 20, 100, "geta"))
    assert view.progress == pytest.approx(0.51)
    assert view.remaining(now=50.0) == pytest.approx(49.0)
    assert view.remaining(now=60.0) == pytest.approx(39.0)
    assert run_view.run_view("r", "queued", {}, []).stages == ()


def test_curves_show_finite_values_and_every_stage() -> None:
    stages = (base.RunStage("warm-up", 0, 20), base.RunStage("joint", 20, 40))
    points = [point(10, 0.9, 1), {**point(20, 0.8, 1), "loss": None}]
    steps = [{"step": 1, "loss": 2.0, "score": 0.1}]
    info = run.loss_info(points, steps, stages)
    assert [(curve.name, curve.x) for curve in info.curves] == [("training batch", (1,)), ("validation", (10,))]
    figure = run.curves_figure(info)
    assert [shape.fillcolor for shape in figure.layout.shapes] == [theme.stage(stage.name).tint for stage in stages]
    assert tuple(figure.layout.xaxis.range) == (0, 40)
    assert run.score_info(points, steps, stages, ACCURACY).curves[1].y == (90, 80)


def test_bits_over_time_one_row_a_layer() -> None:
    info = run.bits_info([point(0, 1, 1), point(40, 1, 1)])
    assert info.layers == ("conv", "fc")
    assert info.bits == ((16, 12), (8, 8))
    assert run.bits_info([point(0, 1, 1)], "activation").layers == ("fc",)
    heat = run.bits_figure(info).data[0]
    assert (heat.zmin, heat.zmax) == (2, 16)


GRAPH: dict[str, Any] = {
    "nodes": [
        {"id": "input", "op": "input", "kind": "input", "module": "", "shape": [1, 3, 8, 8], "layer": None},
        {"id": "a", "op": "aten.convolution", "kind": "conv", "module": "a", "shape": [1, 4, 8, 8], "layer": "a"},
        {
            "id": "n",
            "op": "aten.native_batch_norm",
            "kind": "norm",
            "module": "n",
            "shape": [1, 4, 8, 8],
            "layer": None,
        },
        {"id": "b", "op": "aten.convolution", "kind": "conv", "module": "b", "shape": [1, 4, 8, 8], "layer": "b"},
        {"id": "+", "op": "aten.add", "kind": "add", "module": "", "shape": [1, 4, 8, 8], "layer": None},
        {"id": "output", "op": "output", "kind": "output", "module": "", "shape": [1, 4, 8, 8], "layer": None},
    ],
    "edges": [["input", "a"], ["a", "n"], ["n", "b"], ["b", "+"], ["n", "+"], ["+", "output"]],
    "groups": [{"id": "a", "units": 4, "prunable": False, "reason": "adjacent to the output"}],
}
GROUPS = dict.fromkeys(("a", "n", "b", "+"), ("a",))


def _node(name: str, kind: str, branch: str | None = None, layer: str | None = None) -> dict[str, Any]:
    shape = [1, 4, 8, 8]
    return {"id": name, "op": f"aten.{kind}", "kind": kind, "module": "", "shape": shape, "layer": layer,
            "branch": branch, "quantizers": ["a.step"] if layer else []}  # fmt: skip


def test_quantizers_have_a_look_of_their_own_and_stand_at_their_layer() -> None:
    steps = [f"b.weight/{i}" for i in range(3)]
    nodes = [_node("input", "input"), _node("a", "conv", layer="a"), _node("r", "relu"), _node("s", "sigmoid")]
    nodes += [_node("q", "quantizer", "q"), *(_node(name, "round", "b.weight") for name in steps)]
    nodes += [_node("b", "conv", layer="b"), _node("output", "output")]
    edges = [["input", "a"], ["a", "r"], ["r", "s"], ["s", "q"], ["q", "b"], *pairwise(steps), [steps[-1], "b"]]
    branches = [{"nodes": ["q"], "target": ["b"]}, {"nodes": steps, "target": ["b"]}]
    plain = {"nodes": nodes, "edges": [*edges, ["b", "output"]], "groups": [], "branches": branches}

    info = placing.graph_info(plain, {}, placement.place(plain))
    front_data = {mark.id: mark for mark in info.nodes}
    assert {i for i, mark in front_data.items() if mark.role == "quantizer"} == {"q", *steps}
    assert "r" not in front_data and "s" not in front_data, "norms and activations stay left out"
    assert [front_data[name].y for name in steps] == [front_data["b"].y - 3 + i for i in range(3)], "close to the layer"
    assert front_data[steps[0]].label == "0"
    assert "its quantizer's 1 number: step" in front_data["b"].sentence
    drawn = graph.graph_figure(info)
    (markers,) = [t for t in drawn.data if t.name and t.name.startswith("quantizer")]
    assert len(markers.x) == 4 and markers.marker.symbol == "hexagon"

    part = quantized.around(plain, "b")
    assert [node["id"] for node in part["nodes"]] == ["s", "q", *steps, "b"]
    assert len(part["edges"]) == 5
    assert quantized.layer_of(plain, ["b.weight"]) == "b"
    assert quantized.layer_of({**plain, "branches": []}, ["b.weight"]) == ""


def test_graph_leaves_out_norms_but_keeps_joins_and_paths() -> None:
    info = placing.graph_info(GRAPH, GROUPS, placement.place(GRAPH), selected="a")
    assert [node.id for node in info.nodes] == ["input", "a", "b", "+", "output"]
    assert all(node.lit for node in info.nodes[1:4])
    assert info.nodes[1].role == "frozen"
    assert GRAPH["groups"][0]["reason"] in info.nodes[1].sentence
    assert [line.lit for line in info.lines].count(True) == 3
    assert len(placing.graph_info(GRAPH, GROUPS, placement.place(GRAPH, grouping.EVERY_OP)).nodes) == 6
    figure = graph.graph_figure(info)
    assert ("a", "a") in {
        tuple(row) for trace in figure.data if trace.customdata is not None for row in trace.customdata
    }


def test_dot_quotes_names() -> None:
    odd = {**GRAPH, "nodes": [{**GRAPH["nodes"][0], "id": 'in"put'}], "edges": []}
    assert '"in\\"put"' in dot.dot(odd, {})


@pytest.mark.parametrize("place", [layout.layered, layout._generations])
def test_every_edge_goes_down(place: Any) -> None:
    nodes = ["in", "a", "b", "c", "out"]
    edges = [("in", "a"), ("a", "b"), ("b", "c"), ("in", "c"), ("c", "out")]
    placed = place(nodes, edges)
    assert set(placed.places) == set(nodes)
    for start, end in edges:
        assert placed.places[start][1] < placed.places[end][1]
        path = placed.paths[start, end]
        assert (path[0], path[-1]) == (placed.places[start], placed.places[end])
    assert len(set(placed.places.values())) == len(nodes)


def test_collapse_reconnects_around_dropped_nodes() -> None:
    nodes, edges = layout.collapse(["a", "x", "b", "c"], [("a", "x"), ("x", "b"), ("x", "c")], {"a", "b", "c"})
    assert nodes == ["a", "b", "c"]
    assert edges == [("a", "b"), ("a", "c")]


def test_treemap_sums_up_the_module_tree() -> None:
    info = model.tree_info([{"name": "l.0", "params": 3, "macs": 5}, {"name": "l.1", "params": 4, "macs": 0}], "net")
    assert {tile.id: (tile.params, tile.macs) for tile in info.tiles} == {
        "": (7, 5),
        "l": (7, 5),
        "l.0": (3, 5),
        "l.1": (4, 0),
    }
    treemap = model.tree_figure(info, "macs").data[0]
    assert list(treemap.values) == [5, 5, 5, 0]
    assert list(treemap.parents) == ["", "/", "l", "l"]


def test_plan_sums_up_the_smallest_layers() -> None:
    layers = [plan.LayerPlan(f"l{i}", 100.0 + i, 10.0, 20.0, "") for i in range(40)]
    info = plan.plan_info(layers, "geta")
    assert len(info.layers) == plan.MOST_ROWS
    assert sum(p.dense for p in info.layers) == sum(p.dense for p in layers)
    assert plan.plan_figure(info).data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (words.count(19_810), "19.8 k"),
        (words.size(79_240), "79.2 kB"),
        (words.size(12), "12 B"),
        (words.share(0.9812), "98.1 %"),
        (words.duration(75), "1 min 15 s"),
        (words.bits((4, 4)), "4 bits"),
        (words.bits((4, 8)), "4–8 bits"),
        (words.plural(1, "unit"), "1 unit"),
        (words.plural(2048, "unit"), "2,048 units"),
    ],
)
def test_numbers_in_words(text: str, expected: str) -> None:
    assert text == expected


def test_byte_ticks_are_round() -> None:
    ticks, texts = base.byte_ticks([4_000, 90_000])
    assert 5_000 in ticks
    assert texts[ticks.index(5_000)] == "5 kB"
    assert base.byte_ticks([]) == ([], [])


def chain(*modules: str) -> dict[str, Any]:
    """A ``graph`` JSON of one operation after the other: a linear layer in each of these modules."""
    names = ["input", *(f"{module}#{i}" for i, module in enumerate(modules)), "output"]
    kinds = {"input": "input", "output": "output"}
    nodes = [
        {
            "id": name,
            "op": "aten.addmm",
            "kind": kinds.get(name, "linear"),
            "module": "" if name in kinds else name.partition("#")[0],
            "shape": [1, 4],
            "layer": None if name in kinds else name,
        }
        for name in names
    ]
    return {"nodes": nodes, "edges": [list(edge) for edge in pairwise(names)], "groups": []}


def boxes_of(network: dict[str, Any], depth: int | None, *opened: str) -> list[str]:
    return [box.id for box in placement.place(network, grouping.Level(depth), opened).boxes]


def test_modules_merge_by_their_path_and_open_in_parts() -> None:
    network = chain("a.0.x", "a.0.y", "a.1.x", "a.1.y", "b")
    assert boxes_of(network, None) == [node["id"] for node in network["nodes"]]
    assert boxes_of(network, 1) == ["input", "module:a", "b#4", "output"]
    assert boxes_of(network, 2) == ["input", "module:a.0", "module:a.1", "b#4", "output"]
    assert boxes_of(network, 1, "a") == boxes_of(network, 2)
    assert boxes_of(network, 1, "a", "a.1") == ["input", "module:a.0", "a.1.x#2", "a.1.y#3", "b#4", "output"]
    edges = tuple(placement.place(network, grouping.Level(1)).paths)
    assert edges == (("input", "module:a"), ("module:a", "b#4"), ("b#4", "output"))


def test_a_module_that_runs_twice_is_drawn_per_visit() -> None:
    """One box for both visits would stand above and below what runs in between."""
    network = chain("a.x", "a.y", "b.x", "b.y", "a.x", "a.y")
    assert boxes_of(network, 1) == ["input", "module:a", "module:b", "module:a#2", "output"]
    placed = placement.place(network, grouping.Level(1))
    assert [placed.places[box.id][1] for box in placed.boxes] == [0, 1, 2, 3, 4]


def test_the_finest_detail_that_stays_readable_comes_first() -> None:
    network = chain(*(f"stage{i // 50}.{i}.x" for i in range(100)))
    counts = grouping.levels(network["nodes"], [(a, b) for a, b in network["edges"]])
    assert {level.key: count for level, count in counts.items()} == {"blocks1": 4, "layers": 102, "every": 102}
    assert grouping.default_level(counts) == grouping.LAYERS
    counts[grouping.LAYERS] = grouping.MOST_BOXES + 1
    assert grouping.default_level(counts).key == "blocks1"


def test_a_module_sums_its_units_and_parameters() -> None:
    network = chain("a.x", "a.y", "b")
    network["groups"] = [
        {"id": "a.x", "units": 4, "prunable": True, "reason": None},
        {"id": "a.y", "units": 3, "prunable": True, "reason": None},
        {"id": "b", "units": 2, "prunable": False, "reason": "adjacent to the output"},
    ]
    carried = {"a.x#0": ("a.x",), "a.y#1": ("a.y",), "b#2": ("b",)}
    amounts = {"a.x": 1000, "a.y": 500, "ab": 7, "b": 20}
    info = placing.graph_info(
        network, carried, placement.place(network, grouping.Level(1)), parameters=amounts, selected="a.y"
    )
    module = info.nodes[1]
    assert (module.role, module.label, module.groups, module.lit) == ("module", "a  7 · 1.50 k", ("a.x", "a.y"), True)
    assert "1,500 parameters" in module.sentence
    assert [node.role for node in info.nodes] == ["plain", "module", "frozen", "plain"]


def test_search_rings_what_it_meets_and_shows_the_part_around_it() -> None:
    network = chain(*(f"m.{i}" for i in range(40)))
    whole = placing.graph_info(network, {}, placement.place(network), search="m.2", focus="")
    assert (len([n for n in whole.nodes if n.matched]), whole.window) == (11, None)
    near = placing.graph_info(network, {}, placement.place(network), search="M.17#", focus="search")
    assert [n.id for n in near.nodes if n.matched] == ["m.17#17"]
    assert near.window == placing.Window(0, 0, 17, 19)
    low, high = graph.graph_figure(near).layout.yaxis.range
    assert high < 17 < 19 < low
    assert graph.graph_figure(near).layout.height < graph.graph_figure(whole).layout.height
    assert placing.graph_info(network, {}, placement.place(network), search="nothing", focus="search").window is None
    spots = [placing.graph_info(network, {}, placement.place(network), search="m.1", focus="search", hit=hit).window
             for hit in range(12)]  # fmt: skip
    matched = [
        mark.y for mark in placing.graph_info(network, {}, placement.place(network), search="m.1").nodes if mark.matched
    ]
    tops = [max(0, y - 1) for y in matched]
    assert [spot and spot.top for spot in spots] == [tops[hit % len(tops)] for hit in range(12)], (
        "one match after another"
    )
    every = placing.graph_info(network, {}, placement.place(network), search="aten.addmm")
    assert [n.matched for n in every.nodes] == [True] * 42


def test_where_everything_reads_everything_long_edges_are_arcs() -> None:
    names = [str(i) for i in range(30)]
    edges = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    placed = layout.layered(names, edges)
    assert set(placed.paths) == set(edges)
    assert len({x for x, _ in placed.places.values()}) == 1
    assert placed.columns < 10
    for (start, end), path in placed.paths.items():
        assert path[0] == pytest.approx(placed.places[start])
        assert path[-1] == pytest.approx(placed.places[end])
        assert min(x for x, _ in path) >= 0


@pytest.mark.parametrize("values", [[85_272], [60_000, 70_000], [4_282, 85_272], [100.0], [1e4, 1e4]])
def test_a_logarithmic_axis_shows_two_ticks_at_least(values: list[float]) -> None:
    low, high = base.log_range(values, 0.08) or (0, 0)
    shown = [tick for tick in base.byte_ticks(values)[0] if 10**low <= tick <= 10**high]
    assert len(shown) >= 2
    assert 10**low < min(values)
    assert max(values) < 10**high
    assert base.log_range([], 0.08) is None


def test_the_front_of_a_run_that_failed_at_once_has_ticks() -> None:
    dense = point(0, 0.978, 85_272, "baseline", "test")
    figure = front.front_figure(front_data.front_info([front_data.FrontRun("a", "A", "geta", (), dense)], ["a"]))
    low, high = figure.layout.xaxis.range
    assert sum(low <= math.log10(tick) <= high for tick in figure.layout.xaxis.tickvals) >= 2


@pytest.mark.parametrize(("state", "end"), [("running", 100), ("done", 100), ("cancelled", 51), ("failed", 51)])
def test_a_run_that_stopped_is_shaded_up_to_there(state: str, end: float) -> None:
    events = [
        {"kind": "plan", "total_steps": 100, "step": 0, "t": 0.0},
        {"kind": "phase", "phase": "joint", "step": 20, "t": 19.0},
        {"kind": "step", "step": 51, "t": 50.0, "loss": 0.5, "score": 0.9},
    ]
    view = run_view.run_view("r", state, {"method": "geta"}, events)
    assert view.stages == (base.RunStage("joint", 20, end, "geta"),)


def test_curves_of_a_method_that_goes_through_layers_count_layers() -> None:
    points = [point(0, 0.9, 1), point(5, 0.8, 1)]
    unit = run.counted("layers")
    info = run.score_info(points, [], (), ACCURACY, unit)
    assert run.curves_figure(info).layout.xaxis.title.text == "layers done"
    assert list(info.rows[0]) == ["layers done", "what", "accuracy %"]
    assert run.bits_figure(run.bits_info(points, unit=unit)).layout.xaxis.title.text == "layers done"
    assert run.curves_figure(run.score_info(points, [], (), ACCURACY)).layout.xaxis.title.text == "step"
    one = front_data.FrontRun("a", "A", "ptq", tuple(points), unit="layers")
    assert "after 5 layers" in way.way_info([one]).points[1].sentence


def test_loss_is_on_a_logarithmic_axis_that_holds_every_value() -> None:
    points = [{**point(10, 0.9, 1), "loss": 8.0}, {**point(20, 0.9, 1), "loss": 0.05}]
    figure = run.curves_figure(run.loss_info(points, [], ()))
    assert figure.layout.yaxis.type == "log"
    low, high = figure.layout.yaxis.range
    assert low < math.log10(0.05) < math.log10(8.0) < high
    assert run.curves_figure(run.score_info(points, [], (), ACCURACY)).layout.yaxis.type is None


def test_the_graph_and_the_treemap_as_tables() -> None:
    info = placing.graph_info(GRAPH, GROUPS, placement.place(GRAPH))
    rows = {row["box"]: row for row in info.rows}
    assert set(rows) == {mark.id for mark in info.nodes}
    edges = {tuple(edge) for edge in GRAPH["edges"] if set(edge) <= set(rows)}
    led = {(box, end) for box, row in rows.items() for end in row["leads to"].split(", ") if end}
    assert edges <= led
    assert len(led) == len(info.lines)
    assert rows["a"]["groups"] == ", ".join(GROUPS["a"])
    tree = model.tree_info([{"name": "l.0", "params": 3, "macs": 5}, {"name": "l.1", "params": 4, "macs": 0}], "net")
    assert [tuple(row.values()) for row in tree.rows] == [("net", 7, 5), ("l", 7, 5), ("l.0", 3, 5), ("l.1", 4, 0)]


def test_stages_to_come_are_known_while_a_run_goes_and_no_longer() -> None:
    events = [
        {
            "kind": "plan",
            "total_steps": 100,
            "stages": {"warm-up": 1, "joint": 20, "cool-down": 60},
            "step": 0,
            "t": 0.0,
        },
        {"kind": "phase", "phase": "warm-up", "step": 1, "t": 1.0},
        {"kind": "step", "step": 7, "t": 2.0, "loss": 0.5, "score": 0.9},
    ]
    going = run_view.run_view("r", "running", {"method": "geta"}, events)
    assert [(stage.name, stage.start, stage.end) for stage in (*going.stages, *going.ahead)] == [
        ("warm-up", 1, 20), ("joint", 20, 60), ("cool-down", 60, 100),
    ]  # fmt: skip
    assert run_view.run_view("r", "cancelled", {"method": "geta"}, events).ahead == ()


def test_lines_of_a_chart_hold_finished_runs_only() -> None:
    info = front_data.front_info(RUNS, ["a"])
    line = next(trace for trace in front.front_figure(info).data if trace.name == "front of all runs")
    assert list(line.x) == [6_000]
