"""Recording one forward pass of a network, on the meta device where that works."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.utils._pytree import tree_flatten

from compression.graph import user_frame
from compression.graph.copies import deep_copy, meta_copy
from compression.graph.inputs import Inputs
from compression.graph.names import canonical, is_quantizer_name
from compression.graph.recorder import Recorder
from compression.graph.recording import Recording
from compression.graph.running import DoesNotRun, evaluating, repeatable


def record(model: nn.Module, inputs: Inputs, *, on_values: bool = False) -> Recording:
    """Run the model once, in evaluation mode, and write down every ATen operation.

    The model itself is not touched: a copy without storage runs on the meta device; a model that looks at tensor values
    is run once on a real copy instead, and so is any other ``on_values``.

    Raises:
        CompressionError: the model does not run on these inputs (DoesNotRun), or cannot be copied.
    """
    unlike = ""
    with repeatable(model):
        if not on_values:
            twin = meta_copy(model)
            try:
                return _record(twin, inputs.map(lambda tensor: tensor.to("meta")))
            except Exception as error:  # data-dependent or without a meta kernel: the real run shows what is wrong
                unlike = user_frame.location(error) or user_frame.first_line(error)
        real = deep_copy(model)
        try:
            recording = _record(real, inputs.map(torch.clone))
        except Exception as error:  # whatever a user's forward() raises is the answer
            raise _refusal(error, real, inputs) from error
    recording.values_read = unlike
    return recording


_WRONG_INPUTS = (AssertionError, IndexError, RuntimeError, TypeError, ValueError)  # what unfit inputs lead to


def _refusal(error: Exception, model: nn.Module, inputs: Inputs) -> DoesNotRun:
    """What a user's forward() raised, where, and what to change."""
    where = user_frame.location(error)
    advice = "mend that line"
    if isinstance(error, _WRONG_INPUTS):
        advice = "give example inputs of the number, shapes and types that forward() takes, or mend that line"
    if any(tensor.is_meta for tensor in model.parameters()):
        advice = "load its weights first: parameters are on the meta device, which holds no values"
    message = f"the model does not run on inputs of shape {inputs.shapes}: {user_frame.first_line(error).rstrip('.')}"
    return DoesNotRun(f"{message}{f', at {where}' if where else ''}; {advice}")


def _record(model: nn.Module, inputs: Inputs) -> Recording:
    """Record a copy of a model, which stays marked with the recorder's hooks."""
    recording = Recording(switched=_switched(model))
    evaluating(model)
    recorder = Recorder(recording)
    scripted: dict[nn.Module, str] = {}
    for name, module in model.named_modules():
        recording.modules[name] = type(module).__name__
        if all(child in ("parametrizations", "input_quantizer") for child, _ in module.named_children()):
            recording.leaves.add(name)
        if isinstance(module, torch.jit.ScriptModule):
            scripted[module] = name
        elif name and not is_quantizer_name(f"{name}."):
            _follow(module, name, recorder)
    parameters = dict(model.named_parameters(remove_duplicate=False))
    first: dict[int, str] = {}
    for name, parameter in parameters.items():
        known = first.setdefault(id(parameter), name)
        if known == name:
            _enter(recording, recorder, recording.parameters, name, parameter)
        else:
            recording.shared[canonical(name)] = canonical(known)
    for name, buffer in model.named_buffers():
        _enter(recording, recorder, recording.buffers, name, buffer)
    recording.inputs = [recorder.ref(x) for x in inputs.tensors]
    with _following(scripted, recorder), _plain_attention(), torch.no_grad(), recorder:
        result = inputs.call(model)
    leaves, recording.structure = tree_flatten(result)
    recording.returned = type(result).__name__
    recording.outputs = [recorder.ref(value) for value in leaves if isinstance(value, torch.Tensor)]
    recording.complete = len(leaves) == len(recording.outputs)
    now = dict(model.named_parameters(remove_duplicate=False))
    for name, parameter in parameters.items():
        last = now.get(name, parameter)
        ref = recorder.ref(last)
        if last is not parameter or id(parameter) in recorder.exchanged or name not in now:
            recording.replaced[canonical(name)] = ref
    return recording


def _switched(model: nn.Module) -> list[str]:
    """Parameters that a change between training and evaluation writes to (adapters that are merged and taken out)."""
    if all(type(module).train is nn.Module.train for module in model.modules()):
        return []
    recording = Recording()
    recorder = Recorder(recording)
    parameters = {canonical(name): (x, recorder.enter(x).id) for name, x in model.named_parameters()}
    try:
        with torch.no_grad(), recorder:
            model.train()
            model.eval()
    except Exception:  # a model made for inference only is never switched
        return []
    writes = [write for call in recording.calls for write in call.writes]
    written = {ref.id for write in writes for ref in (write.before, *write.aliases)}
    exchanged = {name for name, (parameter, first) in parameters.items() if recorder.ref(parameter).id != first}
    return [name for name, (_, first) in parameters.items() if first in written or name in exchanged]


def _enter(recording: Recording, recorder: Recorder, table: dict[int, str], name: str, tensor: torch.Tensor) -> None:
    ref = recorder.enter(tensor)
    recording.paths[ref.id] = name
    if is_quantizer_name(name) and canonical(name) == name:
        if table is recording.parameters and tensor.numel() > 1:  # a step per channel is cut with its channel
            recording.buffers[ref.id], recording.buffer_sizes[name] = name, tuple(tensor.shape)
        return  # a quantizer's scalars and masks are no part of the network
    if tensor.is_floating_point() and tensor.element_size() == 1:
        recording.uncuttable.append(canonical(name))
    table[ref.id] = canonical(name)
    sizes = recording.sizes if table is recording.parameters else recording.buffer_sizes
    sizes[canonical(name)] = tuple(tensor.shape)


def _follow(module: nn.Module, path: str, recorder: Recorder) -> None:
    """Keep ``recorder.path`` at the innermost running module; quantizers do not count as modules."""

    def on_enter(*_: Any) -> None:
        recorder.path.append(path)

    def on_leave(*_: Any) -> None:
        recorder.path.pop()

    module.register_forward_pre_hook(on_enter, prepend=True)
    module.register_forward_hook(on_leave)


@contextmanager
def _following(scripted: dict[nn.Module, str], recorder: Recorder) -> Iterator[None]:
    """The same for TorchScript modules, which accept no hooks: by hooks on every module of the process."""
    if not scripted:
        yield
        return

    def on_enter(module: nn.Module, *_: Any) -> None:
        if module in scripted:
            recorder.path.append(scripted[module])

    def on_leave(module: nn.Module, *_: Any) -> None:
        if module in scripted:
            recorder.path.pop()

    before, after = register_module_forward_pre_hook(on_enter), register_module_forward_hook(on_leave)
    try:
        yield
    finally:
        before.remove()
        after.remove()


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention as single operations, not as one fused kernel without insides."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
