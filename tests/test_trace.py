"""Tracing as a user meets it: bad input is reported in one line with its place, values, dead ends, memory."""

import subprocess
import sys
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compression.errors import CompressionError
from compression.graph import Code, Reason, slim_report, trace, zero_units
from tests.oracle import check_removal

ROWS = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))


class Wrong(nn.Module):
    """Its second layer expects what the first does not give."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 5), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        return self.head(x)  # the line to be named


def line_of(text: str) -> int:
    with open(__file__, encoding="utf-8") as stream:
        return next(number for number, line in enumerate(stream, 1) if text in line)


def test_a_failing_forward_names_the_users_line() -> None:
    with pytest.raises(CompressionError) as caught:
        trace(Wrong(), ROWS)
    error = str(caught.value)
    assert "\n" not in error and "does not run on inputs of shape 2x6: mat1 and mat2 shapes" in error
    assert f"test_trace.py:{line_of('the line to be ' + 'named')} (return self.head(x)" in error
    assert "give example inputs of the number, shapes and types that forward() takes" in error


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((ROWS, ROWS), "does not run on inputs of shape 2x6, 2x6: .*takes 2 positional arguments but 3 were given"),
        (ROWS.long(), "does not run on inputs of shape 2x6: a product of torch.float32 and torch.int64"),
        ((), "a tensor or a tuple of tensors .*, not nothing"),
        (6, "a tensor or a tuple of tensors .*, not a int"),
        (("mask", 3), "a tensor or a tuple of tensors .*, not a str, a int"),
        ({"x": ROWS}, "unexpected keyword argument 'x'"),
    ],
    ids=["too-many", "type", "none", "number", "text", "dict"],
)
def test_wrong_inputs_are_refused_in_one_line(inputs: Any, message: str) -> None:
    with pytest.raises(CompressionError, match=message) as caught:
        trace(nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 2)), inputs)
    assert "\n" not in str(caught.value)


class Asserting(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[-1] == 7, "needs rows of 7"
        return x


def test_an_assertion_of_the_user_is_reported() -> None:
    with pytest.raises(CompressionError, match=r"shape 2x6: needs rows of 7, at test_trace.py:\d+ \(assert x.shape"):
        trace(Asserting(), ROWS)


@pytest.mark.parametrize(
    ("model", "message"), [(nn.Linear, "the class Linear: make one first"), (len, "not a builtin")]
)
def test_what_is_no_module_is_refused(model: Any, message: str) -> None:
    with pytest.raises(CompressionError, match=message):
        trace(model, ROWS)


class Box:
    """Holds a tensor where nobody can see it."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value


class Returning(nn.Module):
    def __init__(self, wrap: Any) -> None:
        super().__init__()
        self.head, self.wrap = nn.Linear(6, 2), wrap

    def forward(self, x: torch.Tensor) -> Any:
        return self.wrap(self.head(x))


@pytest.mark.parametrize(
    ("wrap", "kind"),
    [(Box, "Box"), (lambda x: None, "NoneType"), (lambda x: {"n": 3}, "dict")],
    ids="box none ints".split(),
)
def test_a_module_without_tensor_outputs_is_refused_by_type(wrap: Any, kind: str) -> None:
    with pytest.raises(
        CompressionError, match=rf"returns a {kind} in which no tensor is found.*let it return a tensor"
    ):
        trace(Returning(wrap), ROWS)


class LooksAtValues(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.first(x))
        if float(x.sum()) < -1:  # the look at values
            return x
        return self.head(x)


def test_a_look_at_values_is_run_for_real_and_reported() -> None:
    graph = trace(LooksAtValues(), ROWS)
    assert [group.id for group in graph.prunable] == ["first"]
    line = line_of("the look at " + "values")
    assert graph.values_read.startswith(f"test_trace.py:{line} (if float(x.sum()) < -1")
    assert graph.to_dict()["values_read"] == graph.values_read
    assert trace(nn.Sequential(nn.Linear(6, 2)), ROWS).values_read == ""


class ThrowsAway(nn.Module):
    """Averages over its units and throws the result away, as attention weights nobody asked for are."""

    def __init__(self, keep: bool) -> None:
        super().__init__()
        self.first, self.unused, self.head, self.keep = nn.Linear(6, 5), nn.Linear(5, 3), nn.Linear(5, 2), keep

    def forward(self, x: torch.Tensor) -> Any:
        x = F.relu(self.first(x))
        weights = self.unused(x).softmax(-1) + x.mean(-1, keepdim=True)
        return (self.head(x), weights) if self.keep else self.head(x)


def test_what_nobody_uses_freezes_nothing() -> None:
    graph = trace(ThrowsAway(keep=True), ROWS)
    assert graph.group("first").cause == Reason(Code.mean) and graph.group("first").place == "mean"
    checked = check_removal(ThrowsAway(keep=False), ROWS)
    assert checked.groups == {"first": 5}
    assert not any("unused" in node.id or node.kind == "softmax" for node in checked.graph.nodes)


class WrittenInPlace(nn.Module):
    """The write reaches what is returned only through the storage it shares with."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.other, self.head = nn.Linear(6, 5), nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        view = hidden.view(-1)
        view.add_(self.other(x).view(-1))
        return self.head(F.relu(hidden))


def test_what_is_written_through_a_view_is_used() -> None:
    checked = check_removal(WrittenInPlace(), ROWS)
    assert any(node.id.startswith("other") for node in checked.graph.nodes)


def test_a_parameter_that_is_never_used_may_be_frozen() -> None:
    assert trace(ThrowsAway(keep=False), ROWS, frozen=["unused.weight"]).group("first").prunable


class MadeInside(nn.Module):
    """Joins a tensor with values made inside ``forward``; its sizes are written there too, so it must be replayed."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 8), nn.Linear(8, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cat([torch.tensor([], dtype=x.dtype), self.first(x)], -1) * torch.tensor(3.0, dtype=x.dtype)
        return self.head(x.view(-1, 2, 4).relu().view(-1, 8))


def test_tensors_made_inside_forward_are_replayed_with_their_values() -> None:
    model = MadeInside().double().eval()
    x = ROWS.double()
    graph = trace(model, x)
    group = graph.group("first")
    assert group.prunable
    zero_units(model, graph, {"first": [1]})
    small, report = slim_report(model, graph, x)
    assert report.rebuilt and report.equality <= 1e-12
    torch.testing.assert_close(small(x[:1]), model(x[:1]), rtol=0, atol=1e-12)


BILLION = """
import resource, torch
from torch import nn
from compression.graph import trace
layers = nn.TransformerEncoderLayer(2048, 16, 8192, batch_first=True)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with torch.device("meta"):
    model = nn.TransformerEncoder(nn.TransformerEncoderLayer(2048, 16, 8192, batch_first=True), 20).eval()
graph = trace(model, torch.zeros(1, 8, 2048))
print(graph.params, len(graph.prunable), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_billion_parameters_take_no_memory() -> None:
    done = subprocess.run([sys.executable, "-c", BILLION], capture_output=True, text=True, check=True)
    parameters, groups, grown = map(int, done.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024  # what ru_maxrss counts in
    assert parameters > 1_000_000_000 and groups == 40
    assert grown * unit < 0.2 * 4 * parameters
