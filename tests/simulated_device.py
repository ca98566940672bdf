"""A second device on the CPU: tensors that say they are elsewhere, may not meet others, and tell when they are read.

It computes what the CPU computes, bit for bit, so that a run on it must give the same result; what an accelerator would
refuse (operations on tensors of two devices, ``numpy()``) it refuses; and it counts what would make the program wait
for an accelerator: reading numbers, operations whose shape depends on values, and copies that are not asynchronous.

Importing this module changes torch for the whole process, so tests import it in one of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

from compression.quant import attachable, midrise, op, together

NAME = "elsewhere"
ELSEWHERE, CPU = torch.device("privateuseone", 0), torch.device("cpu")


class _Backend(_DummyBackendModule):
    """``torch.elsewhere``; random numbers of the device are those of the CPU."""

    def get_rng_state(self, device: torch.device) -> torch.Tensor:
        assert device == ELSEWHERE
        return torch.zeros(16, dtype=torch.uint8)

    def set_rng_state(self, state: torch.Tensor, device: torch.device) -> None:
        assert (state.shape, device) == ((16,), ELSEWHERE)


# Before autograd starts its threads, one for each device
_setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())
REFUSED: set[torch.dtype] = set()
"""Types that the device does not have."""
INDEXED = ("aten::index.Tensor", "aten::index_put_", "aten::_index_put_impl_")
COPIES = ("aten::copy_", "aten::_to_copy", "aten::_foreach_copy_")
VALUES = ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal", "aten::masked_select", "aten::_unique2",
          "aten::is_nonzero", "aten::bincount")  # fmt: skip


class Waits:
    """What made the program wait since the last :meth:`clear`: operation → how often."""

    def __init__(self) -> None:
        self.counted: Counter[str] = Counter()

    def clear(self) -> None:
        self.counted.clear()


WAITS = Waits()


class Elsewhere(torch.Tensor):
    """A tensor of the second device, whose values are those of ``held``."""

    held: torch.Tensor

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> Elsewhere:
        tensor: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=ELSEWHERE, requires_grad=False,
        )  # fmt: skip
        tensor.held = inner
        return tensor

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.held})"

    def tolist(self) -> Any:
        WAITS.counted["tolist"] += 1
        return self.held.tolist()

    def numpy(self, *, force: bool = False) -> Any:
        raise TypeError("can't convert a tensor of another device to numpy: use Tensor.cpu() first")

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return _carried_out(func, args, kwargs or {})


class _Everywhere(TorchDispatchMode):
    """Tensors that are created on the second device have no tensor of it among their arguments."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        return _carried_out(func, args, kwargs or {})


def _mapped(value: Any, change: Any) -> Any:
    """What an operation takes or gives, with ``change`` of each tensor: much faster than torch's map of any tree."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, (tuple, list)):
        return type(value)([_mapped(each, change) for each in value])
    if isinstance(value, dict):
        return {name: _mapped(each, change) for name, each in value.items()}
    return value


def _carried_out(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    name, tensors, inner = func.name(), [], []

    def plain(tensor: torch.Tensor) -> torch.Tensor:
        tensors.append(tensor)
        inner.append(tensor.held if isinstance(tensor, Elsewhere) else tensor)
        return inner[-1]

    inner_args, inner_kwargs = _mapped(args, plain), _mapped(kwargs, plain)
    elsewhere = [isinstance(tensor, Elsewhere) for tensor in tensors]
    if name in INDEXED and elsewhere[0] and not all(elsewhere):  # an accelerator fetches indices from the CPU
        WAITS.counted["index from the CPU"] += 1
    elif any(elsewhere) and not all(elsewhere) and name not in COPIES:
        for tensor, there in zip(tensors, elsewhere, strict=True):
            if not there and (tensor.dim() > 0 or name.startswith("aten::cat")):
                shapes = [(tuple(t.shape), str(t.device)) for t in tensors]
                raise RuntimeError(f"Expected all tensors to be on the same device ({name}: {shapes})")
    target, device = any(elsewhere), kwargs.get("device")
    if device is not None:
        target = torch.device(device).type == ELSEWHERE.type
        inner_kwargs["device"] = CPU
    if name in COPIES and any(elsewhere):
        target = elsewhere[0] if name != "aten::_to_copy" else target
    _count_waits(name, args, kwargs, elsewhere, target)
    result = func(*inner_args, **inner_kwargs)
    if not target:
        return result
    known = {id(held): tensor for tensor, held in zip(tensors, inner, strict=True) if tensor is not held}

    def there(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.dtype in REFUSED:
            raise TypeError(f"Cannot convert a tensor of this device to {tensor.dtype} ({name})")
        return known[id(tensor)] if id(tensor) in known else Elsewhere(tensor)

    return _mapped(result, there)


def _count_waits(name: str, args: Any, kwargs: dict[str, Any], elsewhere: list[bool], target: bool) -> None:
    if name in VALUES and any(elsewhere):
        WAITS.counted[name] += 1
    if name == "aten::_to_copy" and target != any(elsewhere) and not kwargs.get("non_blocking"):
        WAITS.counted["to the device" if target else "from the device"] += 1
    if name == "aten::copy_" and len(set(elsewhere)) > 1 and not (len(args) > 2 and args[2]):
        WAITS.counted["copy_"] += 1
    if name in INDEXED and any(elsewhere):
        masks = [each for each in args[1] if each is not None and each.dtype is torch.bool]
        WAITS.counted["index by a mask"] += len(masks)


def _from_cpu(factory: Any) -> Any:
    """torch makes tensors of numbers without asking a dispatch mode: made on the CPU and copied from there."""

    def create(data: Any, *, device: Any = None, **options: Any) -> torch.Tensor:
        tensor = data if isinstance(data, torch.Tensor) else factory(data, **options)
        target = tensor.device if device is None else device
        return tensor.to(target, options.get("dtype") or tensor.dtype)

    return create


@contextmanager
def _as_plain_tensors() -> Iterator[None]:
    """Where the library asks whether a tensor is a plain one, those of the second device are."""
    problem = attachable._problem

    def unobserved(_: torch.Tensor) -> bool:
        return True

    with (
        mock.patch.object(torch, "tensor", _from_cpu(torch.tensor)),
        mock.patch.object(torch, "as_tensor", _from_cpu(torch.as_tensor)),
        mock.patch.object(op, "unobserved", unobserved),
        mock.patch.object(together, "unobserved", unobserved),
        mock.patch.object(midrise, "unobserved", unobserved),
        mock.patch.object(attachable, "_problem", lambda weight: problem(getattr(weight, "held", weight))),
    ):
        yield


@contextmanager
def simulated(refused: Collection[torch.dtype] = ()) -> Iterator[torch.device]:
    """The second device exists within the block; it has no tensors of the ``refused`` types."""
    before = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    WAITS.clear()
    REFUSED.update(refused)
    try:
        with _Everywhere(), _as_plain_tensors():
            yield ELSEWHERE
    finally:
        REFUSED.clear()
        torch.__future__.set_swap_module_params_on_conversion(before)
