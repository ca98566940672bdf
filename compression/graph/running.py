"""Running a network so that the answer depends on nothing else: without compilers, from one seed, nothing left behind."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

SEED = 0


@contextmanager
def repeatable(model: nn.Module) -> Iterator[None]:
    """Inside, random numbers are drawn from one seed and compiled parts run as written; afterwards all is as before."""
    devices = sorted({x.device.index for x in model.parameters() if x.is_cuda})
    python, arrays = random.getstate(), np.random.get_state()  # noqa: NPY002 (a forward pass may use it)
    with ExitStack() as stack:
        if "torch._dynamo" in sys.modules:  # nothing has been compiled otherwise, and importing it takes seconds
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(torch.random.fork_rng(devices))
        torch.default_generator.manual_seed(SEED)
        for device in devices:
            torch.cuda.default_generators[device].manual_seed(SEED)
        random.seed(SEED)
        np.random.seed(SEED)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(arrays)  # noqa: NPY002
