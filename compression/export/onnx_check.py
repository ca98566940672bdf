"""ONNX Runtime compared with torch on real images: share of equal classes, and the largest difference of a logit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from compression.data import Batches, DataSet
from compression.export.program import NotExpressible

IMAGES, FEWEST, MOST_MACS = 512, 64, 1e11
PRECISION = "session.qdq_matmulnbits_accuracy_level"
BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """``same``: share of ``images`` (test split) with the same class; ``difference``: the largest of any logit.

    ``precise`` is the difference where the runtime must not round the other operand of integer weights (see
    :func:`session`).
    """

    images: int
    same: float
    difference: float
    precise: float
    accuracy: float
    torch_accuracy: float


def session(data: bytes, threads: int = 1, *, precise: bool = False) -> Any:
    """An ONNX Runtime session on the CPU, with this many threads.

    By default the runtime rounds the other operand of a matrix product with integer weights to 8 bits; ``precise``
    keeps it in fp32.

    Raises:
        NotExpressible: ONNX Runtime refuses the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if precise:
        options.add_session_config_entry(PRECISION, "1")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no public base class
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise NotExpressible(f"ONNX Runtime does not run the model: {line}") from error


def answers(data: bytes, images: torch.Tensor, *, precise: bool = False) -> NDArray[np.float32]:
    """Logits of the ONNX model, fp32 [B, classes]."""
    runner = session(data, torch.get_num_threads(), precise=precise)
    name = runner.get_inputs()[0].name
    parts = [runner.run(None, {name: part.numpy()})[0] for part in images.split(BATCH)]
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Reference:
    """Torch's ``logits`` [n, classes] of ``images`` (fp32 [n, C, H, W]), and their ``truth`` [n]."""

    images: torch.Tensor
    truth: torch.Tensor
    logits: torch.Tensor


@torch.no_grad()
def reference(model: nn.Module, dataset: DataSet, macs: float = 0.0) -> Reference:
    """The outputs of ``model`` for the first test images: 512 of them, fewer where one takes many ``macs``."""
    limit = IMAGES if macs <= 0 else max(FEWEST, min(IMAGES, int(MOST_MACS / macs)))
    batches = list(Batches(dataset, "test", BATCH, augment=False, limit=limit))
    images, truth = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
    return Reference(images, truth, torch.cat([model(part) for part in images.split(BATCH)]))


def compare(data: bytes, expected: Reference) -> Agreement:
    """Compare an ONNX file with torch."""
    logits = torch.from_numpy(answers(data, expected.images))
    exact = torch.from_numpy(answers(data, expected.images, precise=True)) if b"MatMul" in data else logits
    return Agreement(
        images=len(expected.truth),
        same=_share(logits.argmax(1) == expected.logits.argmax(1)),
        difference=float((logits - expected.logits).abs().max()),
        precise=float((exact - expected.logits).abs().max()),
        accuracy=_share(logits.argmax(1) == expected.truth),
        torch_accuracy=_share(expected.logits.argmax(1) == expected.truth),
    )


def _share(hits: torch.Tensor) -> float:
    return float(hits.float().mean())
