"""The descent inequality (eq. G8) of one group at one recorded step, with the run's own numbers and constant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compression.budget import Budget
from compression.methods.geta.joint import ETA, allowed_descent, descent
from compression.methods.geta.options import CHANNEL, GetaOptions
from lessons.numbers import tex
from lessons.recorded import Recorded


def decision(run: Recorded, step: int) -> tuple[int, Mapping[str, Any]]:
    """The last recorded joint step up to this one (the first of all before the joint stage), and its groups."""
    at = max((other for other in run.decisions if other <= step), default=min(run.decisions))
    return at, run.decisions[at]["joint"]


def inequality(run: Recorded, step: int, name: str) -> dict[str, str]:
    """The numbers of the descent inequality of a group (the first, if it is none of that step)."""
    at, groups = decision(run, step)
    name = name if name in groups else next(iter(groups))
    group = groups[name]
    eta = group.get("eta", ETA)  # runs recorded before there was a choice have the published one
    costs = sum(d * r_dot_h for d, _, _, r_dot_h, _ in group["layers"].values())
    d, lowest, highest = next(iter(group["layers"].values()))[:3]
    room = "has no room: one bit-width" if lowest == highest else "may move between its bounds"
    moved = descent(group["rate"], group["ch"], costs, group["hh"], group["alpha"])
    rule, bound = (
        "This run forgets evenly, whatever the sum is: **nothing is guaranteed**",
        r"\quad\text{(no bound)}",
    )
    if eta is not None:
        rule = "γ and d must let it **descend**: where $\\langle c,h\\rangle<0$ (forgetting works against training), "
        rule += rf"$\gamma\le(1-\eta)\,\alpha\lVert h\rVert^2/(-\langle c,h\rangle)$ with $1-\eta={1 - eta:.3g}$"
        allowed = tex(allowed_descent(group["hh"], group["alpha"], eta))
        bound = rf"\\\le&-\eta(1-\zeta)\,\alpha\lVert h\rVert^2=\mathbf{{{allowed}}}"
    return {
        "group": name,
        "at": str(at),
        "alpha": tex(group["alpha"]),
        "hh": tex(group["hh"]),
        "gamma": tex(group["rate"]),
        "uniform": tex(group["uniform"]),
        "ch": tex(group["ch"]),
        "costs": tex(costs),
        "descent": tex(moved),
        "rule": rule,
        "bound": bound,
        "d": tex(d),
        "unit": " (in units of the channel's own bound)" if per_channel(run.budget) else "",
        "room": room,
        "slowed": _slowed(group, costs, moved, eta),
    }


def _slowed(group: Mapping[str, Any], costs: float, moved: float, eta: float | None) -> str:
    """What became of the even rate, in words."""
    if eta is None:
        return f"that is taken, and this step {'climbs' if moved > 0 else 'descends'}"
    if group["rate"] >= group["uniform"]:
        return "that keeps to it already, so it is taken"
    climbs = descent(group["uniform"], group["ch"], costs, group["hh"], group["alpha"]) > 0
    would = "climb" if climbs else "cost more"
    return f"that would {would}, so it is lowered to {100 * group['rate'] / group['uniform']:.2g} % of it"


def per_channel(budget: Budget) -> bool:
    """Has each channel a bound of its own? Then a layer's steps d are in units of these bounds."""
    return GetaOptions.read(budget.options, budget.method).weights == CHANNEL
