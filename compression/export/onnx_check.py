"""ONNX Runtime compared with torch on real data: equal decisions, scores, and the largest difference of an answer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from compression.data import Batches
from compression.export.program import NotExpressible
from compression.tasks import Metric, Task

IMAGES, FEWEST, MOST_MACS = 512, 64, 1e11
PRECISION = "session.qdq_matmulnbits_accuracy_level"
BATCH = 64


@dataclass(frozen=True)
class Agreement:
    """``same``: share of ``images`` (examples of the test split) with the same decision, ``None`` where the task makes
    none; ``difference``: the largest of any answer; ``score`` and ``torch_score``: on these examples.

    ``precise`` is the difference where the runtime must not round the other operand of integer weights (see
    :func:`session`).
    """

    images: int
    same: float | None
    difference: float
    precise: float
    score: float
    torch_score: float

    def to_dict(self, metric: Metric) -> dict[str, Any]:
        """JSON values; the scores are there by the metric's name, too."""
        named = {metric.name: self.score, f"torch_{metric.name}": self.torch_score}
        return {**dataclasses.asdict(self), "metric": metric.name, **named}


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
    """Outputs of the ONNX model (the first, if it has several), fp32 [B, outputs, …]."""
    runner = session(data, torch.get_num_threads(), precise=precise)
    name = runner.get_inputs()[0].name
    parts = [runner.run(None, {name: part.numpy()})[0] for part in images.split(BATCH)]
    return np.concatenate(parts)


@dataclass(frozen=True, eq=False)
class Reference:
    """Torch's ``answers`` [n, outputs, …] to ``inputs`` [n, …], and the ``truth`` [n, …] of the task."""

    task: Task
    inputs: torch.Tensor
    truth: torch.Tensor
    answers: torch.Tensor


@torch.no_grad()
def reference(model: nn.Module, task: Task, macs: float = 0.0) -> Reference:
    """The outputs of ``model`` for the first test examples: 512 of them, fewer where one takes many ``macs``."""
    limit = IMAGES if macs <= 0 else max(FEWEST, min(IMAGES, int(MOST_MACS / macs)))
    batches = list(Batches(task.data, "test", BATCH, augment=False, limit=task.count("test", limit)))
    inputs, truth = (torch.cat([batch[i] for batch in batches]) for i in (0, 1))
    return Reference(task, inputs, truth, torch.cat([task.answer(model, part) for part in inputs.split(BATCH)]))


def compare(data: bytes, expected: Reference) -> Agreement:
    """Compare an ONNX file with torch."""
    own = torch.from_numpy(answers(data, expected.inputs))
    exact = torch.from_numpy(answers(data, expected.inputs, precise=True)) if b"MatMul" in data else own
    return Agreement(
        images=len(expected.truth),
        same=expected.task.same(own, expected.answers),
        difference=float((own - expected.answers).abs().max()),
        precise=float((exact - expected.answers).abs().max()),
        score=_score(expected, own),
        torch_score=_score(expected, expected.answers),
    )


def _score(expected: Reference, answers: torch.Tensor) -> float:
    scorer = expected.task.scorer()
    scorer.add(answers, expected.truth)
    return scorer.result().score
