"""Every number of every lesson's text, worked out once more: by numpy from the weights, or from a run's files."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from scipy.optimize import brentq
from scipy.stats import entropy
from test_learn import chosen
from test_learn_numbers import read

from compression.graph.slim import slim, zero_units
from compression.zoo.weights import SHIPPED
from lessons import digits, recorded
from lessons.contents import CONTENTS, FOLDER, PLACE, page
from lessons.lesson import View
from lessons.maths import demo_network

Weights = dict[str, NDArray[np.float64]]
DIGITS = 0.006  # relative: numbers are shown with three digits
RUNS = recorded.GALLERY / recorded.COLLECTION


@pytest.fixture(scope="module")
def weights() -> Weights:
    """The convolution and linear weights of the shipped file, read without the library."""
    tensors = load_file(SHIPPED / "resnet8-mnist5k.safetensors")
    return {name.removesuffix(".weight"): w.double().numpy() for name, w in tensors.items() if w.ndim in (2, 4)}


def shown(number: int, **values: Any) -> View:
    lesson = CONTENTS[number - 1].load()
    return lesson.show(chosen(lesson, **values))


def agrees(number: int, facts: Mapping[str, str], expected: Mapping[str, Any], but: Collection[str] = ()) -> None:
    """Every place of the lesson's text is expected, but those that are words; numbers as exact as they are shown."""
    assert set(PLACE.findall(page(f"{CONTENTS[number - 1].name}/text"))) <= {*expected, *but}
    for name, value in expected.items():
        if isinstance(value, str):
            assert facts[name] == value, name
        else:
            number_read = read(facts[name].replace(r"\,", "").replace(",", ""))
            assert number_read == pytest.approx(value, rel=DIGITS, abs=0.006 if abs(value) > 1 else 1e-9), (
                name,
                facts[name],
            )


def test_lesson_1() -> None:
    chosen_parts = ("residual", "flatten")
    facts = shown(1, parts=list(chosen_parts), remove="residual", channel=2).facts
    net, graph = demo_network.build(chosen_parts)
    before = sum(p.numel() for p in net.parameters())
    zero_units(net, graph, {facts["group"]: [2]})
    after = sum(p.numel() for p in slim(net, graph).parameters())
    plain = {"layer": "residual", "channel": "2", "units": "6", "columns": "4"}
    agrees(1, facts, {**plain, "before": before, "after": after, "removed": before - after}, {"group"})


def test_lesson_2(weights: Weights) -> None:
    def error(w: NDArray[np.float64], bits: int, percent: float) -> tuple[float, ...]:
        most, clip = 2 ** (bits - 1) - 1, percent / 100 * np.abs(w).max()
        step = clip / most
        off = (w - np.clip(np.rint(w / step), -most, most) * step) ** 2
        inside = np.abs(w) <= clip
        return clip, step, off[inside].sum(), off[~inside].sum(), off.sum()

    w, exercise = weights["layer2.0.conv2"].ravel(), weights["layer1.0.conv1"].ravel()
    clip, step, rounding, clipping, total = error(w, 3, 58)
    every = {percent: error(exercise, 3, percent)[-1] for percent in range(10, 101, 2)}
    best = min(every, key=lambda percent: every[percent])
    facts = shown(2, layer="layer2.0.conv2", bits=3, clip=58).facts
    numbers = {"clip": clip, "step": step, "rounding": rounding, "clipping": clipping, "total": total}
    sqnr, gain = 10 * math.log10((w**2).sum() / total), 10 * math.log10(every[100] / every[best])
    assert float(facts["sqnr"]) == pytest.approx(sqnr, abs=0.051)
    assert float(facts["gain"]) == pytest.approx(gain, abs=0.051)
    plain = {"bits": "3", "values": "7", "levels": "3", "exercise_layer": "layer1.0.conv1", "exercise_bits": "3"}
    agrees(2, facts, {**numbers, **plain, "signal": (w**2).sum(), "best": f"{best}"}, {"sqnr", "gain"})


def test_lesson_3() -> None:
    x, d, t = 0.9, 0.25, 1.2
    v = x**t
    r = round(v / d) - v / d
    slopes = {"x": t * x ** (t - 1), "step": r, "clip": 0.0, "exponent": v * math.log(x)}
    numbers = {f"{kind}_{name}": value for name, value in slopes.items() for kind in ("g", "fd")}
    exercise = {"answer": 2 - 0.33 / 0.2, "exercise_x": 0.33, "exercise_d": 0.2, "exercise_qm": 1.0}
    agrees(3, shown(3, x=x, d=d, qm=1.0, t=t).facts, {**numbers, **exercise, "v": v, "r": r, "true_x": 0.0})


def test_lesson_4(weights: Weights) -> None:
    facts = shown(4, d=0.02, qm=0.6, t=1.1, most=5).facts
    top = 0.6**1.1
    d, clip, exponent = (read(facts[f"all_{name}"]) for name in ("d", "qm", "t"))
    assert math.log2(clip**exponent / d + 1) + 1 == pytest.approx(5, abs=0.02)
    way = math.dist((0.02, 0.6, 1.1), (top / 15, 0.6, 1.1))
    assert read(facts["way_all"]) <= way * 1.001
    w = np.abs(weights["layer2.0.conv2"])
    numbers = {"bits": math.log2(top / 0.02 + 1) + 1, "top": top, "alone": top / 15, "way_alone": way, "d": 0.02}
    shares = {"clipped_alone": 100 * (w > 0.6).mean(), "clipped_all": 100 * (w > clip).mean()}
    assert {name: float(facts[name]) for name in shares} == pytest.approx(shares, abs=0.006)
    plain = {"qm": 0.6, "t": 1.1, "most": "5", "levels": "15", "layer": "layer2.0.conv2"}
    exercise = {"exercise_qm": "1", "exercise_bits": "4", "exercise_levels": "7", "answer": 1 / 7}
    searched = {"all_d", "all_qm", "all_t", "way_all", *shares}
    agrees(4, facts, {**numbers, **plain, **exercise}, searched)


def test_lesson_5() -> None:
    lines = (RUNS / "tuned-seed1" / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    plan = next(event for event in events if event["kind"] == "plan")
    at = [event for event in events if event.get("joint") and event["step"] <= 900][-1]
    group, each = list(at["joint"].items())[-1]
    facts = shown(5, step=900, leaving=group).facts
    costs = sum(layer[0] * layer[3] for layer in each["layers"].values())
    moved = -each["alpha"] * each["hh"] - each["rate"] * (each["ch"] + costs)
    allowed = -0.999 * (1 - 0.9) * each["alpha"] * each["hh"]
    names = {"gamma": "rate", "alpha": "alpha", "hh": "hh", "ch": "ch", "uniform": "uniform"}
    numbers = {name: each[key] for name, key in names.items()}
    plain = {"group": group, "at": str(at["step"]), "removed": str(plan["removes"]), "units": str(plan["units"])}
    small = (recorded.GALLERY / "resnet8-fashion_mnist" / "geta-w4-s30-published" / "events.jsonl").read_text()
    decided = [event for event in map(json.loads, small.splitlines()) if event.get("joint")]
    decision = next(event for event in decided if str(event["step"]) == facts["exercise_step"])
    numbers_of = decision["joint"][facts["exercise_group"]]
    ahh, even = numbers_of["alpha"] * numbers_of["hh"], numbers_of["uniform"]
    exercise = {"exercise_ahh": ahh, "exercise_ch": numbers_of["ch"], "exercise_even": even, "exercise_eta": "0.5"}
    exercise |= {"answer": f"{100 * 0.5 * ahh / -numbers_of['ch'] / even:.0f}"}
    assert float(facts["answer_published"]) == pytest.approx(100 * numbers_of["rate"] / even, rel=0.05)
    periods = {"periods": "10", **exercise}
    assert read(facts["descent"]) == pytest.approx(moved, rel=0.02)
    d = float(next(iter(each["layers"].values()))[0])
    assert read(facts["bound"].rpartition(r"\mathbf{")[2][:-1]) == pytest.approx(allowed, rel=DIGITS)
    numbers |= {"d": d, "costs": costs}
    words = {"rule", "slowed", "room", "unit", "exercise_step", "exercise_group", "answer_published"}
    agrees(5, facts, {**numbers, **plain, **periods}, {"descent", "bound", *words})


def test_lesson_6(weights: Weights) -> None:
    sizes = np.array([w.size for w in weights.values()])
    scales = np.array([np.abs(w).mean() for w in weights.values()])
    level = brentq(lambda s: (sizes * (1 - np.exp(-s / scales))).sum() - 0.4 * sizes.sum(), 0, 10)
    w = np.abs(weights["layer2.0.conv1"])
    exact = np.sort(np.concatenate([np.abs(each).ravel() for each in weights.values()]))[round(0.4 * sizes.sum()) - 1]
    numbers = {"scale": w.mean(), "level": level, "share": 100 * (1 - math.exp(-level / w.mean()))}
    exercise = {"narrow": "0.1", "wide": "0.2", "answer": 100 * (1 - math.sqrt(0.5))}
    plain = {"percent": "40", "layer": "layer2.0.conv1", "real": 100 * (w <= exact).mean()}
    agrees(6, shown(6, gone=40, layer="layer2.0.conv1").facts, {**numbers, **exercise, **plain})


def test_lesson_7(weights: Weights) -> None:
    rows = weights["layer3.0.conv1"].reshape(32, -1)
    reach, bits = np.abs(rows).max(axis=1), 3
    step = 2 ** (1 - bits) * math.exp(np.log(reach).mean())
    spent = np.log2(2 * reach / step)
    assert spent.mean() == pytest.approx(bits)
    facts = shown(7, layer="layer3.0.conv1", average=3).facts
    own = (2 * reach / 2**bits)[:, None]
    errors = [((rows - np.rint(rows / each) * each) ** 2).mean() for each in (step, own)]
    numbers = {"step": step, "predicted": step**2 / 12, "measured": errors[0], "separate": errors[1]}
    rounded = {"fewest": spent.min(), "most": spent.max(), "saved": spent.max() - bits, "overhead": 16 / rows.shape[1]}
    assert {name: float(facts[name]) for name in rounded} == pytest.approx(rounded, abs=0.051)
    plain = {"layer": "layer3.0.conv1", "bits": "3", "channels": "32", "scale_bits": "16"}
    exercise = {"exercise_narrow": "1", "exercise_wide": "4", "exercise_bits": "4", "answer": "5", "answer_narrow": "3"}
    agrees(7, facts, {**numbers, **plain, **exercise}, set(rounded))


def test_lesson_8(weights: Weights) -> None:
    result = shown(8, average=4.0, taken=3)
    facts, total = result.facts, sum(w.size for w in weights.values())
    survivors = total - round(0.6 * total)
    assert survivors * 2 < read(facts["spent"]) <= read(facts["budget"])
    assert read(facts["bound"]) <= read(facts["best"]) <= read(facts["end"]) <= read(facts["error"])
    gap = 100 * (read(facts["end"]) / read(facts["bound"]) - 1)
    assert float(facts["gap"]) == pytest.approx(gap, abs=0.1)
    exercise = {"a_saves": "5", "a_costs": "1,000", "a_rate": "5", "b_saves": "12", "b_costs": "4,000", "b_rate": "3"}
    numbers = {"average": "4", "sparsity": "60", "budget": 4 * survivors}
    agrees(8, facts, {**numbers, **exercise}, {"spent", "error", "lambda", "bound", "best", "end", "gap"})


def test_lesson_9(weights: Weights) -> None:
    w, zeros, bits = weights["layer3.0.conv2"].ravel(), 50, 3
    facts = shown(9, zeros=zeros, bits=bits).facts
    order = np.argsort(np.abs(w), kind="stable")
    survivors = w[order[round(zeros / 100 * w.size) :]]

    def codes(step: float) -> NDArray[np.float64]:
        return np.sign(survivors) * np.clip(np.rint(np.abs(survivors) / step), 1, 2 ** (bits - 1) - 1)

    grid = np.geomspace(np.abs(w).max() / 40, np.abs(w).max(), 4000)
    step = min(grid, key=lambda each: ((survivors - codes(each) * each) ** 2).sum())
    whole = np.concatenate([codes(step), np.zeros(w.size - survivors.size)])
    bound = entropy(np.unique(whole, return_counts=True)[1], base=2)
    assert float(facts["entropy"]) == pytest.approx(bound, rel=0.01)
    assert bound * 0.99 <= float(facts["coded"]) <= bound * 1.05
    latency = json.loads((FOLDER / "counting" / "latency.json").read_text())["variants"]
    dense, last = latency[0], latency[-1]
    plain = {"layer": "layer3.0.conv2", "zeros": "50", "bits": "3", "weights": "9,216", "variant": last["name"]}
    numbers = {"values": 1.5, "fixed": 3.0, "bitmap": 2.5, "claimed": "21", "exercise_bits": "4", "answer": "25"}
    ratios = {"bops": 100 * last["bops"] / dense["bops"], "ms": 100 * last["median"] / dense["median"]}
    ratios["real"] = 32 / float(facts["coded"])
    assert {name: float(facts[name]) for name in ratios} == pytest.approx(ratios, abs=0.51)
    agrees(9, facts, {**plain, **numbers}, {"entropy", "coded", *ratios})


def test_lesson_10() -> None:
    facts = shown(10, kept="w4-s39", label="dog").facts
    before, after, classes = _confusion("w4-s39")
    dog, images = classes.index("dog"), int(before.sum())
    right = before.diagonal(), after.diagonal()
    numbers = {"before": right[0][dog], "after": right[1][dog], "total": before[dog].sum(), "images": images}
    lost = int(right[0].sum() - right[1].sum())
    accuracies = [f"{100 * each.sum() / images:.2f} %" for each in right]
    plain = {"label": "dog", "dense": accuracies[0], "compressed": accuracies[1], "sum": lost}
    plain |= {"lost": right[0][dog] - right[1][dog], "points": 100 * lost / images}
    worst_before, worst_after, _ = _confusion("short-paper")
    falls = worst_before.diagonal() - worst_after.diagonal()
    exercise = {
        "answer": classes[int(falls.argmax())],
        "exercise_lost": str(falls.max()),
        "exercise_points": falls.sum() / 100,
    }
    agrees(10, facts, {**numbers, **plain, **exercise}, {"exercise_run"})


def _confusion(run: str) -> tuple[NDArray[np.int64], NDArray[np.int64], list[str]]:
    result = json.loads((RUNS / run / "result.json").read_text())
    tables = (np.array(result["confusion"][moment]) for moment in ("baseline", "final"))
    return (*tables, list(result["classes"]))


def test_the_weights_read_here_are_those_of_the_lessons(weights: Weights) -> None:
    assert {name: tuple(w.shape) for name, w in weights.items()} == {
        name: tuple(w.shape) for name, w in digits.layers().items()
    }
    assert torch.equal(digits.layers()["conv1"].double(), torch.from_numpy(weights["conv1"]))
