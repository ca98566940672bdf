"""Measure the milliseconds of lesson 9: ResNet-20 dense, slim, and slim with 4-bit weights, in ONNX Runtime.

    python -m lessons.counting.latency            writes latency.json beside this file

The channels are those that a run of the gallery removed. Times do not depend on the values of
weights, so seeded ones do.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import torch

from compression import zoo
from compression.counting.cost import cost
from compression.export import latency
from compression.export.onnx_model import floats, integers
from compression.export.program import traced
from compression.graph import slim, trace, zero_units
from compression.quant.attach import quantize
from compression.quant.integers import fold, integer_weights
from lessons.recorded import GALLERY

MODEL, INPUT, CLASSES, BITS = "resnet20", (3, 32, 32), 10, 4
RUN = "resnet20-cifar10jpeg/tuned-seed1"


def main() -> None:
    """Build the three variants, time them in alternating rounds, write the times."""
    torch.set_num_threads(1)
    dense = zoo.build(MODEL, INPUT, CLASSES, seed=0).eval()
    graph = trace(dense, torch.zeros(1, *INPUT))
    result = json.loads((GALLERY / RUN / "result.json").read_text(encoding="utf-8"))
    units = result["units"]
    masked = zoo.build(MODEL, INPUT, CLASSES, seed=0).eval()
    zero_units(masked, graph, units)
    small = slim(masked, graph)
    quantize(small, weight_bits=BITS)
    plain = fold(small)
    example = graph.example(2)
    exported = floats(traced(plain, example))
    variants = {
        "dense, fp32": floats(traced(dense, example)).data,
        "slim, fp32": exported.data,
        f"slim, {BITS}-bit weights": integers(exported, integer_weights(small)).data,
    }
    bits = {layer.name: (float(BITS), None) for layer in graph.layers}
    bops = [cost(graph).bops, cost(graph, units).bops, cost(graph, units, bits).bops]
    times = latency.measure(variants, dict(zip(variants, bops, strict=True)))
    record = {
        "model": MODEL,
        "run": RUN,
        "variants": [dataclasses.asdict(time) for time in times],
        "processor": dataclasses.asdict(latency.processor()),
        "load": round(os.getloadavg()[0], 1),
    }
    Path(__file__).with_name("latency.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(record["variants"], indent=1))


if __name__ == "__main__":
    main()
