"""Two runs side by side: their budgets and results, with the difference in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from app import names, theme, words
from compression.budget import Budget
from compression.plots.axes import LATENCY
from compression.plots.candidates import Candidate
from compression.plots.comparison import zeros
from compression.tasks import Metric

OR = " or "
_TRAINING = {
    "epochs": "epochs of the budget",
    "batch_size": "batch size",
    "lr": "learning rate",
    "seed": "seed",
    "weights": "dense weights",
    "schedule": "schedule",
    "options": "options",
    "groups": "bounds of groups",
    "layers": "bounds of layers",
}


def rows(
    first: Candidate, second: Candidate, budgets: tuple[Budget, Budget], titles: tuple[str, str]
) -> list[dict[str, str]]:
    """The budgets (training only where it differs), then every figure with the second minus the first."""
    values = {name: [_value(budget, name) for budget in budgets] for name in _TRAINING}
    training = [(label, *values[name]) for name, label in _TRAINING.items() if values[name][0] != values[name][1]]
    requests = [
        ("method", theme.style(first.method).label, theme.style(second.method).label, ""),
        ("settings", *(names.request(budget.to_dict()) for budget in budgets), ""),
        *((label, _plain(one), _plain(two), "") for label, one, two in training),
    ]
    return [
        {"": name, titles[0]: one, titles[1]: two, "difference": change}
        for name, one, two, change in (*requests, *_figures(first.point, second.point, first.metric))
    ]


def _figures(one: Mapping[str, Any], two: Mapping[str, Any], metric: Metric) -> list[tuple[str, str, str, str]]:
    times = one.get(LATENCY), two.get(LATENCY)
    show = words.milliseconds
    timed = [_row("latency", *times, show, show)] if any(time is not None for time in times) else []
    split, kind = _both("split", one, two), _both("bytes_kind", one, two)
    scores = (lambda score: metric.show(score, 1), None if OR in split else lambda change: _change(metric, change))
    return [
        _row(f"{split} {metric.label}", one["score"], two["score"], *scores),
        _row(f"{split} loss", one["loss"], two["loss"], _four, _four if OR not in split else None),
        _row(f"{kind} size", one["bytes"], two["bytes"], words.size, words.size if OR not in kind else None),
        _row("nominal size", one["nominal_bytes"], two["nominal_bytes"], words.size, words.size),
        _row("BOPs, of dense", one["rel_bops"], two["rel_bops"], _percent, _points),
        _row("MACs", one["macs"], two["macs"], words.count, words.count),
        _row("units removed", one["unit_sparsity"], two["unit_sparsity"], _percent, _points),
        _row(zeros(one, two), one["weight_sparsity"], two["weight_sparsity"], _percent, _points),
        *timed,
        ("bits of the weights", _bits(one, "weight"), _bits(two, "weight"), ""),
        ("bits of the activations", _bits(one, "activation"), _bits(two, "activation"), ""),
    ]


def _both(field: str, *points: Mapping[str, Any]) -> str:
    """What both are measured on, or how; ``validation or test`` where they differ: then there is no difference."""
    usual = {"split": "test", "bytes_kind": "packed"}
    return OR.join(dict.fromkeys(str(point.get(field, usual[field])) for point in points))


def _row(
    name: str, one: float | None, two: float | None, show: Callable[[float], str], change: Callable[[float], str] | None
) -> tuple[str, str, str, str]:
    if one is None or two is None or change is None:
        return name, "–" if one is None else show(one), "–" if two is None else show(two), ""
    return name, show(one), show(two), words.signed(two - one, change)


def _value(budget: Budget, name: str) -> Any:
    return getattr(budget, name) if name in Budget.model_fields else budget.asks.get(name)


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(item)}" for name, item in value.items()) or "none"
    if isinstance(value, (list, tuple)):
        return "–".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else "default" if value is None else str(value)


def _bits(point: Mapping[str, Any], kind: str) -> str:
    widths = [entry[kind] for entry in (point.get("bits") or {}).values() if entry.get(kind) is not None]
    return words.bits((min(widths), max(widths))) if widths else "fp32"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"


def _points(share: float) -> str:
    return f"{100 * share:.2f} points"


def _change(metric: Metric, change: float) -> str:
    return f"{metric.shown(change):.2f} {metric.points}"


def _four(value: float) -> str:
    return f"{value:.4f}"
