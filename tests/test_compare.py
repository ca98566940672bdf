"""Choosing among finished runs: who beats whom, what a sentence says, what changed; by hand-computed values."""

from __future__ import annotations

import dataclasses
import math
import random
import re
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from opened import numbers
from torch import nn

from app.budget import permalink, rerun
from app.compare import sidebyside
from compression import front
from compression.budget import Budget
from compression.errors import CompressionError
from compression.methods.opq import allocate, attach
from compression.pack import ledger as read_ledger
from compression.pack import pack
from compression.pack.contents import Stored, contents
from compression.plots import base, choice, confusion, layers, ledger, seeds
from compression.plots.axes import AXES, LATENCY, chance
from compression.plots.candidates import Candidate, CandidatesInfo, candidates_info, rows, verdict
from compression.quant.integers import fold
from compression.report.layers import stored_layers

BYTES, MACS = AXES["bytes"], AXES["macs"]


def point(accuracy: float, size: float, macs: float = 1e6, split: str = "test") -> dict[str, Any]:
    return {
        "score": accuracy,
        "loss": 0.1,
        "bytes": size,
        "nominal_bytes": size / 2,
        "macs": macs,
        "rel_bops": macs / 1e7,
        "unit_sparsity": 0.25,
        "weight_sparsity": 0.5,
        "split": split,
        "bits": {"a": {"weight": 4.0, "activation": None}, "b": {"weight": 6.0, "activation": 8.0}},
    }


DENSE = point(0.98, 80_000, 4e6)


def candidate(run: str, accuracy: float, size: float, method: str = "geta", **more: Any) -> Candidate:
    macs = more.pop("macs", 1e6)
    return Candidate(run, run.upper(), method, DENSE, point(accuracy, size, macs), **more)


SMALL, GOOD, BEATEN = candidate("s", 0.90, 4_000), candidate("g", 0.97, 8_000, "opq"), candidate("b", 0.95, 10_000)


def info_of(*candidates: Candidate, axis: str = "bytes") -> CandidatesInfo:
    return candidates_info(candidates, AXES[axis])


def test_the_front_of_five_places() -> None:
    places = [(1, 0.5), (2, 0.9), (2, 0.9), (3, 0.8), (4, 0.95)]
    assert front.dominated(places) == [False, False, False, True, False]
    assert front.front(places) == [0, 1, 4]
    assert front.beaten_by(places, 3) == [1, 2]
    assert front.front([]) == []


def test_every_place_is_on_the_front_or_under_it() -> None:
    draw = random.Random(0)
    places = [(draw.randint(1, 40), draw.randint(1, 40) / 40) for _ in range(200)]
    best = [places[i] for i in front.front(places)]
    assert best == sorted(best)
    assert [accuracy for _, accuracy in best] == sorted({accuracy for _, accuracy in best})
    for place, beaten in zip(places, front.dominated(places), strict=True):
        reached = max((accuracy for cost, accuracy in best if cost <= place[0]), default=-1.0)
        assert reached >= place[1], "nothing lies above the front"
        assert beaten == (place not in best)


def test_marks_know_who_beats_them_on_each_axis() -> None:
    info = info_of(SMALL, GOOD, BEATEN)
    assert {mark.run: mark.beaten for mark in info.finished} == {"s": (), "g": (), "b": ("g",)}
    assert [mark.run for mark in info.front] == ["s", "g"]
    assert [(star.cost, star.score) for star in info.dense] == [(80_000, 0.98)]
    by_macs = info_of(SMALL, GOOD, BEATEN, axis="macs")
    assert {mark.run: mark.beaten for mark in by_macs.finished} == {"s": ("g", "b"), "g": (), "b": ("g",)}


def test_the_sentence_on_a_run() -> None:
    info = info_of(SMALL, GOOD, BEATEN)
    good, beaten = verdict(info, GOOD), verdict(info, BEATEN)
    assert good.startswith(f"10.0× {BYTES.less} ") and good.endswith(f"; {BYTES.unbeaten}.")
    assert numbers(good) == [10.0, 1.0]
    assert beaten.startswith(f"8.0× {BYTES.less} ") and beaten.endswith("(OPQ, G: 8.00 kB, 97.0 %).")
    assert numbers(beaten) == [8.0, 3.0, 8.0, 97.0]
    assert BYTES.unbeaten not in beaten
    by_macs = info_of(SMALL, GOOD, BEATEN, axis="macs")
    small = verdict(by_macs, SMALL)
    assert small.startswith(f"4.0× {MACS.less} ") and small.endswith(" OPQ, G: 1.00 M, 97.0 %).")
    assert numbers(small) == [4.0, 8.0, 2, 1.0, 97.0], "it is beaten by 2 runs"
    alone = verdict(info_of(SMALL), SMALL)
    assert numbers(alone) == [20.0, 8.0]
    assert BYTES.unbeaten not in alone, "nothing can be said of other runs"
    assert "other" in alone.partition(";")[2]


def test_sentences_of_equal_and_worse_figures() -> None:
    same = candidate("same", 0.98, 100_000, macs=4e6)
    as_many = verdict(info_of(same, axis="macs"), same)
    assert as_many.startswith(f"{MACS.same} ")
    assert numbers(as_many) == []
    larger = verdict(info_of(same), same)
    assert larger.startswith(f"1.2× {BYTES.more} ")
    assert numbers(larger) == [1.2]
    better = candidate("better", 0.985, 8_000)
    assert "0.5 points more " in verdict(info_of(better), better)
    assert "1.0 points less " in verdict(info_of(GOOD), GOOD)


def test_a_live_run_is_shown_but_beats_nobody() -> None:
    live = dataclasses.replace(candidate("l", 0.99, 1_000), live=True, point=point(0.99, 1_000, split="validation"))
    info = info_of(SMALL, GOOD, live)
    assert [mark.run for mark in info.live] == ["l"]
    assert [mark.run for mark in info.front] == ["s", "g"]
    assert not any(mark.beaten for mark in info.finished)
    assert "still going" in verdict(info, live)
    assert "validation" in verdict(info, live)
    assert info.cheapest(100) == info.mark("s"), "a live run is never what to take"
    assert [row["on the front"] for row in rows(info, [SMALL, GOOD, live])] == ["yes", "yes", "still going", ""]


def test_the_cheapest_run_within_a_loss() -> None:
    info = info_of(SMALL, GOOD, BEATEN)
    cheapest = {loss: mark.run if (mark := info.cheapest(loss)) else None for loss in (0.5, 1, 3, 8)}
    assert cheapest == {0.5: None, 1: "g", 3: "g", 8: "s"}
    assert info.best == info.mark("g")
    other_dense = dataclasses.replace(SMALL, baseline=point(0.905, 80_000))
    assert info_of(other_dense, GOOD).cheapest(1) == info_of(other_dense, GOOD).mark("s"), "against its own"


def test_points_that_cannot_be_drawn_are_left_out() -> None:
    odd = [candidate("zero", 0.9, 0), candidate("nan", float("nan"), 5_000), candidate("inf", 0.9, float("inf"))]
    assert [mark.run for mark in info_of(SMALL, *odd).marks] == ["s"]
    empty = info_of()
    assert (empty.best, empty.front, empty.floor) == (None, (), 0.0)
    assert choice.choice_figure(empty).data


def test_collapsed_runs_are_drawn_at_the_bottom_edge() -> None:
    info = info_of(SMALL, GOOD, candidate("c", 0.11, 2_000))
    assert info.floor == pytest.approx(0.67)
    assert info.hidden == 1
    figure = choice.choice_figure(info, "g", "s")
    geta = next(trace for trace in figure.data if trace.name == "GETA" and trace.customdata)
    drawn = dict(zip((row[0] for row in geta.customdata), zip(geta.y, geta.marker.symbol, strict=True), strict=True))
    assert drawn["c"] == (pytest.approx(67), "triangle-down-open")
    assert drawn["s"] == (90, "circle")
    rings = {trace.name: trace.x for trace in figure.data if trace.name in (choice.PICKED, choice.OTHER)}
    assert rings == {choice.PICKED: (8_000,), choice.OTHER: (4_000,)}
    assert figure.layout.xaxis.type == "log"


def test_beaten_runs_are_faint_and_every_axis_has_round_ticks() -> None:
    for axis in AXES.values():
        timed = [replace(c, point={**c.point, LATENCY: 0.1 * (i + 1)}) for i, c in enumerate((SMALL, GOOD, BEATEN))]
        figure = choice.choice_figure(candidates_info(timed, axis))
        assert list(figure.layout.xaxis.tickvals), axis.field
        assert not any(text.startswith("0 ") for text in figure.layout.xaxis.ticktext)
    figure = choice.choice_figure(info_of(SMALL, GOOD, BEATEN))
    geta = next(trace for trace in figure.data if trace.name == "GETA" and trace.customdata)
    assert [color.endswith(", 1)") for color in geta.marker.color] == [True, False]


def test_ticks_of_small_shares_keep_their_digits() -> None:
    ticks, texts = base.log_ticks([0.0004, 0.003], AXES["rel_bops"].show)
    assert dict(zip(ticks, texts, strict=True))[0.0005] == "0.05 %"
    assert base.log_ticks([2e6], AXES["macs"].show)[1] == ["1 M", "2 M", "5 M", "10 M", "20 M", "50 M"]


def test_chance_of_an_accuracy() -> None:
    assert chance(0.9, 1000) == pytest.approx(0.0186, abs=1e-4)
    assert chance(0.9, 10_000) == pytest.approx(0.0059, abs=1e-4)


BEFORE = [[9, 1, 0], [0, 10, 0], [0, 2, 18]]
AFTER = [[6, 4, 0], [0, 10, 0], [1, 1, 18]]


def test_what_is_confused_more_often() -> None:
    info = confusion.confusion_info(BEFORE, AFTER, ["cat", "dog", "owl"])
    assert [re.findall("“(.+?)”", sentence) for sentence in info.sentences] == [["cat", "dog"], ["cat"]]
    assert [numbers(sentence) for sentence in info.sentences] == [[4, 10, 1], [6, 10, 9]]
    rows = [(row["class"], row["answered"], row["change"], row["this is"]) for row in info.rows]
    assert rows == [
        ("cat", "cat", -3, "worse"),
        ("cat", "dog", 3, "worse"),
        ("owl", "cat", 1, "worse"),
        ("owl", "dog", -1, "better"),
    ]
    assert info.images == 40
    heat = confusion.confusion_figure(info).data[0]
    assert [list(row) for row in heat.z] == [[3, 3, 0], [0, 0, 0], [1, -1, 0]]
    assert (heat.zmin, heat.zmax) == (-3, 3)


def test_nothing_confused_more_often() -> None:
    info = confusion.confusion_info(AFTER, AFTER, [])
    (sentence,) = info.sentences
    assert (re.findall("“(.+?)”", sentence), numbers(sentence)) == ([], []), "no class is named"
    assert info.rows == []
    assert info.classes == ("0", "1", "2")
    with pytest.raises(ValueError):
        confusion.confusion_info(BEFORE[:2], AFTER, [])


def test_of_many_classes_the_most_changed_are_drawn() -> None:
    before = [[5 if i == j else 0 for j in range(40)] for i in range(40)]
    after = [list(row) for row in before]
    after[37][37], after[37][3] = 1, 4
    info = confusion.confusion_info(before, after, [f"c{i}" for i in range(40)])
    assert len(info.shown) <= confusion.MOST_CLASSES
    assert {3, 37} <= set(info.shown)
    assert info.folded
    assert len(confusion.confusion_figure(info).data[0].z) == len(info.shown)


def test_layers_before_and_after() -> None:
    conv = layers.LayerChange("conv", (8, 4, 3, 3), (6, 3, 3, 3), 100, 4, 8.0, 60)
    up = layers.LayerChange("up", (4, 8, 2, 2), (4, 6, 2, 2), 96, None, None, 384, axis=1)
    info = layers.LayersInfo((conv, up), "geta")
    assert conv.dense_bytes == 8 * 4 * 9 * 4
    assert " up: 384 B, 86 % " in info.sentence
    assert "conv" not in info.sentence
    drawn = {name: layers.layers_figure(info, measure).data for name, measure in layers.MEASURES.items()}
    assert [trace.x for trace in drawn["bytes"][:2]] == [(1152, 512), (60, 384)]
    assert [trace.x for trace in drawn["channels"][:2]] == [(8, 8), (6, 6)]
    assert [trace.x for trace in drawn["weights"][:2]] == [(288, 128), (100, 96)]
    assert [trace.x for trace in drawn["bits"][:2]] == [(32, 32), (4, 32)]
    assert drawn["bits"][-1].x == (8.0,)
    assert info.rows[0]["dense shape"] == "8×4×3×3"


def test_a_layer_that_is_two_now_is_compared_as_one() -> None:
    first = layers.LayerChange("c.first", None, (2, 4, 3, 3), 70, 4, 8.0, 40)
    last = layers.LayerChange("c.last", None, (8, 2, 1, 1), 16, None, None, 64)
    both = layers.LayerChange.of_factors("c", (8, 4, 3, 3), first, last)
    assert both.weight_bits == pytest.approx((72 * 4 + 16 * 32) / 88)
    info = layers.LayersInfo((both,), "geta")
    drawn = {name: layers.layers_figure(info, measure).data for name, measure in layers.MEASURES.items()}
    assert [trace.x for trace in drawn["bytes"][:2]] == [(8 * 4 * 9 * 4,), (104,)]
    assert [trace.x for trace in drawn["weights"][:2]] == [(288,), (86,)]
    assert [trace.x for trace in drawn["channels"][:2]] == [(8,), (8,)]
    assert info.rows[0]["shape"] == "2×4×3×3 · 8×2×1×1"


def test_factors_are_read_as_the_layer_that_they_stand_for() -> None:
    def stored(*shape: int) -> Stored:
        return Stored("", shape, None, 4 * math.prod(shape), math.prod(shape))

    packed = {"a.weight": stored(8, 4), "c.first.weight": stored(2, 4, 3, 3), "c.last.weight": stored(8, 2, 1, 1)}
    dense = {"a.weight": ("a", (8, 4), 0), "c.weight": ("c", (8, 4, 3, 3), 0)}
    plain, both = stored_layers(packed, dense, {"final": {"bits": {}}, "ranks": {"c": 2}})
    assert (plain.layer, plain.before, plain.first) == ("a", (8, 4), None)
    assert (both.layer, both.before, both.first, both.after) == ("c", (8, 4, 3, 3), (2, 4, 3, 3), (8, 2, 1, 1))
    assert (both.alive, both.bytes, both.weight_bits) == (72 + 16, 4 * (72 + 16), 32)


def test_without_the_dense_network_only_what_came_out_is_drawn() -> None:
    info = layers.LayersInfo((layers.LayerChange("conv", None, (6, 3, 3, 3), 100, 4, None, 60),), "geta")
    names = [trace.name for trace in layers.layers_figure(info, layers.MEASURES["bytes"]).data]
    assert "dense, fp32" not in names
    assert info.rows[0]["dense bytes"] is None


def test_of_many_layers_the_largest_are_drawn_and_all_are_listed() -> None:
    many = [layers.LayerChange(f"l{i}", (i + 1, 1), (i + 1, 1), 1, 4, None, 1) for i in range(40)]
    info = layers.LayersInfo(tuple(many), "opq")
    assert [change.layer for change in info.drawn] == [f"l{i}" for i in range(10, 40)]
    assert len(info.rows) == 40


def test_contents_of_a_packed_file_add_up_to_its_ledger(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5))
    plan = allocate(model, sparsity=0.6, bits=3)
    attach(model, plan)
    path = tmp_path / "weights.packed"
    pack(model, path)
    entries, counted, state = contents(path), read_ledger(path), fold(model).state_dict()
    assert list(entries) == list(state)
    coded = [stored for stored in entries.values() if stored.bits is not None]
    assert {stored.name: stored.bits for stored in coded} == {f"{p.name}.weight": p.bits for p in plan.layers}
    assert sum(stored.bytes for stored in coded) == counted.values + counted.positions
    assert sum(stored.bytes for stored in entries.values() if stored.bits is None) == counted.leftovers
    for name, tensor in state.items():
        assert entries[name].shape == tuple(tensor.shape)
        assert entries[name].alive == int((tensor != 0).sum())
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(CompressionError):
        contents(path)


def test_parts_of_a_ledger() -> None:
    counts = {"values": 60, "positions": 0, "scales": 10, "leftovers": 20, "container": 10, "total": 100}
    info = ledger.ledger_info({"strange": 5, **counts}, "geta")
    assert [name for name, _ in info.parts] == [*(name for name in ledger.PARTS if name in counts), "strange"]
    assert info.sentence.startswith("60 % of 100 B ") and info.sentence.endswith(f" values, {ledger.PARTS['values']}.")
    assert ledger.ledger_figure(info).data[0].text[0] == "60 B, 60 %"


def test_the_same_budget_for_another_method() -> None:
    own = {"cost": "none"}
    geta = Budget(sparsity=0.4, weight_bits=(4, 8), epochs=7, seed=3, lr=0.01, options=own).to_dict()

    def converted(budget: dict[str, Any], method: str) -> Budget:
        """What the address of the Budget page carries of a budget for another method."""
        return permalink.unpack(str(rerun.address(budget, method)["budget"]))

    opq = converted(geta, "opq")
    assert (opq.method, dict(opq.asks), opq.epochs, opq.seed) == ("opq", {"sparsity": 0.4, "bits": 6.0}, 7, 3)
    assert (opq.lr, opq.options) == (None, {}), "what tunes one method is not another's"
    back = converted(Budget(method="opq", bits=3.5).to_dict(), "geta")
    assert tuple(back.asks["weight_bits"]) == (3, 4)
    equal = converted(Budget(method="magnitude", bits=5.0).to_dict(), "sequential")
    assert equal.asks["weight_bits"] == 5


def test_two_runs_side_by_side() -> None:
    budgets = (Budget(epochs=2), Budget(method="opq", sparsity=0.7, epochs=4))
    table = {row[""]: row for row in sidebyside.rows(SMALL, GOOD, budgets, ("one", "two"))}
    assert (table["method"]["one"], table["method"]["two"]) == ("GETA", "OPQ")
    assert table["test accuracy"]["difference"] == "+7.00 points"
    assert table["packed size"] == {"": "packed size", "one": "4.00 kB", "two": "8.00 kB", "difference": "+4.00 kB"}
    assert table["MACs"]["difference"] == "same"
    assert (table["epochs of the budget"]["one"], table["epochs of the budget"]["two"]) == ("2", "4")
    assert "seed" not in table, "what is equal is not listed"
    assert table["bits of the weights"]["one"] == "4–6 bits"
    swapped = sidebyside.rows(GOOD, SMALL, budgets[::-1], ("one", "two"))
    assert {row[""]: row for row in swapped}["packed size"]["difference"] == "−4.00 kB"


def test_what_is_still_going_is_not_drawn_beside_what_ended() -> None:
    """It is measured on validation images, its size estimated."""
    so_far = point(0.99, 1_000, split="validation")
    live = dataclasses.replace(candidate("l", 0.99, 1_000), live=True, point=so_far)
    info = info_of(SMALL, GOOD, live)
    drawn = [run[0] for trace in choice.choice_figure(info, "l", "s").data for run in trace.customdata or () if run[0]]
    assert set(drawn) == {"s", "g"}
    assert "dense" not in verdict(info, live)
    assert info.mark("l").lost is None  # type: ignore[union-attr]
    differences = {row[""]: row["difference"] for row in sidebyside.rows(GOOD, live, (Budget(), Budget()), ("a", "b"))}
    assert differences["test or validation accuracy"] == ""
    assert differences["MACs"] == "same"


def test_seeds_are_one_marker_at_their_mean_with_their_spread() -> None:
    """Mean and standard deviation as the standard library computes them; the rest of the page still knows each seed."""
    sizes, scores = [4_000, 5_000, 6_500], [0.95, 0.97, 0.96]
    ends = list(zip(scores, sizes, strict=True))
    same = [candidate(f"s{i}", *end, recipe="half") for i, end in enumerate(ends)]
    other = candidate("o", 0.98, 9_000, recipe="third")
    going = replace(other, run="live", live=True)
    listed = [*same, other, going]
    assert seeds.repeated(listed) and not seeds.repeated([*same[:1], other, going])
    info = candidates_info(seeds.fold(listed, "bytes"), BYTES)
    assert [mark.members for mark in info.finished] == [("s0", "s1", "s2"), ()]
    folded = info.mark("s1")
    assert folded is info.finished[0]
    assert (folded.cost, folded.score) == (
        pytest.approx(statistics.fmean(sizes)),
        pytest.approx(statistics.fmean(scores)),
    )
    assert folded.spread == (pytest.approx(statistics.stdev(sizes)), pytest.approx(statistics.stdev(scores)))
    assert "3 seeds: 95.0 % to 97.0 %, 4.00 kB to 6.50 kB" in folded.sentence
    drawn = next(t for t in choice.choice_figure(info, "s1").data if t.name == "GETA" and t.customdata)
    assert list(drawn.error_y.array) == [pytest.approx(100 * statistics.stdev(scores)), 0]
    timed = replace(same[1], point={**same[1].point, LATENCY: 1.0})
    assert len(seeds.fold([same[0], timed, same[2]], LATENCY)) == 3, "the timed one stands by itself"
    numbered = [replace(each, seed=seed) for each, seed in zip(same, (0, 1, 1), strict=True)]
    assert [[each.run for each in one.members] for one in seeds.fold(numbered, "bytes")] == [["s0", "s1"], []]
    assert not seeds.repeated(numbered[1:]), "one seed twice is not two seeds"
