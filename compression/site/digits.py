"""The networks that classify a visitor's digit: the dense one and the compressed ones of a collection, as ONNX."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import torch

from compression.errors import CompressionError
from compression.export import source as finished
from compression.export.config import activations
from compression.export.onnx_model import floats, integers
from compression.export.program import traced
from compression.export.source import Source
from compression.plots import theme, words
from compression.report import charts
from compression.runs.gallery import Collection, Exhibit
from compression.tasks import Metric

DENSE = "dense.onnx"
SPLIT = "test"
LOOKED_AT = 500  # test images, among which there is an example of each class
Data = dict[str, Any]


@dataclass
class Digits:
    """``data``: what the page needs to know; ``files``: name → ONNX file; ``problems``: runs that are left out."""

    data: Data = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def digits(collection: Collection, runs: Mapping[str, Data], place: str) -> Digits:
    """Every run of the collection whose compressed model is there, and the dense network that all of them came from.

    ``runs``: run → its part of a report, which names it; others are left out. ``place``: the folder of the files, as
    seen from the page.
    """
    result = Digits()
    models: list[Data] = []
    for exhibit in collection.exhibits:
        if not exhibit.whole or exhibit.info.id not in runs:
            continue
        try:
            source = finished.read(exhibit.folder())
            small = compressed_onnx(source)
            if not models:
                result.files[DENSE] = dense_onnx(source)
                result.data = {**_about(source), "dense": _dense(source, f"{place}/{DENSE}", result.files[DENSE])}
        except CompressionError as error:
            result.problems.append(f"{exhibit.info.id}: {error}")
            continue
        name = f"{exhibit.name}.onnx"
        result.files[name] = small
        models.append(_compressed(exhibit, runs[exhibit.info.id], source, f"{place}/{quote(name)}", small))
    if models:
        usual = next((model for model in models if model["name"] == collection.tour), models[0])
        result.data |= {"models": models, "first": usual["id"]}
    return result


def dense_onnx(source: Source) -> bytes:
    """The dense network as an ONNX file with fp32 weights, batch norms folded.

    Raises:
        NotExpressible: an operation that ONNX cannot express.
    """
    return floats(traced(source.dense, source.example)).data


def compressed_onnx(source: Source) -> bytes:
    """The run's network as an ONNX file, with weights as integers and its quantizers of activations: a bundle's.

    Raises:
        NotExpressible: an operation that ONNX cannot express.
    """
    raw = floats(traced(source.model, source.example), activations(source.model))
    return integers(raw, source.integers).data


def _about(source: Source) -> Data:
    """How pictures become inputs, and an example of each class: the first of the test split."""
    data, (_, side, _) = source.data, source.input
    if len(data.mean) != 1:
        raise CompressionError(f"digits are drawn in grey, and {data.name} has {len(data.mean)} channels")
    split = data.split(SPLIT)
    images, labels = split.take(torch.arange(min(LOOKED_AT, len(split))))
    places = {int(label): place for place, label in reversed(list(enumerate(labels.tolist())))}
    examples = [
        {"label": data.classes[label], "pixels": base64.b64encode(images[place].numpy().tobytes()).decode("ascii")}
        for label, place in sorted(places.items())
    ]
    return {
        "mean": data.mean[0], "std": data.std[0], "side": side, "classes": list(data.classes), "examples": examples
    }  # fmt: skip


def _dense(source: Source, file: str, content: bytes) -> Data:
    return {
        "title": theme.style(theme.DENSE).label, "request": "Before compression: 32-bit floats",
        "method": charts.look(theme.DENSE), **_facts(source, "baseline", file, content),
    }  # fmt: skip


def _compressed(exhibit: Exhibit, run: Data, source: Source, file: str, content: bytes) -> Data:
    return {
        "id": exhibit.info.id, "name": exhibit.name, "title": run["method"]["label"], "request": run["request"],
        "method": run["method"], **_facts(source, "final", file, content),
    }  # fmt: skip


def _facts(source: Source, moment: str, file: str, content: bytes) -> Data:
    """The figures of a network: bytes of its weights' file, of its ONNX file, score, MACs."""
    point, dense = source.result[moment], source.result["baseline"]
    ratio = words.ratio(dense["bytes"] / point["bytes"])
    return {
        "file": file,
        "packed": words.size(point["bytes"]),
        "smaller": "as fp32" if point is dense else f"{ratio} smaller",
        "onnx": words.size(len(content)),
        "score": Metric.from_result(source.result).show(point["score"]),
        "macs": words.count(point["macs"]),
    }
