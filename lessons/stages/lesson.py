"""Lesson 5, the GETA run in four stages: a recorded run step by step, forgotten or cut, and its rules switched off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from compression.methods.geta.joint import FORGETTING, HALF, PUBLISHED, forget_rate
from compression.methods.geta.schedule import JOINT, PROJECTION, WARM_UP
from compression.plots.words import share
from lessons import recorded
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.numbers import tex
from lessons.stages import figure, rules, ways, ways_figure
from lessons.stages.ablations import ALL_RULES, WITHOUT, Ablation, ablations, read
from lessons.stages.inequality import decision, inequality

RUN = "tuned-seed1"
REPLAY, FORGETS, RULES = "run", "forgetting", "rules"
SAME_SHARE = 0.02  # shares of units that differ by less count as the same


def replayed() -> recorded.Recorded:
    """The run that is replayed."""
    return recorded.run(RUN)


@lru_cache(maxsize=1)
def info() -> figure.StagesInfo:
    """The curves of the figure, which are the same for every step."""
    return figure.stages_info(replayed())


@lru_cache(maxsize=1)
def both_ways() -> ways_figure.WaysInfo:
    """The curves of the figure of two ways to forget."""
    return ways_figure.WaysInfo(
        {way: ways.cuts(ways.RUN + way) for way in ways.WAYS}, {way: ways.around(way) for way in ways.WAYS}
    )


def fields(values: Values) -> Sequence[Choice | Slider]:
    """What is shown; then the step and whose inequality is written out, or which rule is off."""
    kinds = {REPLAY: "the run", FORGETS: "forgotten or cut", RULES: "one rule off"}
    first = Choice("shown", "What is shown", kinds, REPLAY, pills=True)
    shown = values.get("shown", REPLAY)
    if shown == RULES:
        names = {name: each.rule for name, each in ablations().items()}
        return (first, Choice("rule", "The rule", names, next(iter(names))))
    run, low, high, begin = replayed(), 1, replayed().total_steps, min(replayed().choices)
    before: tuple[Choice, ...] = (first,)
    if shown == FORGETS:
        run = ways.replayed(str(values.get("way", PUBLISHED)))
        low, high, begin = min(run.decisions), max(run.commits), run.commits[len(run.commits) // 2 - 1]
        before = (first, Choice("way", "Forgotten", ways.WAYS, PUBLISHED, half=True))
    half = shown == FORGETS
    key = "at" if half else "step"
    second = Slider(key, "Training step", low, high, 1, begin, "Drag through the whole run.", half)
    if key not in values:
        return (*before, second)
    counts = {name: group["units"] for name, group in decision(run, int(values[key]))[1].items()}
    names = {name: f"{name}, {count:,} channel{'s' * (count != 1)} leaving" for name, count in counts.items()}
    explained = "A group some of whose channels are being forgotten at that step."
    third = Choice("leaving", "Group whose inequality is shown", names, next(iter(names)), help=explained)
    return (*before, second, third)


def show(values: Values) -> View:
    """The run with a line at the step, two ways to forget, or what is lost without a rule; one group's inequality."""
    run, step, group = replayed(), int(values.get("step", min(replayed().choices))), str(values.get("leaving", ""))
    shown = values.get("shown", REPLAY)
    if shown == FORGETS:
        way, step = str(values["way"]), int(values["at"])
        facts = {**inequality(ways.replayed(way), step, group), **_totals(), **_exercise_facts()}
        return View(ways_figure.ways_figure(both_ways(), step), _compared(way, step), facts, both_ways().rows)
    facts = {**inequality(run, step, group), **_totals(), **_exercise_facts()}
    if shown == RULES:
        runs, every, name = ablations(), read(ALL_RULES), str(values["rule"])
        bars = rules.RulesInfo(list(runs.values()), every.lost, name)
        return View(rules.rules_figure(bars), _without(runs[name], every), facts, bars.rows)
    return View(figure.stages_figure(info(), step), _caption(step), facts, info().rows)


def _totals() -> dict[str, str]:
    """The numbers of the whole run."""
    run = replayed()
    return {
        "removed": str(run.result["facts"]["removed"]),
        "units": str(run.result["facts"]["units"]),
        "periods": str(run.stages.pruning_periods),
    }


def _without(run: Ablation, every: Ablation) -> str:
    """What a rule is for, in a sentence with its figures."""
    caption = f"**“{run.rule}” off.** {WITHOUT[run.run]} One epoch loses **{run.lost:.2f} points** against "
    caption += f"{every.lost:.2f} with all rules (one seed each: some tenths are noise)"
    if abs(run.removed - every.removed) > SAME_SHARE:
        caption += f"; {share(run.removed, 0)} of the channels went instead of {share(every.removed, 0)}"
    return caption + f". BOPs: {share(run.rel_bops, 2)} against {share(every.rel_bops, 2)}."


def _compared(way: str, step: int) -> str:
    """How far this run's channels are forgotten at a step, and what the runs of all seeds show."""
    number, cut = [pair for pair in enumerate(ways.cuts(ways.RUN + way), 1) if pair[1].first <= step][-1]
    at = max(other for other in cut.sizes if other <= step)
    published, evenly = (ways.totals(each) for each in ways.WAYS)
    apart = 100 * max(published.spread, evenly.spread)
    size = share(cut.sizes[at], 0)
    return (
        f"**Step {at:,}, period {number}, {ways.WAYS[way]}:** leaving channels still have **{size}** of their size. "
        f"As published, γ is below a twentieth of the even rate in {share(published.slowed, 0)} of "
        f"the recorded decisions: {share(published.cut, 0)} is left to cut, and the {ways.JUMP} losses after a cut are "
        f"**{published.jump:.2f} times** the {ways.BEFORE} before. Evenly, only rounding is left: {evenly.jump:.2f}. "
        f"*Accuracy does not tell them apart*: {share(published.accuracy)} and {share(evenly.accuracy)} on test images "
        f"(ResNet-8, Fashion-MNIST; means of {len(ways.SEEDS)} runs that differ by up to {apart:.1f} points)."
    )


def _caption(step: int) -> str:
    """What happens at a step."""
    run, stages = replayed(), replayed().stages
    stage = stages.stage(step)
    if stage == WARM_UP:
        low, high = info().least[0][1], info().most[0][1]
        caption = f"**Warm-up**, step {step:,}: plain training, no bounds yet. At its end the layers have "
        return caption + f"{low:.0f} to {high:.0f} bits."
    if stage == PROJECTION:
        bound = info().bound_at(step)
        return f"**Projection**, step {step:,}: d is projected so that no layer has more than **{bound:g} bits**."
    if stage == JOINT:
        period = stages.period(step)
        chosen = run.choices[max(other for other in run.choices if other <= step)]["chosen"]
        count = sum(len(members) for members in chosen.values())
        caption = f"**Joint stage**, step {step:,}, pruning period {period.index + 1} of {stages.pruning_periods}: "
        caption += f"saliency chose **{count} channels** in {len(chosen)} groups; "
        remaining = period.steps_to_shrink
        return caption + (
            f"{remaining} shrinking steps are left." if remaining else "they are zero now: the period ends."
        )
    accuracy = share(run.points[-1]["accuracy"])
    caption = f"**Cool-down**, step {step:,}: the channels are gone and the bits are whole numbers; training heals the "
    return caption + f"rest, up to {accuracy} on validation images."


@lru_cache(maxsize=1)
def exercise() -> tuple[int, str, Mapping[str, Any]]:
    """The step, the group and the decision of the exercise: the first of the published run where half would bind."""
    for step, event in ways.replayed(PUBLISHED).decisions.items():
        for name, group in event["joint"].items():
            if 0 < limited(group, HALF) < 0.6 * group["uniform"]:
                return step, name, group
    raise LookupError("no decision where half of the descent would bind")


def limited(group: Mapping[str, Any], forgetting: str) -> float:
    """The rate that a way of forgetting would take with the numbers of a decision."""
    steps, size = round(1 / group["uniform"]), ways.size(group)
    return forget_rate(group["ch"], size, group["hh"], group["alpha"], steps, FORGETTING[forgetting])


def _exercise_facts() -> dict[str, str]:
    """The numbers of the exercise."""
    step, name, group = exercise()
    return {
        "exercise_step": str(step),
        "exercise_group": name,
        "exercise_ahh": tex(group["alpha"] * group["hh"]),
        "exercise_ch": tex(group["ch"]),
        "exercise_even": tex(group["uniform"]),
        "exercise_eta": f"{FORGETTING[HALF]:g}",
        "answer": f"{answer().value:.0f}",
        "answer_published": f"{100 * group['rate'] / group['uniform']:.2g}",
    }


def answer() -> Number:
    """What share of the even rate half of the descent would allow there, in per cent."""
    group = exercise()[2]
    value = 100 * limited(group, HALF) / group["uniform"]
    return Number(value, 0.03 * value, "%")


LESSON = Lesson(
    fields,
    show,
    answer,
    (Link("runs", "See the stages of {run}", "gallery.resnet20-cifar10jpeg.tuned-seed1", ("geta",)),),
)
