"""Before a run takes its first step, a trial cut shows that its units can be removed; if not, the groups are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from compression.budget import Budget
from compression.errors import CompressionError
from compression.graph import Step, Value, prove, trace
from compression.graph.rules import registry
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.store import Store
from compression.runs.submit import new_spec
from compression.zoo import build, weights

ROWS = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))


class Turned(nn.Module):
    """Three layers, with the units of the second one in reverse order where the third reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))).flip(-1))


def first_operand(step: Step) -> Value:
    """A wrong rule: units stay where they are in the first operand, whatever else is done to them."""
    return step.output(*step.args[0].factors)


def test_a_right_graph_is_proved_and_nothing_is_left_behind() -> None:
    torch.manual_seed(0)
    model = Turned().train()
    graph, state = trace(model, ROWS), {name: tensor.clone() for name, tensor in model.state_dict().items()}
    before = torch.get_rng_state()
    prove(model, graph)
    prove(model, graph, ROWS)
    assert torch.equal(before, torch.get_rng_state()) and model.training
    assert all(torch.equal(state[name], tensor) for name, tensor in model.state_dict().items())


def test_a_wrong_promise_is_refused_and_only_its_group_named(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = Turned()
    trace(model, ROWS)  # loads the rules
    monkeypatch.setitem(registry._RULES, "aten.flip", first_operand)
    graph = trace(model, ROWS)
    assert [group.id for group in graph.prunable] == ["a", "b"]
    with pytest.raises(
        CompressionError, match=r"^units of b cannot be removed.*differs from the masked.*\[0, 0\]"
    ) as caught:
        prove(model, graph)
    assert "\n" not in str(caught.value)
    prove(model, graph, without=["b"])


def test_units_that_are_zero_already_leave_something_to_try() -> None:
    torch.manual_seed(0)
    model = Turned()
    with torch.no_grad():
        for layer in (model.a, model.b):
            layer.weight[:-1] = 0
            layer.bias[:-1] = 0
    prove(model, trace(model, ROWS))


@pytest.mark.parametrize("method", ["sequential", "magnitude"])
def test_a_run_is_refused_before_its_first_step(method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("resnet8", seed=0)
    trace(model, torch.zeros(1, 1, 28, 28))
    monkeypatch.setitem(registry._RULES, "aten.add", first_operand)  # a residual add that ties nothing
    file = weights.save(model, tmp_path / "initial.safetensors", {})
    budget = Budget(method=method, weights=str(file), epochs=0.02, precision="fp32", bits=5)
    folder = RunFolder.create(tmp_path / "runs", new_spec(budget, Store(tmp_path / "runs")))
    status = carry_out(folder, execute)
    steps = [event for event in folder.events() if event["kind"] in ("step", "phase")]
    if method == "magnitude":  # removes no units
        assert status == "done" and steps
        return
    assert status == "failed" and not steps
    error = folder.log_path.read_text(encoding="utf-8") + folder.events_path.read_text(encoding="utf-8")
    assert "cannot be removed from this model, as a trial before the first step shows" in error
    assert "layer2.0" in error
