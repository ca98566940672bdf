"""``README.md`` of a bundle on the Hub: what its search reads, as YAML, then the model card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from compression import home, methods, tasks, zoo
from compression.errors import CompressionError
from compression.export.card import table
from compression.export.manifest import CHECKSUMS

CARD, MODEL_CARD = "README.md", "MODEL_CARD.md"
PIPELINES = {
    "accuracy": "image-classification",
    "miou": "image-segmentation",
    "map": "object-detection",
    "perplexity": "text-generation",
}
"""Metric → what the Hub calls the task."""
OTHER = "other"


def hub_card(repository: str, files: Mapping[str, bytes]) -> str:
    """The card of a bundle with these files: metadata, how to load it from there, provenance, and its model card."""
    about = json.loads(files["config.json"])
    sums = json.loads(files[CHECKSUMS])["files"] if CHECKSUMS in files else {}
    title, _, body = files[MODEL_CARD].decode().partition("\n")
    header = f"---\n{_metadata(repository, about)}\n---\n"
    return "\n".join([header, title, "", _loading(repository, about), body.strip("\n"), "", _provenance(about, sums)])


def pipeline(about: Mapping[str, Any]) -> str:
    """What the Hub calls the task, from ``config.json``; ``other`` where it has no name for it."""
    name = (about.get("measured") or {}).get("metric")
    if name == "accuracy" and "tokenizer" in about.get("preprocessing", {}):
        return "text-classification"
    return PIPELINES.get(str(name).lower(), OTHER)


def _metadata(repository: str, about: Mapping[str, Any]) -> str:
    """The YAML header; figures as the Hub lists them, those of bundles that name theirs."""
    from huggingface_hub import EvalResult, ModelCardData

    measured, task = about.get("measured"), pipeline(about)
    results = None
    if measured:
        metric = tasks.metric_of({"metric": measured["metric"]})
        value = measured["final"]["score"]
        results = [
            EvalResult(
                task_type=task, dataset_type=about["budget"]["data"], dataset_name=about["data"], dataset_split="test",
                metric_type=metric.name, metric_name=metric.title, metric_value=value,
            )
        ]  # fmt: skip
    known = ModelCardData(
        library_name="compression-explorer",
        tags=["compression-explorer", "model-compression", "quantization", "pruning", about["method"]],
        base_model=_base(about),
        pipeline_tag=None if task == OTHER else task,
        model_name=repository.rpartition("/")[2],
        eval_results=results,
    )
    text: str = known.to_yaml()
    return text


def _base(about: Mapping[str, Any]) -> str | None:
    """The repository of the weights that the run started from, where they were published on the Hub."""
    source = str(about.get("weights") or "")
    return source.removeprefix("hub:") if source.startswith("hub:") else None


def _loading(repository: str, about: Mapping[str, Any]) -> str:
    own = ", model=your_function" if zoo.is_file(about["model"]) else ""
    code = f'import {home.PACKAGE} as cx\n\nmodel = cx.from_pretrained("{repository}"{own})'
    checked = "Every file is compared with `checksums.json`, and no code of the repository is run."
    return f"```python\n{code}\n```\n\n{checked}\n"


def _provenance(about: Mapping[str, Any], sums: Mapping[str, Any]) -> str:
    budget = about["budget"]
    rows = [
        ("run", about["run"]),
        ("method", _method(about["method"])),
        ("seed", str(budget.get("seed"))),
        ("started from", str(about.get("weights") or "–")),
        *((f"{name}", version) for name, version in about["versions"].items()),
        *((f"SHA-256 of {name}", sums[name]["sha256"]) for name in ("weights.packed",) if name in sums),
    ]
    return f"## Provenance\n\n{table(('', ''), rows)}\n"


def _method(name: str) -> str:
    try:
        known = methods.get(name).info
    except CompressionError:  # of a method that is not installed here
        return name
    return f"{known.label} ({known.paper})" if known.paper else known.label
