"""``MODEL_CARD.md``: the model, its measurements before and after compression, and its limitations.

The words are in ``card.md.j2``; this module prepares the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from compression import home, methods, tasks, zoo
from compression.budget import Budget
from compression.data import kind
from compression.export import findings
from compression.export.config import bit_range
from compression.preprocess import words
from compression.tasks import Metric

LEDGER = {
    "values": "codes of the weights",
    "positions": "where the zeros are",
    "codebooks": "blocks of weights that codes refer to",
    "scales": "steps and offsets of weights, quantizers of activations",
    "leftovers": "kept in fp32: biases, norms, weights without a quantizer",
    "container": "names, shapes, checksum",
    "total": "the file weights.packed",
}
FILES = {
    "budget.json": "the requested budget; reproduces the run",
    "config.json": "per layer: remaining units, bits, steps; preprocessing",
    "model.safetensors": "slim fp32 weights, every one on its grid",
    "weights.packed": "the same weights as coded integers",
    "model.pt2": "the slim network as a program of plain operations (torch.export), any batch size",
    "model.onnx": "the same network with weights as integer codes",
    "model.int8.onnx": "the same in 8-bit integer arithmetic, missing ranges calibrated",
    "model.fp32.onnx": "the slim network in floats, without quantizers",
    "example.safetensors": "four test inputs as the model takes them, and its answers",
    "weights.layered": "the weights bit plane by bit plane: every prefix that ends between two planes is a model",
    "layered.json": "some prefixes of it: bytes, bits a weight, measured score",
    "load_layered.py": "reads its prefixes without this program: `python load_layered.py BYTES`",
    "load.py": "decodes the weights without this program; loads the network with --trust",
}


def text(
    result: Mapping[str, Any],
    about: Mapping[str, Any],
    budget: Mapping[str, Any],
    measured: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> str:
    """The card as Markdown, from a run's result, ``config.json``, its budget, and the measurements of the export."""
    method = methods.get(budget["method"])
    data = kind(budget["data"])
    return _template().render(
        about=about,
        method=method.info,
        request=method.describe(Budget.from_dict(budget)),
        caveats=method.caveats(result),
        data=data,
        purpose=_purpose(result, about, _inputs(about, data.many)),
        preprocessing=_input(about["preprocessing"]),
        comparison=_comparison(result, about, data.one),
        classes=_classes(result, about),
        counted="pixels" if "pixels" in result else data.many,
        ledger=_ledger(result["ledger"]),
        files=[
            (f"`{name}`", f"{len(files[name]):,}", what) for name, what in _files(measured).items() if name in files
        ],
        metric=Metric.from_result(result),
        own_code=about["model"] if zoo.is_file(about["model"]) else "",
        program="model.pt2" in files,
        **_measured(measured, budget),
    )


@cache
def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"percent": percent, "sentence": _sentence}
    environment.globals |= {"table": table, "home": home}
    return environment.get_template("card.md.j2")


def _measured(measured: Mapping[str, Any], budget: Mapping[str, Any]) -> dict[str, Any]:
    """The template's values of ONNX and latency; empty for what was not measured."""
    shown: dict[str, Any] = {
        "measured": {"onnx": None, "latency": None, "left_out": {}, **measured},
        "enough": findings.ENOUGH,
    }
    if "onnx" in measured:
        onnx = measured["onnx"]
        shown |= {"agreement": _agreement(measured), "stored": findings.stored(onnx)}
        shown |= {"score": tasks.metric_of(onnx).label, "torch_score": findings.scored(onnx, "torch_")}
        shown["rounded"] = onnx["difference"] > findings.ROUNDED * max(onnx["precise"], findings.SMALLEST)
    if "latency" in measured:
        variants = measured["latency"]["variants"]
        by_name = {variant["name"]: variant for variant in variants}
        shown |= {"times": _times(by_name, variants[0]), "verdicts": findings.verdicts(by_name, budget)}
    return shown


def _files(measured: Mapping[str, Any]) -> dict[str, str]:
    """What each file is; of the one in 8-bit arithmetic as it was measured."""
    return {**FILES, **({"model.int8.onnx": findings.eight_bit(measured["int8"])} if "int8" in measured else {})}


def _agreement(measured: Mapping[str, Any]) -> list[tuple[str, ...]]:
    files = (("`model.onnx`", measured["onnx"]), ("`model.int8.onnx`", measured["int8"]))
    return [
        (
            name,
            *([] if each["same"] is None else [percent(each["same"])]),
            f"{each['difference']:.1e}",
            findings.scored(each),
            ", ".join(f"{count} {stored}" for stored, count in each["weights"].items()) or "fp32",
        )
        for name, each in files
    ]


def _times(times: Mapping[str, Mapping[str, Any]], dense: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            name,
            f"{time['median']:.3f}",
            f"{time['low']:.3f} to {time['high']:.3f}",
            f"{dense['median'] / time['median']:.2f}",
            "–" if time["bops"] is None else percent(time["bops"] / dense["bops"]),
            f"{time['bytes']:,}",
        )
        for name, time in times.items()
    ]


def _inputs(about: Mapping[str, Any], many: str) -> str:
    size = "x".join(map(str, about["input"]))
    if "coordinates" in about["preprocessing"]:
        return "{1} by {0} {many}".format(*about["preprocessing"]["size"], many=many)
    return f"{many} of {size} tokens" if "tokenizer" in about["preprocessing"] else f"{size} {many}"


def _input(about: Mapping[str, Any]) -> str:
    if "coordinates" in about:
        return f"x and y {about['coordinates']}; colours from -1 to 1 come out"
    if "tokenizer" in about:
        return (
            f"token ids of {about['tokenizer']}, both ends marked, filled up with {about['padding']} to "
            f"{about['tokens']}"
        )
    if "bytes" in about:
        return f"the bytes of a text, {about['bytes']} at a time"
    if "unchanged" in about:
        return "numbers as the task gives them"
    if "mean" not in about:
        return f"pixels scaled to 0..1{_scaling(about)}"
    return (
        "pixels scaled to 0..1, minus mean, divided by standard deviation of each channel "
        f"(mean {_numbers(about['mean'])}, deviation {_numbers(about['std'])}){_scaling(about)}"
    )


def _scaling(about: Mapping[str, Any]) -> str:
    """How pictures were scaled and cropped before that, where it is not the default."""
    preprocess = {name: about[name] for name in ("resize", "crop", "interpolation", "range") if name in about}
    return f"; pictures: {words(preprocess)}" if preprocess else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _comparison(result: Mapping[str, Any], about: Mapping[str, Any], one: str) -> list[tuple[str, ...]]:
    first, last, metric = result["baseline"], result["final"], Metric.from_result(result)
    fewer = "weights saved by factors and zeros" if result.get("ranks") else "weights at zero"
    return [
        ("size of the weights file", f"{first['bytes']:,.0f} B (fp32)", f"{last['bytes']:,.0f} B (packed)"),
        (f"{metric.label} on the test split", metric.show(first["score"], 1), metric.show(last["score"], 1)),
        ("loss on the test split", f"{first['loss']:.4f}", f"{last['loss']:.4f}"),
        (f"MACs for one {one}", f"{first['macs']:,.0f}", f"{last['macs']:,.0f}"),
        (f"BOPs for one {one}", f"{first['bops']:,.0f}", f"{last['bops']:,.0f} ({percent(last['rel_bops'])})"),
        ("units removed", "0 %", percent(last["unit_sparsity"], 1)),
        (f"{fewer}, removed ones included", "0 %", percent(last["weight_sparsity"], 1)),
        ("bits a weight", "32", _bits(about, "weight")),
        ("bits an activation", "32", _bits(about, "activation")),
    ]


def _bits(about: Mapping[str, Any], side: str) -> str:
    spread = bit_range(about["layers"], side)
    if spread is None:
        return "32"
    low, high, count = spread
    return f"{low}" if low == high else f"{low} to {high} ({count} layers)"


def _purpose(result: Mapping[str, Any], about: Mapping[str, Any], inputs: str) -> str:
    """What the network is for, in a sentence."""
    classes, metric = about["classes"], Metric.from_result(result)
    if result.get("confusion"):
        return f"Classifies {inputs} into {len(classes)} classes."
    if "bytes" in about["preprocessing"]:
        return f"Predicts the next byte of a text, from the {about['preprocessing']['bytes']} before it."
    if result.get("pixels"):
        return f"Gives every pixel of {inputs} one of {len(classes)} classes."
    if result.get("map50"):
        return (
            f"Finds boxes of {len(classes)} classes in {inputs}: [B, cells, 4 + classes], a box in pixels and logits."
        )
    if classes:
        return f"Answers {inputs} with {', '.join(classes)}."
    return f"Measured by {metric.label}: {metric.explained}."


def _classes(result: Mapping[str, Any], about: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row for each class: how many there are, and the recall (of pixels the overlap) before and after."""
    table = result.get("confusion") or result.get("pixels")
    if not table:
        return []
    measure = per_class if result.get("confusion") else overlaps
    before, after = (measure(table[name]) for name in ("baseline", "final"))
    counts = [sum(row) for row in table["final"]]
    return [
        (name, f"{count}", percent(one, 1), percent(two, 1), _points(one, two))
        for name, count, one, two in zip(about["classes"], counts, before, after, strict=True)
    ]


def _points(one: float | None, two: float | None) -> str:
    return "–" if one is None or two is None else f"{100 * (two - one):+.1f}"


def per_class(confusion: Sequence[Sequence[int]]) -> list[float | None]:
    """Recall of each class (rows of the confusion: true class); ``None`` for a class without images."""
    return [row[index] / sum(row) if sum(row) else None for index, row in enumerate(confusion)]


def overlaps(pixels: Sequence[Sequence[int]]) -> list[float | None]:
    """Overlap of each class, shared pixels by pixels of either (rows: true class); ``None``: it is in neither."""
    answered = [sum(column) for column in zip(*pixels, strict=True)]
    unions = [sum(row) + answered[i] - row[i] for i, row in enumerate(pixels)]
    return [row[i] / unions[i] if unions[i] else None for i, row in enumerate(pixels)]


def _ledger(ledger: Mapping[str, int]) -> list[tuple[str, ...]]:
    total = ledger["total"]
    parts = [(name, what, ledger[name]) for name, what in LEDGER.items() if name in ledger]
    return [(name, what, f"{size:,}", percent(size / total, 1)) for name, what, size in parts]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table; columns of numbers are right-aligned."""
    numeric = [bool(rows) and all(row[i][:1] in "0123456789+-–" for row in rows) for i in range(len(head))]
    lines = [head, [("---:" if right else "---") for right in numeric], *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines)


def percent(share: float | None, digits: int = 2) -> str:
    """A share in 0..1 as a percentage; a dash for none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
