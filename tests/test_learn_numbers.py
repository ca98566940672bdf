"""The maths behind the lessons against independent ways to the same numbers, and the numbers that formulas show."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import entropy, spearmanr
from test_learn import chosen

from compression.budget import Budget
from compression.errors import CompressionError
from compression.explain import pair
from compression.graph.slim import slim, zero_units
from compression.methods.geta.joint import ETA, ZETA
from compression.methods.geta.options import SCHEDULE, WEIGHT_BITS
from compression.pack.streams import decode, encode
from compression.quant import laplace
from compression.quant.quantizer import Quantizer
from compression.quant.spending import Problem, choose, greedy, upgrades
from compression.runs.folder import RunFolder
from lessons import digits, recorded
from lessons.contents import CONTENTS
from lessons.counting.lesson import measured
from lessons.forgetting import lesson as forgetting
from lessons.forgetting import maps, recorded_maps
from lessons.maths import codebook, demo_network
from lessons.maths.errors import error_parts
from lessons.maths.estimates import bitmap_pays_from, sizes
from lessons.maths.projection import Scalars, project_all, project_step
from lessons.maths.surrogate import Point, finite_differences, gradients, slopes, staircase
from lessons.numbers import tex
from lessons.stages import ablations, inequality, ways
from lessons.stages import lesson as stages_lesson
from lessons.waterline import lesson as waterline

CHANGES = {  # what a recorded ablation changes against the run with all rules
    "short-cut": {"joint", "pruning_periods"},
    "short-one-period": {"pruning_periods"},
    "short-one-reduction": {"projection_periods"},
    "short-one-batch": {"saliency_batches"},
    "short-no-cost": {"cost"},
    "short-labels-only": {"distill"},
    "short-widest-range": {"clip"},
    "short-no-rate-warmup": {"lr_warmup"},
}
SUBSETS = [
    subset for size in range(len(demo_network.PARTS) + 1) for subset in itertools.combinations(demo_network.PARTS, size)
]


def facts(number: int, **values: object) -> dict[str, str]:
    lesson = CONTENTS[number - 1].load()
    return dict(lesson.show(chosen(lesson, **values)).facts)


def read(text: str) -> float:
    """The number of a formula."""
    head, _, power = text.replace("−", "-").replace(r"\,", "").rstrip("%\\").partition(r"\times 10^{")
    return float(head.replace(" ", "")) * 10.0 ** int(power.rstrip("}") or 0)


@pytest.mark.parametrize("chosen_parts", SUBSETS, ids="+".join)
def test_what_leaves_with_a_channel_is_what_the_smaller_network_lacks(chosen_parts: tuple[str, ...]) -> None:
    net, graph = demo_network.build(chosen_parts)
    image = torch.randn(3, *demo_network.INPUT, generator=torch.Generator().manual_seed(0))
    changes = []
    for layer in graph.layers:
        dependents = demo_network.dependents(graph, layer.weight, layer.shape[0] - 1)
        assert layer.shape[0] - 1 in dependents.positions[layer.weight, 0]
        if not dependents.group.prunable:
            assert layer.name == "head"
            continue
        masked, _ = demo_network.build(chosen_parts)
        zero_units(masked, graph, {dependents.group.id: [dependents.unit]})
        small = slim(masked, graph)
        assert torch.allclose(masked(image), small(image), atol=1e-5)
        changes.append(float((net(image) - small(image)).abs().max().detach()))
        remaining = dict(small.named_parameters())
        for name, tensor in net.named_parameters():
            lost = [len(set(dependents.positions.get((name, dim), ()))) for dim in range(tensor.ndim)]
            assert tuple(remaining[name].shape) == tuple(n - k for n, k in zip(tensor.shape, lost, strict=True)), name
    assert max(changes) > 1e-3, "channels that do nothing prove nothing"


def test_parts_that_are_unknown_are_refused() -> None:
    with pytest.raises(CompressionError, match="no part 'magic'"):
        demo_network.build(["residual", "magic"])
    with pytest.raises(CompressionError, match="no group holds row 99"):
        demo_network.dependents(demo_network.build([])[1], "first.weight", 99)


@pytest.mark.parametrize("bits", [2, 3, 4, 8])
@pytest.mark.parametrize("share", [0.3, 0.7, 1.0])
def test_rounding_and_clipping_errors_are_those_of_numpy(bits: int, share: float) -> None:
    weight = digits.layers()["layer2.0.conv2"]
    w = weight.flatten().double().numpy()
    clip = share * float(np.abs(w).max())
    result = error_parts(weight, clip, bits)
    most = 2 ** (bits - 1) - 1
    rounded = np.clip(np.rint(w / (clip / most)), -most, most) * (clip / most)
    inside = np.abs(w) <= clip
    assert result.rounding == pytest.approx(((w - rounded)[inside] ** 2).sum(), rel=1e-9)
    assert result.clipping == pytest.approx(((w - rounded)[~inside] ** 2).sum(), rel=1e-9, abs=1e-30)
    assert result.clipped == int((~inside).sum())
    shown = facts(2, layer="layer2.0.conv2", bits=bits, clip=round(100 * share))
    assert float(shown["sqnr"]) == pytest.approx(10 * math.log10((w**2).sum() / ((w - rounded) ** 2).sum()), abs=0.051)
    assert read(shown["step"]) == pytest.approx(clip / most, rel=0.006)


POINTS = [
    Point(x, d, q, t)
    for x, d, q, t in itertools.product((-1.31, -0.47, 0.33, 0.92), (0.11, 0.27), (0.7, 1.05), (0.6, 1.0, 1.4))
]


@pytest.mark.parametrize("at", POINTS, ids=str)
def test_straight_through_gradients_are_those_of_the_surrogate(at: Point) -> None:
    exact, smooth = gradients(at), finite_differences(at)
    assert dataclasses.astuple(exact) == pytest.approx(dataclasses.astuple(smooth), abs=1e-6)
    assert slopes(at, [at.x]) == pytest.approx([exact.x])
    flat = finite_differences(at, held=math.nan)
    assert flat.x == pytest.approx(0.0, abs=1e-9), "the staircase itself is flat"
    quantizer = Quantizer(at.clip, 8, exponent=at.exponent)
    with torch.no_grad():
        quantizer.step_size.fill_(at.step)
    assert staircase(at) == pytest.approx(float(quantizer(torch.tensor(at.x)).detach()), abs=1e-5)


def test_the_lesson_shows_the_gradients_it_has() -> None:
    shown = facts(3, x=1.2, d=0.3, qm=0.9, t=0.8)
    assert (read(shown["g_x"]), read(shown["fd_x"])) == (0.0, 0.0)
    assert read(shown["g_clip"]) == pytest.approx(0.8 * 0.9**-0.2, rel=0.006)
    assert read(shown["g_exponent"]) == pytest.approx(0.9**0.8 * math.log(0.9), rel=0.006)


@pytest.mark.parametrize("now", [Scalars(0.01, 0.5, 1.0), Scalars(0.02, 1.4, 0.7), Scalars(0.005, 0.3, 1.3)], ids=str)
@pytest.mark.parametrize("most", [2, 4, 7])
def test_projections_reach_the_bits_and_the_nearest_point_is_nearest(now: Scalars, most: int) -> None:
    alone, together = project_step(now, most), project_all(now, most)
    assert alone.bits == pytest.approx(min(now.bits, most))
    assert together.bits == pytest.approx(min(now.bits, most), abs=1e-6)
    assert (alone.clip, alone.exponent) == (now.clip, now.exponent)
    assert now.distance(together) <= now.distance(alone) + 1e-9
    grid = [
        Scalars(q**t / (2 ** (most - 1) - 1), q, t)
        for q in np.linspace(0.5 * now.clip, 1.1 * now.clip, 61)
        for t in np.linspace(now.exponent - 0.3, now.exponent + 0.3, 61)
    ]
    if now.bits > most:
        assert now.distance(together) <= min(map(now.distance, grid)) + 1e-9


def test_too_few_bits_move_nothing() -> None:
    within = Scalars(0.3, 0.5, 1.0)
    assert project_step(within, 8) == project_all(within, 8) == within


def test_the_recorded_descent_is_what_its_own_numbers_give() -> None:
    """With the constant that each decision names (0.999 where it was recorded before it named one), or without any."""
    checked, climbing = dict.fromkeys((None, ETA), 0), 0
    for run in (stages_lesson.replayed(), *map(ways.replayed, ways.WAYS)):
        for group in (group for event in run.decisions.values() for group in event["joint"].values()):
            costs = sum(layer[0] * layer[3] for layer in group["layers"].values())
            terms = (group["alpha"] * group["hh"], group["rate"] * group["ch"], group["rate"] * costs)
            moved, eta = -terms[0] - terms[1] - terms[2], group.get("eta", ETA)
            assert moved == pytest.approx(group["descent"], abs=3e-4 * sum(map(abs, terms)) + 1e-30)
            checked[eta] += 1
            if eta is None:
                assert (group["rate"], group["allowed"]) == (group["uniform"], None)
                climbing += moved > 0
            else:
                assert group["allowed"] == pytest.approx(-eta * (1 - ZETA) * terms[0], rel=1e-3)
                assert group["descent"] <= group["allowed"] * (1 - 1e-3)
                assert -terms[1] <= (1 - eta) * terms[0] * (1 + 1e-3), "the term in c costs a thousandth at most"
    assert checked[ETA] > 200
    assert climbing > 0.3 * checked[None] > 20, "evenly, nothing is guaranteed"
    shown = facts(5, step=900)
    at, groups = inequality.decision(stages_lesson.replayed(), 900)
    first = next(iter(groups.values()))
    assert int(shown["at"]) == at <= 900
    assert read(shown["descent"]) == pytest.approx(first["descent"], rel=0.02)
    assert read(shown["descent"]) <= read(shown["bound"].partition("{")[2].rpartition(r"\mathbf{")[2][:-1])


def test_lesson_five_names_the_constant_that_was_used() -> None:
    """A bound where there is one, none where units are forgotten evenly, at a step that climbs."""
    for way, eta in (("published", 0.999), ("uniform", None)):
        run = ways.replayed(way)
        group, each = next(
            (name, group)
            for name, group in run.decisions[run.commits[0]]["joint"].items()
            if eta is not None or group["descent"] > 0
        )
        shown = facts(5, shown="forgetting", way=way, at=run.commits[0], leaving=group)
        assert read(shown["descent"]) == pytest.approx(each["descent"], rel=0.006)
        assert (r"\eta" in shown["bound"], "0.001" in shown["rule"]) == (eta is not None,) * 2
        if eta is not None:
            bound = read(shown["bound"].rpartition(r"\mathbf{")[2][:-1])
            assert bound == pytest.approx(-eta * 0.1 * each["alpha"] * each["hh"], rel=0.006)


def test_both_ways_begin_alike_and_only_one_forgets() -> None:
    """Sizes from cosines: equal when the first units are chosen; evenly, they fall by one part of the period a step."""
    first = {way: ways.replayed(way).decisions[ways.cuts(ways.RUN + way)[0].first]["joint"] for way in ways.WAYS}
    assert {name: (group["ch"], group["hh"]) for name, group in first["published"].items()} == {
        name: (group["ch"], group["hh"]) for name, group in first["uniform"].items()
    }
    for seed in ways.SEEDS:
        spec = [
            json.loads((recorded.GALLERY / ways.COLLECTION / f"{ways.RUN}{way}{seed}" / "spec.json").read_text())
            for way in ways.WAYS
        ]
        one, other = (each["budget"] for each in spec)
        assert {name for name in one if one[name] != other[name]} == {"options"}
        assert [each["options"].pop("forgetting") for each in (one, other)] == list(ways.WAYS)
        assert one == other
        for cut in ways.cuts(f"{ways.RUN}uniform{seed}"):
            length = cut.last - cut.first + 1
            fallen = {step: 1 - (step - cut.first) / length for step in cut.sizes}
            assert cut.sizes == pytest.approx(fallen, abs=0.12)
            assert cut.remaining == 0
    grown, cosine = np.array([3.0, -4.0, 1.0]), np.array([0.2, 0.1, -0.4])
    norm = np.linalg.norm(grown)
    group = {"ch": grown @ cosine, "hh": cosine @ cosine, "cosine": grown @ cosine / norm / np.linalg.norm(cosine)}
    assert ways.size(group) == pytest.approx(norm)
    assert ways.size({"ch": 0.0, "hh": 1.0, "cosine": 0.0}) == 0


def test_what_the_lesson_says_of_forgetting_is_in_the_files() -> None:
    """Shares that are cut, losses around the cuts, slowed steps and accuracy, read without the library; and noise."""
    totals = {way: ways.totals(way) for way in ways.WAYS}
    for way, total in totals.items():
        remaining, jumps, slowed, accuracies = [], [], [], []
        for seed in ways.SEEDS:
            folder = recorded.GALLERY / ways.COLLECTION / f"geta-w4-s30-{way}{seed}"
            events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
            loss = {event["step"]: event["loss"] for event in events if event["kind"] == "step"}
            joint = {event["step"]: event["joint"] for event in events if event.get("joint")}
            starts = [event["step"] for event in events if event.get("chosen")]
            ends = [step for step in joint if next(iter(joint[step].values()))["uniform"] == 1]
            assert len(starts) == len(ends) == 10
            for start, end in zip(starts, ends, strict=True):
                squares = [
                    sum(
                        (g["ch"] / g["cosine"]) ** 2 / g["hh"] * share(g) ** 2
                        for g in joint[at].values()
                        if g["cosine"]
                    )
                    for at, share in ((start, lambda g: 1.0), (end, lambda g: 1 - g["rate"]))
                ]
                remaining.append(math.sqrt(squares[1] / squares[0]))
                after = [loss[step] for step in (end + 1, end + 2, end + 3) if step in loss]
                if len(after) == 3:
                    jumps.append(np.mean(after) / np.mean([loss[step] for step in range(end - 19, end + 1)]))
            slowed += [g["rate"] / g["uniform"] < 0.05 for groups in joint.values() for g in groups.values()]
            table = np.array(json.loads((folder / "result.json").read_text())["confusion"]["final"])
            accuracies.append(np.trace(table) / table.sum())
        assert len(jumps) == 27, "of each run's last cut one loss is recorded"
        assert total.cut == pytest.approx(np.mean(remaining), rel=1e-6)
        assert total.jump == pytest.approx(np.mean(jumps), rel=1e-6)
        assert total.slowed == pytest.approx(np.mean(slowed))
        assert total.accuracy == pytest.approx(np.mean(accuracies))
        assert total.spread == pytest.approx(np.ptp(accuracies))
    published, evenly = totals["published"], totals["uniform"]
    assert published.cut > 0.5 > evenly.cut == 0
    assert published.jump > 1.3 > 1.15 > evenly.jump
    assert published.slowed > 0.8 > evenly.slowed == 0
    standard_error = 100 * math.sqrt(0.88 * 0.12 / 10_000)
    assert 100 * abs(published.accuracy - evenly.accuracy) < standard_error, "“accuracy does not tell them apart”"


def test_the_answer_of_lesson_five_is_the_largest_rate_that_costs_half() -> None:
    step, name, group = stages_lesson.exercise()
    shown = facts(5)
    assert (shown["exercise_step"], shown["exercise_group"]) == (str(step), name)
    rates = np.linspace(0, 1, 200_001) * group["uniform"]
    allowed = rates[-rates * read(shown["exercise_ch"]) <= 0.5 * read(shown["exercise_ahh"])].max()
    answer = stages_lesson.answer()
    assert abs(100 * allowed / read(shown["exercise_even"]) - answer.value) < answer.tolerance
    assert float(shown["answer"]) == pytest.approx(answer.value, abs=0.5)
    assert group["rate"] / group["uniform"] * 500 == pytest.approx(answer.value / 100, rel=1e-3), "500 times less"


def test_the_recorded_bits_stay_under_the_bound_of_their_stage() -> None:
    run = recorded.run(stages_lesson.RUN)
    start, high = SCHEDULE.value(run.budget.asks).start_bits, WEIGHT_BITS.value(run.budget.asks)[1]
    bounds = [run.stages.upper_bits(step, start, high) for step in range(1, run.stages.total + 1)]
    assert bounds[0] == math.inf
    assert bounds[-1] == high
    assert sorted(set(bounds), reverse=True) == [math.inf, 13.0, 10.0, 7.0, 4.0]
    for point in run.points:
        step = point["step"]
        if step > run.stages.ends["warm-up"]:
            assert max(width["weight"] for width in point["bits"].values()) <= bounds[step - 1] + 1e-3
    chosen_units = [sum(map(len, event["chosen"].values())) for event in run.choices.values()]
    assert sum(chosen_units) == run.result["facts"]["removed"] == sum(map(len, run.result["units"].values()))


def test_the_water_level_prunes_the_share_asked_for() -> None:
    rng = np.random.default_rng(0)
    tau, n = rng.uniform(0.01, 1.0, 12), rng.integers(10, 10_000, 12)
    for share in (0.0, 0.05, 0.5, 0.95):
        level = laplace.water_level(tau, n, share)
        assert (n * (1 - np.exp(-level / tau))).sum() / n.sum() == pytest.approx(share, abs=1e-12)
    assert laplace.water_level([0.2, 0.2], [5, 9], 0.5) == pytest.approx(0.2 * math.log(2))
    samples = rng.laplace(0, tau[:, None], (12, 200_000))
    level = laplace.water_level(tau, np.ones(12), 0.6)
    assert (np.abs(samples) <= level).mean() == pytest.approx(0.6, abs=0.002)


def test_one_threshold_beats_equal_shares_and_the_exact_one_beats_all() -> None:
    everything = np.sort(np.concatenate([layer.magnitudes for layer in digits.tables().layers]).astype(np.float64))
    for percent in (10, 50, 70):
        lost = waterline.errors(percent)
        assert lost["empirical"] == pytest.approx(
            (everything[: round(percent / 100 * len(everything))] ** 2).sum(), 1e-6
        )
        assert lost["empirical"] <= lost["laplace"] <= lost["uniform"]


def test_the_best_channel_steps_are_all_the_same() -> None:
    rng = np.random.default_rng(1)
    for bits in (3, 5):
        alpha, n = rng.uniform(0.05, 2.0, 6), rng.integers(5, 50, 6).astype(float)
        result = codebook.shared(alpha, n, bits)
        spent = {"type": "eq", "fun": lambda u: (n * (np.log2(2 * alpha) - u)).sum() - n.sum() * bits}  # noqa: B023
        free = minimize(
            lambda u: (n * 4**u).sum() / 12,  # noqa: B023
            np.log2(alpha) - 2,
            constraints=[spent],
            method="SLSQP",
            options={"ftol": 1e-14, "maxiter": 500},
        )
        assert 2**free.x == pytest.approx(np.full(6, result.step), rel=1e-3)
        assert (n * result.bits).sum() / n.sum() == pytest.approx(bits)
        assert result.bits == pytest.approx(np.log2(2 * alpha / result.step))
        assert result.bits.max() - bits == pytest.approx(result.saved)


def test_rounding_errors_of_channels_are_those_of_a_loop() -> None:
    rows = np.random.default_rng(2).normal(size=(3, 40))
    steps = np.array([0.1, 0.3, 0.7])
    expected = [np.mean([(w - round(w / d) * d) ** 2 for w in row]) for row, d in zip(rows, steps, strict=True)]
    assert codebook.rounding_errors(rows, steps) == pytest.approx(expected)
    assert codebook.separate_steps([1.0, 4.0], 3) == pytest.approx([0.25, 1.0])


def _convex(rng: np.random.Generator) -> Problem:
    costs = [int(rng.integers(1, 9)) * np.arange(2, 6) for _ in range(4)]
    errors = [np.cumsum(np.sort(rng.uniform(0.1, 5.0, 4)))[::-1].copy() for _ in range(4)]
    return Problem(costs, errors, int(rng.integers(sum(c[0] for c in costs), sum(c[-1] for c in costs))))


def test_the_walk_buys_the_best_saving_first_and_never_too_much() -> None:
    rng = np.random.default_rng(3)
    for _ in range(40):
        problem = _convex(rng)
        picks, steps = upgrades(problem)
        assert [step.slope for step in steps] == sorted((step.slope for step in steps), reverse=True)
        for step in steps:
            costs, errors = problem.costs[step.layer], problem.errors[step.layer]
            assert step.extra == costs[step.end] - costs[step.start]
            assert step.slope == pytest.approx((errors[step.start] - errors[step.end]) / step.extra)
            if step.fits:
                assert picks[step.layer] == step.start
                picks[step.layer] = step.end
        best = min(
            problem.evaluate(option)[0]
            for option in itertools.product(range(4), repeat=4)
            if problem.evaluate(option)[1] <= problem.budget
        )
        walked, mended = problem.evaluate(picks), problem.evaluate(greedy(problem))
        assert walked[1] <= problem.budget
        assert best <= mended[0] * (1 + 1e-12) <= walked[0] * (1 + 1e-9)
        assert choose(problem).error == pytest.approx(best)


def test_the_certificate_of_the_lesson_holds() -> None:
    for average in (2.5, 3.5, 5.0):
        shown = facts(8, average=average, taken=0)
        assert read(shown["bound"]) <= read(shown["best"]) * 1.0005 <= read(shown["end"]) * 1.001
        gap = read(shown["end"]) / read(shown["bound"]) - 1
        assert float(shown["gap"]) == pytest.approx(100 * gap, abs=0.1)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("zeros", [0.0, 0.1, 0.6, 0.95])
def test_sizes_count_what_they_say(bits: int, zeros: float) -> None:
    rng = np.random.default_rng(4)
    most = 2 ** (bits - 1) - 1
    codes = rng.integers(1, most + 1, 5000).astype(np.int32) * rng.choice([-1, 1], 5000).astype(np.int32)
    codes[: round(zeros * 5000)] = 0
    rng.shuffle(codes)
    result = sizes(codes, bits)
    alive = int((codes != 0).sum())
    assert (result.floats, result.fixed, result.values) == (32 * 5000, bits * 5000, bits * alive)
    assert result.bitmap == result.values + 5000
    counts = np.unique(codes, return_counts=True)[1]
    assert result.entropy == pytest.approx(5000 * entropy(counts, base=2))
    stream = encode(codes)
    assert result.coded == 8 * len(stream.data)
    assert (decode(stream.coding, stream.data, 5000) == codes).all()
    assert (result.bitmap < result.fixed) == (zeros > bitmap_pays_from(bits))
    assert result.entropy <= result.coded


def test_the_recorded_latencies_belong_to_the_run_they_name() -> None:
    times = measured()
    final = recorded.run(times["run"].partition("/")[2]).result["final"]
    dense, slim_one, last = times["variants"]
    assert last["bops"] / dense["bops"] == pytest.approx(final["rel_bops"], rel=1e-6)
    assert slim_one["bops"] / dense["bops"] == pytest.approx(final["macs"] / 40_813_184, rel=0.02)
    assert all(v["low"] <= v["median"] <= v["high"] and v["runs"] >= 50 for v in times["variants"])
    shown = facts(9, count="time")
    assert float(shown["ms"]) == pytest.approx(100 * last["median"] / dense["median"], abs=0.51)


def test_lost_images_add_up_to_the_lost_accuracy() -> None:
    for name in recorded.names():
        result, shown = recorded.run(name).result, facts(10, kept=name)
        tables = {moment: np.array(result["confusion"][moment]) for moment in ("baseline", "final")}
        lost = np.trace(tables["baseline"]) - np.trace(tables["final"])
        assert int(shown["sum"].replace(",", "")) == lost
        assert lost / tables["final"].sum() == pytest.approx(
            result["baseline"]["accuracy"] - result["final"]["accuracy"], abs=1e-9
        )
    diagonal = sorted(forgetting.changes(forgetting.EXERCISE).values())
    assert diagonal[-1] > diagonal[-2], "a tie would leave the question without an answer"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.0123"),
        (0.0, "0"),
        (-0.0, "0"),
        (1234567, r"1\,234\,567"),
        (-2.5, "-2.50"),
        (1.2e-7, r"1.20\times 10^{-7}"),
        (3e9, r"3.00\times 10^{9}"),
        (math.inf, r"\infty"),
    ],
)
def test_numbers_in_formulas(value: float, text: str) -> None:
    assert tex(value) == text
    if math.isfinite(value):
        assert read(text) == pytest.approx(value, rel=0.005)


def test_a_recorded_ablation_differs_from_all_rules_in_one_thing_only() -> None:
    folder = recorded.GALLERY / recorded.COLLECTION
    every = json.loads((folder / ablations.ALL_RULES / "spec.json").read_text())["budget"]
    assert set(ablations.WITHOUT) == set(ablations.RULES)
    assert len(ablations.ablations()) >= 5
    for run, shown in ablations.ablations().items():
        spec = json.loads((folder / run / "spec.json").read_text())["budget"]
        changed = {
            name
            for part in ("options", "schedule")
            for name in {*every[part], *spec[part]}
            if spec[part].get(name) != every[part].get(name)
        }
        beside = {name for name in every if name not in ("options", "schedule") and spec[name] != every[name]}
        assert changed == CHANGES[run], (run, changed)
        assert beside <= ({"sparsity"} if run == "short-no-cost" else set()), run
        result = json.loads((folder / run / "result.json").read_text())
        right = [sum(row[i] for i, row in enumerate(result["confusion"][moment])) for moment in ("baseline", "final")]
        assert shown.lost == pytest.approx((right[0] - right[1]) / 100, abs=1e-9), "counted on 10,000 test images"
    lost = [each.lost for each in ablations.ablations().values()]
    assert lost == sorted(lost, reverse=True)
    dearest, every = list(ablations.ablations())[:2], ablations.read(ablations.ALL_RULES).lost
    assert dearest == ["short-one-batch", "short-no-cost"], "as the notes for teachers say"
    assert ablations.read("short-one-period").lost - every == pytest.approx(1, abs=0.2), "“costs a point”"


def test_lesson_five_says_which_unit_a_step_is_in() -> None:
    one, each = Budget(), Budget(options={"weights": "channel"})
    assert (inequality.per_channel(one), inequality.per_channel(each)) == (False, True)
    assert facts(5)["unit"] == "", "the run that is replayed has one bound for each layer"


def test_the_recorded_maps_are_those_of_the_two_models() -> None:
    """The archive against the script that writes it, and one map against torch's own gradient."""
    now, stored = maps.computed(), recorded_maps.arrays()
    assert set(now) == set(stored)
    exact = ("images", "pixels", "answers", "classes", "differing")
    assert not [name for name in exact if (now[name] != stored[name]).any()]
    for way in recorded_maps.WAYS:
        assert np.allclose(now[way], stored[way], rtol=2e-2, atol=2e-3 * np.abs(stored[way]).max()), way
    both = pair(RunFolder(recorded.GALLERY / maps.RUN))
    image = both.images([int(stored["images"][3])]).requires_grad_(True)
    answer = int(stored["answers"][3][1])
    assert int(both.dense(image).argmax()) == answer
    slope = torch.autograd.grad(both.small(image)[0, answer], image)[0]
    assert np.allclose((image * slope).detach()[0, 0], stored["input_x_gradient"][3][1], atol=2e-2)
    alike = spearmanr(*(each.ravel().astype(float) for each in stored["input_x_gradient"][3]))[0]
    assert recorded_maps.infos("input_x_gradient")[3].alike == pytest.approx(alike, abs=1e-3)


def test_the_recorded_scores_of_the_picture_are_those_of_its_network() -> None:
    """Rounding, zeros and PSNR in numpy, at some places of the sliders, against what the lesson shows and recorded."""
    from skimage.metrics import peak_signal_noise_ratio

    from lessons.picture import lesson

    model, _, task = lesson.network()
    arrays = {name: parameter.detach().double().numpy() for name, parameter in model.named_parameters()}
    names = lesson.layers()
    x = task.data.test.images.double().numpy()
    angles = (x[:, :, None] * math.pi * 1.4 ** np.arange(16)).reshape(len(x), -1)
    encoded = np.concatenate([x, np.sin(angles), np.cos(angles)], 1)
    original = task.original().numpy()
    for layer, bits, zeros in (("all", 4, 0), (names[0], 3, 0), (names[-1], 3, 0), (names[1], 6, 50)):
        values = dict(arrays)
        for name in names if layer == "all" else [layer]:
            weight = arrays[f"{name}.weight"]
            most = 2 ** (bits - 1) - 1
            steps = np.linspace(0.02, 1.2, 600) * np.abs(weight).max() / most
            rounded = [np.clip(np.rint(weight / step), -most, most) * step for step in steps]
            best = min(rounded, key=lambda each: float(((each - weight) ** 2).sum()))
            least = np.argsort(np.abs(weight).ravel(), kind="stable")[: round(zeros / 100 * weight.size)]
            best.ravel()[least] = 0
            values[f"{name}.weight"] = best
        out = encoded
        for name in names[:-1]:
            out = np.sin(30 * (out @ values[f"{name}.weight"].T + values[f"{name}.bias"]))
        out = out @ values[f"{names[-1]}.weight"].T + values[f"{names[-1]}.bias"]
        shown = np.clip(np.rint((out + 1) * 127.5), 0, 255).astype(np.uint8).reshape(original.shape)
        score = peak_signal_noise_ratio(original, shown)
        assert lesson.drawn(layer, bits, zeros).psnr == pytest.approx(score, abs=0.15), "another search for the step"
        assert lesson.recorded()[layer][str(zeros)][lesson.WIDTHS.index(bits)] == pytest.approx(score, abs=0.15)
    assert lesson.answer().value == names[0]
