"""Running a network so that the answer depends on nothing else: without compilers, from one seed."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import nn

from compression.errors import CompressionError

SEED = 0


class DoesNotRun(CompressionError):
    """A network raises an error on the example inputs."""


@contextmanager
def repeatable(model: nn.Module) -> Iterator[None]:
    """Inside, random numbers are drawn from one seed and compiled parts run as written; afterwards all is as before."""
    devices = sorted({x.device.index for x in model.parameters() if x.is_cuda})
    python, arrays = random.getstate(), np.random.get_state()
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # nothing has been compiled otherwise, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.random.fork_rng(devices))
        torch.default_generator.manual_seed(SEED)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(SEED)
        random.seed(SEED)
        np.random.seed(SEED)
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)


@contextmanager
def in_mode(model: nn.Module, training: bool = False) -> Iterator[None]:
    """All modules of a model in evaluation mode (or training mode) meanwhile; each is as before afterwards."""
    before = {module: module.training for module in model.modules()}
    try:
        for module in before:
            module.training = training
        yield
    finally:
        for module, mode in before.items():
            module.training = mode


def evaluating(model: nn.Module) -> nn.Module:
    """The model in evaluation mode; an exported program, which has no modes, as it is."""
    try:
        model.eval()
    except NotImplementedError:  # torch.export: the mode is part of the program
        return model
    return model
