"""ONNX Runtime compared with torch on real data: equal decisions, scores, and the largest difference of an answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import onnxruntime
import torch
from numpy.typing import NDArray
from torch import nn

from compression.data import Batches
from compression.export.program import NotExpressible
from compression.graph.inputs import Example, Inputs
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
        return {**dataclasses.asdict(self), "metric": metric.to_dict(), **named}


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


def feed(runner: Any, x: Example) -> dict[str, NDArray[Any]]:
    """What a session takes for a batch: keyword arguments by their names, positional ones in their order."""
    names = [given.name for given in runner.get_inputs()]
    if isinstance(x, Mapping) and set(names) <= x.keys():
        return {name: x[name].numpy() for name in names}
    return {name: tensor.numpy() for name, tensor in zip(names, Inputs.read(x).tensors, strict=True)}


def answers(data: bytes, batches: Iterable[Example], *, precise: bool = False) -> list[torch.Tensor]:
    """Outputs of the ONNX model (the first, if it has several) for each batch, fp32 [B, outputs, …]."""
    runner = session(data, torch.get_num_threads(), precise=precise)
    return [torch.from_numpy(runner.run(None, feed(runner, x))[0]) for x in batches]


@dataclass(frozen=True, eq=False)
class Reference:
    """Torch's ``answers`` [B, outputs, …] to batches of ``inputs``, and the ``truth`` of each."""

    task: Task
    inputs: list[Example]
    truth: list[Any]
    answers: list[torch.Tensor]


@torch.no_grad()
def reference(model: nn.Module, task: Task, macs: float = 0.0) -> Reference:
    """The outputs of ``model`` for the first test examples: 512 of them, fewer where one takes many ``macs``."""
    limit = IMAGES if macs <= 0 else max(FEWEST, min(IMAGES, int(MOST_MACS / macs)))
    batches = list(Batches(task.data, "test", BATCH, augment=False, limit=task.count("test", limit)))
    return Reference(
        task, [x for x, _ in batches], [y for _, y in batches], [task.answer(model, x) for x, _ in batches]
    )


def compare(data: bytes, expected: Reference) -> Agreement:
    """Compare an ONNX file with torch."""
    own = answers(data, expected.inputs)
    exact = answers(data, expected.inputs, precise=True) if b"MatMul" in data else own
    together = torch.cat(expected.answers)
    return Agreement(
        images=len(together),
        same=expected.task.same(torch.cat(own), together),
        difference=float((torch.cat(own) - together).abs().max()),
        precise=float((torch.cat(exact) - together).abs().max()),
        score=_score(expected, own),
        torch_score=_score(expected, expected.answers),
    )


def _score(expected: Reference, answers: list[torch.Tensor]) -> float:
    scorer = expected.task.scorer()
    for answer, truth in zip(answers, expected.truth, strict=True):
        scorer.add(answer, truth)
    return scorer.result().score
