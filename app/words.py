"""Texts for people: one plain sentence for each term of the field. Numbers as text: :mod:`compression.plots.words`."""

from __future__ import annotations

from compression.plots.words import (
    MINUS,
    ago,
    between,
    bits,
    count,
    duration,
    milliseconds,
    plural,
    ratio,
    scored,
    shape,
    share,
    signed,
    size,
)  # fmt: skip

__all__ = [
    "CHANCE", "HELP", "MINUS", "ago", "between", "bits", "count", "duration", "milliseconds", "plural", "ratio",
    "scored", "shape", "share", "signed", "size",
]  # fmt: skip

CHANCE = (
    "These weights are no better than an answer that ignores its input: what is compressed from them says nothing. "
    "Train longer, or with another learning rate."
)
HELP = {
    "latency": "Median time for one example with ONNX Runtime on this machine, one thread, the fastest of a run's "
    "exported files; measured while its bundle is made on the Export page.",
    "bops": "Bit operations: multiply-accumulates × weight bits × activation bits. A measure of work that no hardware "
    "colours; they are not milliseconds.",
    "macs": "Multiply-accumulates for one example: the arithmetic of all convolution and linear layers.",
    "bytes": "Size of the file that holds the weights. During a run it is estimated from the entropy of the codes; "
    "at the end it is the packed file, counted.",
    "planned_bytes": "Weights at their bit-widths, everything else in fp32. Packing makes the file smaller still.",
    "equality": "Largest absolute difference between the outputs of the model with zeroed units and the really smaller "
    "one. Anything near 1e-6 is the rounding of fp32.",
    "unit": "One channel (or attention head) together with everything that must go with it.",
    "group": "A minimal set of parameter slices that can only be removed together, made of units.",
}
