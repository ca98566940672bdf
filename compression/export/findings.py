"""Sentences on the measurements of an export: ONNX compared with torch, and milliseconds compared with BOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compression import methods, tasks

ROUNDED, SMALLEST = 10, 1e-6
WIDER = ("slim, fp32, channels in multiples of 8", "slim, 8-bit arithmetic, channels in multiples of 8")
FASTER = 1.03  # speed-up from which the larger network is worth offering
FEW = 4
ENOUGH = 0.995  # of images that get the same class
UNRECOGNIZED = "their grid was not found in the graph"
LOOKED_UP = (
    "codes that look their values up in a table, because levels counted from an offset are no multiples of a step"
)


def stored(measured: Mapping[str, Any]) -> list[str]:
    """What ONNX holds otherwise than the run left it."""
    reasons = measured.get("reasons", {})  # exports made before it was noted lack it
    floats = {layer: reasons.get(layer, UNRECOGNIZED) for layer, kind in measured["layers"].items() if kind == "fp32"}
    expanded = {layer: reasons.get(layer, LOOKED_UP) for layer, kind in measured["layers"].items() if " " in kind}
    wider = {layer: kind for layer, kind in measured["activations"].items() if kind.startswith("fp32") or "," in kind}
    lines = []
    for why, layers in _by_value(floats).items():
        lines.append(f"Weights kept in fp32, because {why}: {named(layers)}.")
    for why, layers in _by_value(expanded).items():
        lines.append(
            f"Weights of {len(layers)} layers are {why}: these layers compute in floats, in `model.int8.onnx` too."
        )
    for stored_as, layers in _by_value(wider).items():
        lines.append(f"Activations as {stored_as}: {named(layers)}.")
    lines += _two_bits(measured)
    lines.append(
        "Bit-widths without an ONNX type are stored in the next wider one; only the packed file saves their bytes."
    )
    return lines


def eight_bit(measured: Mapping[str, Any]) -> str:
    """What ``model.int8.onnx`` is, from what was measured of it: ``layers``, each with the kind of its weight."""
    in_floats = [layer for layer, kind in measured["layers"].items() if kind == "fp32" or " " in kind]
    if in_floats and len(in_floats) == len(measured["layers"]):
        return "the same with 8-bit activations, missing ranges calibrated; every layer computes in floats"
    but = f"; {len(in_floats)} of {len(measured['layers'])} layers compute in floats" if in_floats else ""
    return f"the same in 8-bit integer arithmetic, missing ranges calibrated{but}"


def scored(measured: Mapping[str, Any], prefix: str = "") -> str:
    """What a file scored, or torch (``torch_``); measurements of earlier versions are all of accuracy."""
    value = measured[f"{prefix}score"] if f"{prefix}score" in measured else measured[f"{prefix}accuracy"]
    return tasks.metric_of(measured).show(value, 1)


def named(layers: Sequence[str]) -> str:
    """The first few layers by name, and the number of the others."""
    if len(layers) <= FEW:
        return ", ".join(layers)
    return f"{', '.join(layers[:FEW])} and {len(layers) - FEW} more layers"


def _by_value(values: Mapping[str, str]) -> dict[str, list[str]]:
    return {value: [name for name, own in values.items() if own == value] for value in dict.fromkeys(values.values())}


def _two_bits(measured: Mapping[str, Any]) -> list[str]:
    """The storage type of codes -1, 0 and 1."""
    reasons = measured.get("wider", {})  # absent from exports of earlier versions
    lines = []
    if "int2" in measured["layers"].values():
        lines.append(f"Weights in int2 need opset {measured['opset']}; tried with ONNX Runtime {measured['runtime']}.")
    for why, layers in _by_value(reasons).items():
        lines.append(f"Two bits in a wider type than int2 ({named(layers)}): {why}.")
    return lines


def verdicts(times: Mapping[str, Mapping[str, Any]], budget: Mapping[str, Any]) -> list[str]:
    """The conclusions from the times, in sentences."""
    floats, whole, eight = list(times.values())[1:4]
    fastest = min(times.values(), key=lambda time: time["median"])
    lines = [f"Fastest here: {fastest['name']}."]
    if eight["median"] >= floats["median"]:
        lines.append(
            f"8-bit arithmetic is slower than fp32 here ({eight['median'] / floats['median']:.2f} times the time)."
        )
    if whole["median"] >= floats["median"]:
        lines.append("Integer weights (`model.onnx`) are slower than floats here: they save bytes, not time.")
    lines += _rounding(times, floats["median"], eight["median"])
    method = methods.get(budget["method"])
    if not method.removes_units:
        lines.append(
            f"{method.info.label} removes no units: the slim network has the dense one's shape, and its zeros are "
            "computed with."
        )
    return lines


def rounding_helps(times: Mapping[str, Mapping[str, Any]]) -> bool:
    """Whether the fastest slim network has channel counts at multiples of 8, by a margin that justifies the bytes."""
    medians = {name: time["median"] for name, time in list(times.items())[1:]}
    wider = [medians.pop(name) for name in WIDER if name in medians]
    return bool(wider) and min(medians.values()) >= FASTER * min(wider)


def _rounding(times: Mapping[str, Mapping[str, Any]], floats: float, eight: float) -> list[str]:
    if not all(name in times for name in WIDER):
        return []
    first, second = (one / times[name]["median"] for one, name in zip((floats, eight), WIDER, strict=True))
    words = (
        f"Channel counts at multiples of 8 make fp32 {first:.2f} times and 8-bit arithmetic {second:.2f} times as fast"
    )
    return [f"{words}: `--multiple 8` exports them so." if rounding_helps(times) else f"{words}: not worth the bytes."]
