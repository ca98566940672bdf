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
    shape,
    share,
    signed,
    size,
)  # fmt: skip

__all__ = [
    "CHANCE", "HELP", "MINUS", "ago", "between", "bits", "count", "duration", "milliseconds", "plural", "ratio",
    "shape", "share", "signed", "size",
]  # fmt: skip

CHANCE = (
    "These weights are no better than always answering the largest class: what is compressed from them says nothing. "
    "Train longer, or with another learning rate."
)
HELP = {
    "latency": "Median time for one example with ONNX Runtime on this machine, one thread, the fastest of a run's "
    "exported files; measured while its bundle is made on the Export page.",
    "sparsity_units": "The share of removable channels (units) that are removed. At 50 % half of them are, and the "
    "network is really narrower: K = floor(sparsity × N) of N units.",
    "sparsity_weights": "The share of single weights set to zero. The network keeps its shape; zeros make the packed "
    "file smaller.",
    "weight_bits": "How many bits each remaining weight may take at the end. Every layer learns its own whole number "
    "in this range; fp32 takes 32. b = log2(q_m^t / d + 1) + 1, with step d, clipping bound q_m and exponent t.",
    "activation_bits": "Quantize what flows between layers too, not only the weights. It lowers BOPs further and costs "
    "some accuracy and time.",
    "bits": "The average number of bits per surviving weight. More go to layers where rounding hurts and fewer "
    "elsewhere.",
    "equal_bits": "The bit-width of every layer's weights, first and last like all others; a layer's own bounds come "
    "first. b bits are the 2^b − 1 values k·d with |k| up to 2^(b−1) − 1.",
    "equal_activation_bits": "The bit-width of what flows into every layer.",
    "bops": "Bit operations: multiply-accumulates × weight bits × activation bits. A measure of work that no hardware "
    "colours; they are not milliseconds.",
    "macs": "Multiply-accumulates for one image: the arithmetic of all convolution and linear layers.",
    "bytes": "Size of the file that holds the weights. During a run it is estimated from the entropy of the codes; "
    "at the end it is the packed file, counted.",
    "planned_bytes": "Weights at their bit-widths, everything else in fp32. Packing makes the file smaller still.",
    "equality": "Largest absolute difference between the outputs of the model with zeroed units and the really smaller "
    "one. Anything near 1e-6 is the rounding of fp32.",
    "unit": "One channel (or attention head) together with everything that must go with it.",
    "group": "A minimal set of parameter slices that can only be removed together, made of units.",
}
