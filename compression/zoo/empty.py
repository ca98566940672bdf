"""Networks without values: parameters on the meta device, which take no memory and no time to initialize."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.utils.weak import WeakIdKeyDictionary


def empty(make: Callable[[], nn.Module]) -> nn.Module:
    """The network that ``make`` returns, with all its parameters on the meta device.

    Most constructors run on that device as a whole. Those that compute with tensors (RegNet its widths, others their
    dropout rates) need values for everything except the parameters.

    Raises:
        Exception: what ``make`` raises in both cases.
    """
    try:
        with torch.device("meta"):
            return make()
    except Exception:
        with empty_parameters():
            return make()


@contextmanager
def empty_parameters() -> Iterator[None]:
    """Modules constructed in this block by this thread register their parameters on the meta device."""
    thread, replaced = threading.get_ident(), WeakIdKeyDictionary()  # a parameter shared by two modules stays shared

    def emptied(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
        if parameter is None or parameter.is_meta or threading.get_ident() != thread:
            return parameter
        if parameter not in replaced:
            replaced[parameter] = nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)
        result: nn.Parameter = replaced[parameter]
        return result

    handle = register_module_parameter_registration_hook(emptied)  # type: ignore[arg-type]
    try:
        yield
    finally:
        handle.remove()
