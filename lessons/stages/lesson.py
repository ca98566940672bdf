"""Lesson 5, the GETA run in four stages: a recorded run step by step, its own descent inequality, its rules off."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

from compression.budget import Budget
from compression.methods.geta.joint import ETA, allowed_descent, descent
from compression.methods.geta.options import CHANNEL, GetaOptions
from compression.methods.geta.schedule import JOINT, PROJECTION, WARM_UP
from compression.plots.words import share
from lessons import recorded
from lessons.lesson import Choice, Lesson, Link, Number, Slider, Values, View
from lessons.numbers import tex
from lessons.stages import figure, rules
from lessons.stages.ablations import ALL_RULES, WITHOUT, Ablation, ablations, read

RUN = "tuned-seed1"
REPLAY, RULES = "run", "rules"
SAME_SHARE = 0.02  # shares of units that differ by less count as the same


def replayed() -> recorded.Recorded:
    """The run that is replayed."""
    return recorded.run(RUN)


@lru_cache(maxsize=1)
def info() -> figure.StagesInfo:
    """The curves of the figure, which are the same for every step."""
    return figure.stages_info(replayed())


def fields(values: Values) -> Sequence[Choice | Slider]:
    """What is shown; then the step and whose inequality is written out, or which rule is off."""
    kinds = {REPLAY: "the run", RULES: "one rule switched off"}
    first = Choice("shown", "What is shown", kinds, REPLAY, pills=True)
    if values.get("shown", REPLAY) == RULES:
        names = {name: each.rule for name, each in ablations().items()}
        return (first, Choice("rule", "The rule", names, next(iter(names))))
    run = replayed()
    second = Slider(
        "step", "Training step", 1, run.total_steps, 1, min(run.choices), help="Drag through the whole run."
    )
    if "step" not in values:
        return (first, second)
    counts = {name: group["units"] for name, group in decision(int(values["step"]))[1].items()}
    names = {name: f"{name}, {count:,} channel{'s' * (count != 1)} leaving" for name, count in counts.items()}
    explained = "A group some of whose channels are being forgotten at that step."
    third = Choice("leaving", "Group whose inequality is shown", names, next(iter(names)), help=explained)
    return (first, second, third)


def decision(step: int) -> tuple[int, Mapping[str, Any]]:
    """The last recorded joint step up to this one (the first of all before the joint stage), and its groups."""
    decisions = replayed().decisions
    at = max((other for other in decisions if other <= step), default=min(decisions))
    return at, decisions[at]["joint"]


def show(values: Values) -> View:
    """The run with a line at the step, or what is lost without a rule; and one group's inequality."""
    step = int(values.get("step", min(replayed().choices)))
    facts = {**inequality(step, str(values.get("leaving", ""))), **_totals()}
    if values.get("shown", REPLAY) == RULES:
        runs, every, name = ablations(), read(ALL_RULES), str(values["rule"])
        bars = rules.RulesInfo(list(runs.values()), every.lost, name)
        return View(rules.rules_figure(bars), _without(runs[name], every), facts, bars.rows)
    return View(figure.stages_figure(info(), step), _caption(step), facts, info().rows)


def inequality(step: int, name: str) -> dict[str, str]:
    """The numbers of the descent inequality of a group (the first, if it is none of that step)."""
    at, groups = decision(step)
    name = name if name in groups else next(iter(groups))
    group = groups[name]
    costs = sum(d * r_dot_h for d, _, _, r_dot_h, _ in group["layers"].values())
    d, lowest, highest = next(iter(group["layers"].values()))[:3]
    room = "has no room, the budget allows one bit-width" if lowest == highest else "may move between its bounds"
    slowed = "that descends already, so γ is just that"
    if group["rate"] < group["uniform"]:
        slowed = f"that would climb, so γ is lowered to {100 * group['rate'] / group['uniform']:.2g} % of it"
    return {
        "group": name,
        "at": str(at),
        "alpha": tex(group["alpha"]),
        "hh": tex(group["hh"]),
        "gamma": tex(group["rate"]),
        "uniform": tex(group["uniform"]),
        "ch": tex(group["ch"]),
        "costs": tex(costs),
        "descent": tex(descent(group["rate"], group["ch"], costs, group["hh"], group["alpha"])),
        "allowed": tex(allowed_descent(group["hh"], group["alpha"], group.get("eta", ETA))),
        "d": tex(d),
        "unit": " (in units of the channel's own bound)" if per_channel(replayed().budget) else "",
        "room": room,
        "slowed": slowed,
    }


def _totals() -> dict[str, str]:
    """The numbers of the whole run."""
    run = replayed()
    return {
        "removed": str(run.result["facts"]["removed"]),
        "units": str(run.result["facts"]["units"]),
        "periods": str(run.stages.pruning_periods),
        "answer": f"{answer().value:.0f}",
    }


def _without(run: Ablation, every: Ablation) -> str:
    """What a rule is for, in a sentence with its figures."""
    caption = f"**“{run.rule}” off.** {WITHOUT[run.run]} One epoch loses **{run.lost:.2f} points** against "
    caption += f"{every.lost:.2f} with all rules (one seed each: some tenths are noise)"
    if abs(run.removed - every.removed) > SAME_SHARE:
        caption += f"; {share(run.removed, 0)} of the channels went instead of {share(every.removed, 0)}"
    return caption + f". BOPs: {share(run.rel_bops, 2)} against {share(every.rel_bops, 2)}."


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


def per_channel(budget: Budget) -> bool:
    """Has each channel a bound of its own? Then a layer's steps d are in units of these bounds."""
    return GetaOptions.read(budget.options, budget.method).weights == CHANNEL


def answer() -> Number:
    """How many units the first pruning period chose."""
    choices = replayed().choices
    return Number(sum(map(len, choices[min(choices)]["chosen"].values())), 0, "channels")


LESSON = Lesson(
    fields,
    show,
    answer,
    (Link("runs", "See the stages of {run}", "gallery.resnet20-cifar10jpeg.tuned-seed1", ("geta",)),),
)
