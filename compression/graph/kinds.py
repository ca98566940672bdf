"""Words for people for the operations of a graph."""

from __future__ import annotations

from compression.graph.recording import Call

_KINDS = {
    "conv": "convolution",
    "linear": "addmm mm linear",
    "matmul": "bmm baddbmm",
    "norm": "native_batch_norm _native_batch_norm_legit_no_training native_layer_norm native_group_norm",
    "add": "add add_ sub",
    "product": "mul mul_ div",
    "concat": "cat stack",
    "pool": "mean max_pool2d_with_indices avg_pool2d _adaptive_avg_pool2d",
    "reshape": "view _unsafe_view permute transpose expand unsqueeze squeeze",
    "split": "select slice split split_with_sizes unbind",
    "softmax": "_softmax _safe_softmax",
    "embedding": "embedding",
    "quantizer": "fake_quantize",
}
KINDS = {op: kind for kind, ops in _KINDS.items() for op in ops.split()}


def kind_of(call: Call) -> str:
    """The word for an operation (``conv``, ``norm``, ``add``, …); the ATen name where there is none."""
    short = call.op.split(".")[1]
    return KINDS.get(short, short.strip("_"))
