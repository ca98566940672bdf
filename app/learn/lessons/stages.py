"""Lesson 5, the GETA run in four stages: a recorded run step by step, its own descent inequality, its rules off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from app import words
from app.figures.learn import rules
from app.figures.learn import stages as figures
from app.learn.lessons import ablations, recorded
from app.learn.lessons.answers import Number
from app.learn.lessons.fields import Choice, Field, Slider, Values
from app.learn.lessons.lesson import Lesson, See, Shown
from app.learn.lessons.numbers import percent, sig, tex
from compression.budget import Budget
from compression.methods.geta.joint import allowed_descent, descent
from compression.methods.geta.options import CHANNEL, settings
from compression.methods.geta.schedule import COOL_DOWN, JOINT, PROJECTION, WARM_UP

RUN = "tuned-seed1"
REPLAY, RULES = "run", "rules"
SAME_SHARE = 0.02  # shares of units that differ by less are told as the same


@lru_cache(maxsize=1)
def replayed() -> recorded.Recorded:
    """The run that is replayed."""
    return recorded.run(RUN)


@lru_cache(maxsize=1)
def info() -> figures.StagesInfo:
    """What the picture holds whatever the step."""
    run = replayed()
    start, high = run.budget.schedule.start_bits, run.budget.weight_bits[1]
    return figures.stages_info(run.story, run.decisions, run.stages, start, high)


def fields(values: Values) -> Sequence[Field]:
    """What is shown; then the step and whose inequality is written out, or which rule is off."""
    kinds = {REPLAY: "the run", RULES: "one rule switched off"}
    first = Choice("shown", "What is shown", kinds, REPLAY, pills=True)
    if values.get("shown", REPLAY) == RULES:
        names = {name: each.rule for name, each in ablations.found().items()}
        return (first, Choice("rule", "The rule", names, next(iter(names))))
    run = replayed()
    total = run.story.total_steps or 1
    second = Slider("step", "Training step", 1, total, 1, min(run.choices), help="Drag through the whole run.")
    if "step" not in values:
        return (first, second)
    groups = decision(int(values["step"]))[1]
    names = {name: f"{name}, {words.plural(told['units'], 'channel')} leaving" for name, told in groups.items()}
    explained = "A group some of whose channels are being forgotten at that step."
    third = Choice("leaving", "Group whose inequality is shown", names, next(iter(names)), help=explained)
    return (first, second, third)


def decision(step: int) -> tuple[int, Mapping[str, Any]]:
    """The last recorded joint step up to this one (the first of all before the joint stage), and its groups."""
    found = replayed().decisions
    at = max((other for other in found if other <= step), default=min(found))
    return at, found[at]["joint"]


def show(values: Values) -> Shown:
    """The run with a line at the step, or what is lost without a rule; and one group's inequality."""
    step = int(values.get("step", min(replayed().choices)))
    facts = inequality(step, str(values.get("leaving", "")))
    if values.get("shown", REPLAY) == RULES:
        found, every = ablations.found(), ablations.read(ablations.ALL_RULES)
        bars = [rules.RuleBar(each.rule, each.lost, each.gone, each.rel_bops) for each in found.values()]
        told = rules.rules_info(bars, every.lost, found[str(values["rule"])].rule)
        return Shown(rules.rules_figure(told), _off(found[str(values["rule"])], every), facts, told.rows)
    return Shown(figures.stages_figure(info(), step), _said(step), facts, info().rows)


def inequality(step: int, group: str) -> dict[str, str]:
    """The numbers of the descent inequality of a group (the first, if it is none of that step), and of the run."""
    at, groups = decision(step)
    group = group if group in groups else next(iter(groups))
    told = groups[group]
    costs = sum(d * r_dot_h for d, _, _, r_dot_h, _ in told["layers"].values())
    found = descent(told["rate"], told["ch"], costs, told["hh"], told["alpha"])
    d, lowest, highest = next(iter(told["layers"].values()))[:3]
    room = "has no room, the budget allows one bit-width" if lowest == highest else "may move between its bounds"
    return {
        "group": group,
        "at": str(at),
        "alpha": tex(told["alpha"]),
        "hh": tex(told["hh"]),
        "gamma": tex(told["rate"]),
        "uniform": tex(told["uniform"]),
        "ch": tex(told["ch"]),
        "costs": tex(costs),
        "descent": tex(found),
        "allowed": tex(allowed_descent(told["hh"], told["alpha"])),
        "d": sig(d),
        "unit": " (in units of the channel's own bound)" if per_channel(replayed().budget) else "",
        "room": room,
        "slowed": _slowed(told["rate"], told["uniform"]),
        "removes": str(removes()),
        "units": str(units()),
        "periods": str(replayed().stages.pruning_periods),
        "each": f"{answer().value:.0f}",
    }


def _off(run: ablations.Ablation, every: ablations.Ablation) -> str:
    """What a rule is for, in a sentence with its figures."""
    told = f"**“{run.rule}” off.** {ablations.WITHOUT[run.run]} One epoch loses **{run.lost:.2f} points** against "
    told += f"{every.lost:.2f} with all rules (one seed each: some tenths are noise)"
    if abs(run.gone - every.gone) > SAME_SHARE:
        told += f"; {percent(run.gone, 0)} of the channels went instead of {percent(every.gone, 0)}"
    return told + f". BOPs: {percent(run.rel_bops, 2)} against {percent(every.rel_bops, 2)}."


def _slowed(rate: float, uniform: float) -> str:
    """What the inequality did to the rate, in words."""
    if rate >= uniform:
        return "that descends already, so γ is just that"
    return f"that would climb, so γ is lowered to {100 * rate / uniform:.2g} % of it"


def _said(step: int) -> str:
    run, stages = replayed(), replayed().stages
    stage = stages.stage(step)
    if stage == WARM_UP:
        _, low, high = info().bits[0]
        told = f"**Warm-up**, step {step:,}: plain training, no bounds yet. At its end the layers have {low:.0f} to "
        return told + f"{high:.0f} bits."
    if stage == PROJECTION:
        bound = info().bound_at(step)
        return f"**Projection**, step {step:,}: d is projected so that no layer has more than **{bound:g} bits**."
    if stage == JOINT:
        period = stages.period(step)
        chosen = run.choices[max(other for other in run.choices if other <= step)]["chosen"]
        count = sum(len(members) for members in chosen.values())
        told = f"**Joint stage**, step {step:,}, pruning period {period.index + 1} of {stages.pruning_periods}: "
        told += f"saliency chose **{count} channels** in {len(chosen)} groups; "
        left = period.shrinks_left
        return told + (f"{left} shrinking steps are left." if left else "they are zero now: the period ends.")
    assert stage == COOL_DOWN
    last = run.story.points[-1]
    return (
        f"**Cool-down**, step {step:,}: the channels are gone and the bits are whole numbers; training heals the rest, "
        f"up to {percent(last['accuracy'])} on validation images."
    )


def per_channel(budget: Budget) -> bool:
    """Has each channel a bound of its own? Then a layer's steps d are told in units of these bounds."""
    return settings(budget).weights == CHANNEL


def removes() -> int:
    """K: how many units the run takes out."""
    return int(replayed().result["facts"]["removed"])


def units() -> int:
    """N: how many it could choose from."""
    return int(replayed().result["facts"]["units"])


def answer() -> Number:
    """How many units the first pruning period chose."""
    run = replayed()
    chosen = run.choices[min(run.choices)]["chosen"]
    return Number(sum(len(members) for members in chosen.values()), 0, "channels")


LESSON = Lesson(
    fields,
    show,
    answer,
    (See("runs", "See the stages of {run}", "gallery.resnet20-cifar10jpeg.tuned-seed1", ("geta",)),),
)
