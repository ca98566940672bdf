"""Quantizers: learnable and fixed, attached to any model's layers, and read back as integers."""

from compression.quant.attach import activation_quantizers, attach_input_quantizers, quantize
from compression.quant.integers import (
    IntegerWeight,
    QuantizedWeight,
    WeightQuantizer,
    fold,
    integer_weights,
    quantizer_of,
    weight_quantizers,
)
from compression.quant.plain import written_out
from compression.quant.quantizer import Quantizer

__all__ = [
    "IntegerWeight",
    "QuantizedWeight",
    "Quantizer",
    "WeightQuantizer",
    "activation_quantizers",
    "attach_input_quantizers",
    "fold",
    "integer_weights",
    "quantize",
    "quantizer_of",
    "weight_quantizers",
    "written_out",
]
