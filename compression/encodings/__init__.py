"""How quantized weights are represented: one module per kind stores, counts, cuts, exports and decodes it."""

from compression.encodings.base import Arrays, Encoding, Layout
from compression.encodings.onnx_form import OnnxForm
from compression.encodings.registry import all_encodings, cut_weights, get, register, size_of

__all__ = ["Arrays", "Encoding", "Layout", "OnnxForm", "all_encodings", "cut_weights", "get", "register", "size_of"]
