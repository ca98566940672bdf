"""Quantizers: learnable and fixed, attached to any model's layers, and read back as integers."""

from compression.quant.attach import activation_quantizers
from compression.quant.attach import attach_input_quantizers
from compression.quant.attach import quantize
from compression.quant.integers import IntegerWeight
from compression.quant.integers import WeightQuantizer
from compression.quant.integers import fold
from compression.quant.integers import integer_weights
from compression.quant.integers import quantizer_of
from compression.quant.integers import weight_quantizers
from compression.quant.plain import written_out
from compression.quant.quantizer import Quantizer

__all__ = [
    "IntegerWeight",
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
