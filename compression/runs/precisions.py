"""The other precisions of a run whose weights are nested: each packed, read back and measured as the final model is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from compression.encodings import cut_weights
from compression.graph import slim_report
from compression.graph.copies import deep_copy
from compression.pack import pack
from compression.pack.restore import restored
from compression.quant import QuantizedWeight, fold, integer_weights
from compression.quant.nested_quantizer import set_widths
from compression.runs.files import sha256
from compression.runs.folder import RunFolder
from compression.runs.paths import make_folder
from compression.runs.prepare import file_point
from compression.training.dense import evaluate
from compression.training.setup import Compressed, Reporter, Setup

FOLDER = "precisions"


def measured(
    folder: RunFolder,
    setup: Setup,
    compressed: Compressed,
    device: torch.device,
    report: Reporter,
    step: int,
    epoch: float,
) -> list[dict[str, Any]]:
    """A test point of every precision, the fewest bits first, whose packed files are left in the bundle's folder.

    Each has ``bits``, the average of a weight, ``widths``, its ``point`` and ``ledger``, and its ``file`` with the
    SHA-256. ``device``: where it is measured; ``step`` and ``epoch``: where the run is.
    """
    make_folder(folder.bundle / FOLDER)
    model, rows = deep_copy(compressed.model).cpu().eval(), []
    for precision in compressed.precisions:
        report.check()
        # 1. The same model at these widths, with the statistics that belong to them
        set_widths(model, precision.widths)
        model.load_state_dict({name: value.cpu() for name, value in precision.norms.items()}, strict=False)
        plain, cut = slim_report(fold(model), setup.graph)
        weights = integer_weights(model)
        # 2. Its file, and what that scores
        bits = _average(weights)
        name = f"{FOLDER}/{bits:.3f}.packed"
        ledger = pack(plain.eval(), folder.bundle / name, cut_weights(weights, setup.graph, cut.units)).to_dict()
        result = evaluate(restored(plain, folder.bundle / name).to(device), setup.task, "test")
        total, metric = ledger["total"], setup.task.metric
        point = file_point(model, setup.graph, metric, result, total, step=step, epoch=epoch, phase="precision")
        report.log(f"{bits:.2f} bits a weight: {metric.show(result.score)} in {total:,} bytes")
        row = {"bits": bits, "widths": dict(precision.widths), "point": point.to_dict(), "ledger": ledger}
        rows.append({**row, "file": name, "sha256": sha256(folder.bundle / name)})
    return rows


def _average(weights: Mapping[str, QuantizedWeight]) -> float:
    sizes = {name: math.prod(weight.shape) for name, weight in weights.items()}
    return sum(weights[name].bits * size for name, size in sizes.items()) / sum(sizes.values())
