"""``MODEL_CARD.md``: what the model is, how it was measured, before and after, and what not to expect of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compression import methods, zoo
from compression.budget import Budget
from compression.data import kind
from compression.export.config import bit_range
from compression.export.findings import measurements, percent, section, table
from compression.preprocess import words

LEDGER = {
    "values": "codes of the weights",
    "positions": "where the zeros are",
    "scales": "steps and offsets of weights, quantizers of activations",
    "leftovers": "kept in fp32: biases, norms, weights without a quantizer",
    "container": "names, shapes, checksum",
    "total": "the file weights.packed",
}
FILES = {
    "budget.json": "what was asked; reproduces the run",
    "config.json": "per layer: kept units, bits, steps; preprocessing",
    "model.safetensors": "slim fp32 weights, every one on its grid",
    "weights.packed": "the same weights as coded integers",
    "model.pt2": "the slim network as a program of plain operations (torch.export), any batch size",
    "model.onnx": "the same network with weights as integer codes",
    "model.int8.onnx": "the same in 8-bit integer arithmetic, missing ranges calibrated",
    "model.fp32.onnx": "the slim network in floats, without quantizers",
    "example.safetensors": "four test inputs as the model takes them, and its answers",
    "load.py": "decodes the weights without this program; loads the network once told to trust it",
}


def text(
    result: Mapping[str, Any],
    about: Mapping[str, Any],
    budget: Mapping[str, Any],
    measured: Mapping[str, Any],
    files: Mapping[str, bytes],
) -> str:
    """The card as Markdown, of a run's result, ``config.json``, its budget, and what was measured at export."""
    parts = [
        _head(about, budget),
        section("Before and after", _comparison(result, about, kind(budget["data"]).one)),
        section("Accuracy per class", _classes(result, about, kind(budget["data"]).many)),
        section("Where the bytes are", _ledger(result["ledger"])),
        *measurements(measured, budget),
        section("Limits", _limits(result, about, budget)),
        section("Files", _files(files) + _left_out(measured.get("left_out", {}))),
        section("Load it", _usage(about["model"] if zoo.is_file(about["model"]) else "", files)),
    ]
    return "\n\n".join(parts) + "\n"


def _head(about: Mapping[str, Any], budget: Mapping[str, Any]) -> str:
    method = methods.get(budget["method"])
    many, size = kind(budget["data"]).many, "x".join(map(str, about["input"]))
    what = f"{many} of {size} tokens" if "tokenizer" in about["preprocessing"] else f"{size} {many}"
    lines = [
        f"# {about['model']}, compressed with {method.info.label}",
        "",
        f"Classifies {what} into {len(about['classes'])} classes. Trained and measured on {about['data']}. "
        f"Run `{about['run']}`.",
        "",
        f"{method.info.label}: {_sentence(method.info.sentence)}",
        "",
        f"Asked for: {method.describe(Budget.from_dict(budget))}. The whole budget is in `budget.json`.",
        "",
        f"Input: {_input(about['preprocessing'])}.",
    ]
    return "\n".join(lines)


def _input(about: Mapping[str, Any]) -> str:
    if "tokenizer" in about:
        return (
            f"token ids of {about['tokenizer']}, both ends marked, filled up with {about['padding']} to "
            f"{about['tokens']}"
        )
    return (
        "pixels scaled to 0..1, minus mean, divided by standard deviation of each channel "
        f"(mean {_numbers(about['mean'])}, deviation {_numbers(about['std'])}){_scaling(about)}"
    )


def _scaling(about: Mapping[str, Any]) -> str:
    """How pictures were scaled and cut before that, where it was said."""
    said = {name: about[name] for name in ("resize", "crop", "interpolation", "range") if name in about}
    return f"; pictures: {words(said)}" if said else ""


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _comparison(result: Mapping[str, Any], about: Mapping[str, Any], one: str) -> str:
    first, last = result["baseline"], result["final"]
    rows = [
        ("size of the weights file", f"{first['bytes']:,.0f} B (fp32)", f"{last['bytes']:,.0f} B (packed)"),
        ("accuracy on the test split", percent(first["accuracy"], 2), percent(last["accuracy"], 2)),
        ("loss on the test split", f"{first['loss']:.4f}", f"{last['loss']:.4f}"),
        (f"MACs for one {one}", f"{first['macs']:,.0f}", f"{last['macs']:,.0f}"),
        (f"BOPs for one {one}", f"{first['bops']:,.0f}", f"{last['bops']:,.0f} ({percent(last['rel_bops'], 2)})"),
        ("units removed", "0 %", percent(last["unit_sparsity"], 1)),
        ("weights at zero, removed ones included", "0 %", percent(last["weight_sparsity"], 1)),
        ("bits a weight", "32", _bits(about, "weight")),
        ("bits an activation", "32", _bits(about, "activation")),
    ]
    return table(("", "dense", "compressed"), rows)


def _bits(about: Mapping[str, Any], side: str) -> str:
    found = bit_range(about["layers"], side)
    if found is None:
        return "32"
    low, high, count = found
    return f"{low}" if low == high else f"{low} to {high} ({count} layers)"


def _classes(result: Mapping[str, Any], about: Mapping[str, Any], many: str) -> str:
    before, after = (per_class(result["confusion"][name]) for name in ("baseline", "final"))
    counts = [sum(row) for row in result["confusion"]["final"]]
    rows = [
        (name, f"{count}", percent(one, 1), percent(two, 1), _points(one, two))
        for name, count, one, two in zip(about["classes"], counts, before, after, strict=True)
    ]
    return table(("class", f"test {many}", "dense", "compressed", "points"), rows)


def _points(one: float | None, two: float | None) -> str:
    return "–" if one is None or two is None else f"{100 * (two - one):+.1f}"


def per_class(confusion: Sequence[Sequence[int]]) -> list[float | None]:
    """Share of each class's images classified rightly; ``None`` for a class without images (rows: true class)."""
    return [row[index] / sum(row) if sum(row) else None for index, row in enumerate(confusion)]


def _ledger(ledger: Mapping[str, int]) -> str:
    total = ledger["total"]
    rows = [(name, what, f"{ledger[name]:,}", percent(ledger[name] / total, 1)) for name, what in LEDGER.items()]
    return table(("part", "", "bytes", "share"), rows)


def _limits(result: Mapping[str, Any], about: Mapping[str, Any], budget: Mapping[str, Any]) -> str:
    lines = [
        f"Accuracy was measured on {about['data']} only; other {kind(budget['data']).many} may do worse, and per "
        "class the change differs (see above).",
        "BOPs are a count of bit operations, not milliseconds.",
    ]
    lines += methods.get(budget["method"]).caveats(result)
    if about["multiple"] > 1:
        lines.append(
            f"Channel counts were rounded up to multiples of {about['multiple']}: some channels of the run's model "
            "are there and zero; it answers the same."
        )
    if about["rebuilt"]:
        lines.append("The slim network is a graph of plain operations for this input size, any batch size.")
    return "\n".join(f"- {line}" for line in lines)


def _files(files: Mapping[str, bytes]) -> str:
    rows = [(f"`{name}`", f"{len(files[name]):,}", what) for name, what in FILES.items() if name in files]
    return table(("file", "bytes", ""), rows)


def _left_out(reasons: Mapping[str, str]) -> str:
    """What could not be written for this network, and why."""
    return "".join(f"\n\nWithout {name}: {why}." for name, why in reasons.items())


def _usage(own_code: str, files: Mapping[str, bytes]) -> str:
    given = ", model=your_function" if own_code else ""
    lines = [
        "With the folder of the program that made it on Python's path (`PYTHONPATH`) and its packages installed:",
        "",
        "```python",
        "import compression as cx",
        "",
        f'model = cx.load("bundle.zip"{given})  # the slim network, in evaluation mode',
        "```",
        "",
        "That runs no code of the bundle: the weights come from `weights.packed`, the network is built here"
        + (f", by the code that you pass: the function of `{own_code}`, or the dense module." if own_code else "."),
        "",
        "Without that program: `python load.py` (torch, numpy, safetensors, constriction) decodes and compares the "
        "weights, `load(module)` puts them into a module of yours.",
    ]
    if "model.pt2" in files:
        lines += [
            "",
            "**Reading `model.pt2` can run code of whoever made the bundle.** Nothing reads it unless you say that you "
            "trust the bundle: `python load.py --trust`, `load(trust=True)`, `cx.load(…, trust=True)`.",
        ]
    lines += [
        "",
        "`budget.json` and `config.json` can be opened on the Budget page, or carried out again: "
        "`python -m compression run --config budget.json`. They name files without folders: say where yours are "
        "(`--model`, `--data`, `--weights`).",
    ]
    return "\n".join(lines)


def _numbers(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.4f}" for value in values)
