"""Measure the milliseconds of lesson 9: ResNet-20 dense, slim, and slim with 4-bit weights, in ONNX Runtime.

    python assets/lessons/latency.py            writes assets/lessons/latency.json

The channels are those that a run of the gallery removed. Times do not depend on the values of
weights, so seeded ones do.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import torch  # noqa: E402

from compression import zoo  # noqa: E402
from compression.counting.cost import cost  # noqa: E402
from compression.export import latency  # noqa: E402
from compression.export.onnx_model import floats, integers  # noqa: E402
from compression.export.program import traced  # noqa: E402
from compression.graph import slim, trace, zero_units  # noqa: E402
from compression.quant.attach import quantize  # noqa: E402
from compression.quant.integers import fold, integer_weights  # noqa: E402

MODEL, INPUT, CLASSES, BITS = "resnet20", (3, 32, 32), 10, 4
RUN = "resnet20-cifar10jpeg/tuned-seed1"


def main() -> None:
    """Build the three variants, time them in alternating rounds, write what was measured."""
    torch.set_num_threads(1)
    dense = zoo.build(MODEL, INPUT, CLASSES, seed=0).eval()
    graph = trace(dense, torch.zeros(1, *INPUT))
    result = json.loads((HERE.parent / "gallery" / RUN / "result.json").read_text(encoding="utf-8"))
    units = result["units"]
    masked = zoo.build(MODEL, INPUT, CLASSES, seed=0).eval()
    zero_units(masked, graph, units)
    small = slim(masked, graph)
    quantize(small, weight_bits=BITS)
    plain = fold(small)
    made = floats(traced(plain, INPUT))
    variants = {
        "dense, fp32": floats(traced(dense, INPUT)).data,
        "slim, fp32": made.data,
        f"slim, {BITS}-bit weights": integers(made, integer_weights(small)).data,
    }
    bits = {layer.name: (float(BITS), None) for layer in graph.layers}
    bops = [cost(graph).bops, cost(graph, units).bops, cost(graph, units, bits).bops]
    times = latency.measure(variants, INPUT, dict(zip(variants, bops, strict=True)))
    told = {
        "model": MODEL,
        "run": RUN,
        "variants": [dataclasses.asdict(time) for time in times],
        "processor": dataclasses.asdict(latency.processor()),
        "load": round(os.getloadavg()[0], 1),
    }
    (HERE / "latency.json").write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(told["variants"], indent=1))


if __name__ == "__main__":
    main()
