"""The sections of the card about what was measured at export: ONNX beside torch, and milliseconds beside BOPs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compression import methods
from compression.data import kind

ROUNDED, SMALLEST = 10, 1e-6
WIDER = ("slim, fp32, channels in multiples of 8", "slim, 8-bit arithmetic, channels in multiples of 8")
FASTER = 1.03  # times as fast, from which on the larger network is worth offering
FEW = 4
ENOUGH = 0.995  # of images that get the same class


def measurements(measured: Mapping[str, Any], budget: Mapping[str, Any]) -> list[str]:
    """Sections for what was measured; nothing for what was not."""
    found = []
    if "onnx" in measured:
        found.append(section("ONNX Runtime beside torch", _agreement(measured, kind(budget["data"]).many)))
    if "latency" in measured:
        found.append(section("Latency", _latency(measured["latency"], budget)))
    return found


def _agreement(measured: Mapping[str, Any], many: str) -> str:
    rows = [
        (name, percent(told["same"], 2), f"{told['difference']:.1e}", percent(told["accuracy"], 2), _types(told))
        for name, told in (("`model.onnx`", measured["onnx"]), ("`model.int8.onnx`", measured["int8"]))
    ]
    first, eight = measured["onnx"], measured["int8"]
    lines = [
        f"Both on the first {first['images']} test {many}, against the torch model (accuracy there: "
        f"{percent(first['torch_accuracy'], 2)}).",
        "",
        table(("file", "same class", "largest difference of a logit", "accuracy", "weights"), rows),
        "",
        "`model.onnx` is the run's model as it is. " + _calibrated(eight, many),
        "",
        *stored(first),
    ]
    if first["difference"] > ROUNDED * max(first["precise"], SMALLEST):
        lines += [
            "",
            "ONNX Runtime rounds what it multiplies integer weights with to 8 bits; with the session option "
            f"`session.qdq_matmulnbits_accuracy_level` at 1 the largest difference is {first['precise']:.1e}.",
        ]
    if eight["same"] < ENOUGH:
        lines += [
            "",
            f"`model.int8.onnx` gives another class than torch on {percent(1 - eight['same'], 2)} of the {many}.",
        ]
    return "\n".join(lines)


def _calibrated(eight: Mapping[str, Any], many: str) -> str:
    if not eight["calibrated"]:
        return "`model.int8.onnx` needed no quantizers of activations besides."
    return (
        f"`model.int8.onnx` has {eight['calibrated']} quantizers of activations more, which the run did not learn: "
        f"their ranges are what {eight['calibration_images']} training {many} reach."
    )


def _types(told: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in told["weights"].items()) or "fp32"


def stored(told: Mapping[str, Any]) -> list[str]:
    """What ONNX holds otherwise than the run left it."""
    floats = [layer for layer, kind in told["layers"].items() if kind == "fp32"]
    tables = [layer for layer, kind in told["layers"].items() if kind.endswith("table")]
    wider = {layer: kind for layer, kind in told["activations"].items() if kind.startswith("fp32") or "," in kind}
    lines = []
    if floats:
        lines.append(f"Weights kept in fp32, because their grid was not found in the graph: {named(floats)}.")
    if tables:
        lines.append(
            f"Weights of {len(tables)} layers are codes that look their values up in a table, because levels counted "
            "from an offset are no multiples of a step: these layers compute in floats, in `model.int8.onnx` too."
        )
    for stored_as, layers in _by_value(wider).items():
        lines.append(f"Activations as {stored_as}: {named(layers)}.")
    lines += _two_bits(told)
    lines.append(
        "Widths without a type of their own sit in the next wider one; the packed file is where they save bytes."
    )
    return lines


def named(layers: Sequence[str]) -> str:
    """The first few layers by name, and how many more there are."""
    if len(layers) <= FEW:
        return ", ".join(layers)
    return f"{', '.join(layers[:FEW])} and {len(layers) - FEW} more layers"


def _by_value(told: Mapping[str, str]) -> dict[str, list[str]]:
    return {value: [name for name, own in told.items() if own == value] for value in dict.fromkeys(told.values())}


def _two_bits(told: Mapping[str, Any]) -> list[str]:
    """What codes of -1, 0 and 1 are stored as."""
    reasons = told.get("wider", {})  # exports made before it was noted lack it
    lines = []
    if "int2" in told["layers"].values():
        lines.append(f"Weights in int2 need opset {told['opset']}; tried with ONNX Runtime {told['runtime']}.")
    for why, layers in _by_value(reasons).items():
        lines.append(f"Two bits in a wider type than int2 ({named(layers)}): {why}.")
    return lines


def _latency(latency: Mapping[str, Any], budget: Mapping[str, Any]) -> str:
    told = latency["processor"]
    times = {time["name"]: time for time in latency["variants"]}
    dense = latency["variants"][0]
    rows = [
        (
            name,
            f"{time['median']:.3f}",
            f"{time['low']:.3f} to {time['high']:.3f}",
            f"{dense['median'] / time['median']:.2f}",
            "–" if time["bops"] is None else percent(time["bops"] / dense["bops"], 2),
            f"{time['bytes']:,}",
        )
        for name, time in times.items()
    ]
    threads = "1 thread" if told["threads"] == 1 else f"{told['threads']} threads"
    lines = [
        f"ONNX Runtime on {told['name']} ({', '.join(told['flags']) or 'no vector flags known'}), {threads}, one "
        f"{kind(budget['data']).one} at a time, {dense['runs']} runs after warm-up: median, and where the middle half "
        "lies.",
        "",
        table(("variant", "ms", "middle half, ms", "times as fast as dense", "BOPs", "bytes"), rows),
        "",
        *verdicts(times, budget),
    ]
    return "\n".join(lines)


def verdicts(times: Mapping[str, Mapping[str, Any]], budget: Mapping[str, Any]) -> list[str]:
    """What the times say, in plain sentences."""
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
    """Whether the fastest slim network had channel counts at multiples of 8, by enough to be worth their bytes."""
    found = {name: time["median"] for name, time in list(times.items())[1:]}
    wider = [found.pop(name) for name in WIDER if name in found]
    return bool(wider) and min(found.values()) >= FASTER * min(wider)


def _rounding(times: Mapping[str, Mapping[str, Any]], floats: float, eight: float) -> list[str]:
    if not all(name in times for name in WIDER):
        return []
    first, second = (one / times[name]["median"] for one, name in zip((floats, eight), WIDER, strict=True))
    told = (
        f"Channel counts at multiples of 8 make fp32 {first:.2f} times and 8-bit arithmetic {second:.2f} times as fast"
    )
    return [f"{told}: `--multiple 8` exports them so." if rounding_helps(times) else f"{told}: not worth the bytes."]


def section(title: str, body: str) -> str:
    """A second-level heading and what stands below it."""
    return f"## {title}\n\n{body}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers to the right."""
    numeric = [bool(rows) and all(row[i][:1] in "0123456789+-–" for row in rows) for i in range(len(head))]
    lines = [head, [("---:" if right else "---") for right in numeric], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def percent(share: float | None, digits: int) -> str:
    """A share in 0..1 as a percentage; a dash for none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"
