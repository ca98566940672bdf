"""Networks in wrappers, TorchScript and odd states, and inputs of every structure: they work, or one line says why not
and what to do."""

from __future__ import annotations

import dataclasses
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph import slim_report, trace, zero_units
from tests.oracle import some_units, tensors
from tests.test_promises import BOTH, ROWS, Net

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def called(model: nn.Module, example: Any) -> list[torch.Tensor]:
    """What the model returns for this example, by the rules of :func:`trace`."""
    with torch.no_grad():
        if isinstance(example, dict):
            return tensors(model(**example))
        return tensors(model(*example) if isinstance(example, (tuple, list)) else model(example))


def check(model: nn.Module, example: Any) -> tuple[dict[str, int], nn.Module]:
    """Cut random units; asserts that nothing changes. The groups' units, and the slim network."""
    graph = trace(model, example)
    zero_units(model, graph, some_units(graph))
    small, report = slim_report(model, graph, example)
    assert report.removed and sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in model.parameters())
    for one, other in zip(called(model, example), called(small, example), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)
    return {group.id: group.units for group in graph.prunable}, small


def convolutions() -> nn.Sequential:
    inner = nn.Sequential(nn.Conv2d(8, 12, 3), nn.BatchNorm2d(12), nn.ReLU())
    return nn.Sequential(nn.Conv2d(3, 8, 3), inner, nn.Conv2d(12, 4, 3)).eval()


def script_a_part() -> nn.Module:
    model = convolutions()
    model[1] = torch.jit.script(model[1])
    return model


def compiled(run: bool, part: bool = False) -> nn.Module:
    model = convolutions()
    if part:
        model[1] = torch.compile(model[1], backend="eager")  # type: ignore[assignment]
    wrapped: Any = model if part else torch.compile(model, backend="eager")
    if run:
        wrapped(IMAGE)
    return wrapped


WRAPPERS: dict[str, Callable[[], nn.Module]] = {
    "scripted part": script_a_part,
    "scripted": lambda: torch.jit.script(convolutions()),
    "traced": lambda: torch.jit.trace(convolutions(), IMAGE),
    "compiled": lambda: compiled(run=False),
    "compiled and run": lambda: compiled(run=True),
    "compiled part": lambda: compiled(run=True, part=True),
    "data parallel": lambda: nn.DataParallel(convolutions()),
    "averaged": lambda: torch.optim.swa_utils.AveragedModel(convolutions()),
    "exported": lambda: torch.export.export(convolutions(), (IMAGE,)).module(),
    "symbolic": lambda: torch.fx.symbolic_trace(convolutions()),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", WRAPPERS)
def test_wrapped_networks_have_the_groups_of_what_is_inside(name: str) -> None:
    torch.manual_seed(0)
    model = WRAPPERS[name]()
    groups, _ = check(model, IMAGE)
    assert list(groups.values()) == [8, 12]


@pytest.mark.filterwarnings("ignore")
def test_operations_of_a_script_module_stand_under_its_path() -> None:
    graph = trace(script_a_part(), IMAGE)
    assert {node.module for node in graph.nodes if node.kind in ("conv", "norm")} == {"0", "1", "2"}
    assert not torch.nn.modules.module._global_forward_hooks and not torch.nn.modules.module._global_forward_pre_hooks


INPUTS: dict[str, tuple[Callable[..., Any], Any]] = {
    "nested": (lambda net, pair: net.plain(pair[0] + pair[1]["y"]), ((ROWS, {"y": ROWS}),)),
    "one dict": (lambda net, batch: net.plain(batch["x"]), ({"x": ROWS},)),
    "list": (lambda net, parts: net.plain(sum(parts)), ([ROWS, ROWS],)),
    "keywords": (lambda net, *, x, y: net.plain(x * y), {"x": ROWS, "y": ROWS}),
    "any keywords": (lambda net, **batch: net.plain(batch["x"]), {"x": ROWS}),
    "others": (lambda net, x, mask, scale, flag: net.plain(x) * scale, (ROWS, None, 2.0, True)),
    "without a batch": (lambda net, x, mix: net.plain(mix @ x), (ROWS, torch.eye(5))),
}


@pytest.mark.parametrize("rebuilt", [False, True])
@pytest.mark.parametrize("name", INPUTS)
def test_inputs_of_every_structure(name: str, rebuilt: bool) -> None:
    torch.manual_seed(0)
    run, example = INPUTS[name]
    net = Net(lambda net, *args, **kwargs: run(Sized(net) if rebuilt else net, *args, **kwargs)).eval()
    groups, small = check(net, example)
    assert groups == BOTH and isinstance(small, torch.fx.GraphModule) == rebuilt


class Sized:
    """The parts of a network with a width written into what they do."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def plain(self, x: torch.Tensor) -> torch.Tensor:
        return self.net.after(self.net.b(self.net.inner(x).view(-1, 16)))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_precisions_need_no_example(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model = convolutions().to(dtype)
    graph = trace(model, IMAGE.to(dtype))
    zero_units(model, graph, some_units(graph))
    small, report = slim_report(model, graph)
    assert report.removed and small(IMAGE.to(dtype)).dtype == dtype
    assert report.equality <= {torch.float64: 1e-12}.get(dtype, 1e-2)


@dataclasses.dataclass
class Result:
    logits: torch.Tensor


def lazily() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.Linear(8, 3))


def sparse() -> nn.Module:
    return Net(Net.plain, mask=nn.Parameter(torch.eye(3).to_sparse()))


def with_a_lock() -> nn.Module:
    net = Net(Net.plain)
    net.lock = threading.Lock()  # type: ignore[assignment]
    return net


REFUSED: dict[str, tuple[Callable[[], nn.Module], Any, str]] = {
    "lazy": (lazily, ROWS, r"0\.weight has no shape yet: run the model once"),
    "sparse": (sparse, ROWS, r"mask is a sparse tensor, .*: make it dense"),
    "lock": (with_a_lock, ROWS, r"cannot be copied because of its attribute lock \(a lock\).*; remove it"),
    "dataclass": (lambda: Net(lambda net, x: Result(net.plain(x))), ROWS, "Result in which no tensor is found"),
    "nothing": (lambda: Net(lambda net, x: None), ROWS, "NoneType in which no tensor is found"),
    "code": (
        lambda: Net(lambda net, x: net.plain(x) * {}["scale"]),
        ROWS,
        r"KeyError: 'scale', at .*; mend that line$",
    ),
    "type": (lambda: Net(Net.plain).half(), ROWS, "number, shapes and types that forward"),
    "keyword": (lambda: Net(lambda net, x: net.plain(x)), {"y": ROWS}, "unexpected keyword argument 'y'"),
    "no tensor": (lambda: Net(Net.plain), ({"x": 3}, "y"), "a tensor or a tuple of tensors .*, not a dict, a str"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_names_the_cause_and_the_way_out(name: str) -> None:
    make, example, message = REFUSED[name]
    with pytest.raises(CompressionError, match=message) as caught:
        trace(make(), example)
    assert "\n" not in str(caught.value)
    assert ("number, shapes and types" in str(caught.value)) == (name in ("type", "keyword"))


def test_a_model_without_values_is_traced_but_not_cut() -> None:
    model = Net(Net.plain).to("meta")
    graph = trace(model, ROWS)
    assert {group.id: group.units for group in graph.prunable} == BOTH
    for call in (lambda: zero_units(model, graph, {"a": [0]}), lambda: slim_report(model, graph, ROWS)):
        with pytest.raises(CompressionError, match=r"a\.weight is on the meta device.*load the model's weights first"):
            call()


def test_a_network_that_does_not_repeat_itself_is_told_from_a_wrong_cut() -> None:
    net = Net(lambda net, x: net.plain(x) + torch.rand(3, generator=Endless.generator)).eval()
    graph = trace(net, ROWS)
    zero_units(net, graph, some_units(graph))
    with pytest.raises(CompressionError, match="does not repeat itself"):
        slim_report(net, graph, ROWS)


class Endless:
    """Random numbers that no copy of a network starts anew."""

    generator = torch.Generator().manual_seed(0)


class Breaks(nn.Module):
    """Refuses to run with fewer columns, in its own way."""

    def __init__(self, error: type[Exception]) -> None:
        super().__init__()
        self.inner, self.error = nn.Linear(16, 12), error

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[-1] != 16 or x.shape[0] != len(ROWS):
            raise self.error("only as it was made")
        return self.inner(x)


@pytest.mark.parametrize("error", [KeyError, AttributeError, ZeroDivisionError, NotImplementedError, MemoryError])
def test_whatever_a_cut_network_raises_becomes_one_refusal(error: type[Exception]) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), Breaks(error), nn.ReLU(), nn.Linear(12, 3)).eval()
    graph = trace(net, ROWS)
    zero_units(net, graph, {"0": [0, 1]})
    _, report = slim_report(net, graph, ROWS)
    assert report.rebuilt and report.removed == {"0": 2}, "its operations are replayed for the batch it takes"
    with pytest.raises(
        CompressionError, match=r"does not run: .*only as it was made.*, in its module 2 on the inputs"
    ) as caught:
        slim_report(net, graph, ROWS[:2])
    assert isinstance(caught.value.__cause__, CompressionError) and isinstance(caught.value.__cause__.__cause__, error)


def test_a_graph_of_another_model_is_refused() -> None:
    graph, other = trace(Net(Net.plain), ROWS), Net(Net.plain)
    other.a, other.b = nn.Linear(6, 4), nn.Linear(4, 12)
    for call in (lambda: zero_units(other, graph, {"a": [9]}), lambda: slim_report(other, graph, ROWS)):
        with pytest.raises(CompressionError, match=r"^a\.weight cannot be .*: was the graph traced from this model\?"):
            call()
    with pytest.raises(CompressionError, match=r"^a\.weight cannot be .*'a\.weight'"):
        zero_units(nn.Linear(6, 3), graph, {"a": [0]})


def test_tracing_and_cutting_leave_random_states_alone() -> None:
    net = Net(lambda net, x: net.plain(x) + torch.rand(3) + random.random()).eval()
    before = torch.get_rng_state(), random.getstate()
    graph = trace(net, ROWS)
    zero_units(net, graph, {"a": [0]})
    slim_report(net, graph, ROWS)
    assert torch.equal(before[0], torch.get_rng_state()) and before[1] == random.getstate()
