"""An allocation as JSON: it comes back equal, fits the model it was made for, and nonsense is refused by name."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import compression as cx
from compression.errors import CompressionError
from compression.methods.opq import Allocation

GALLERY = Path(__file__).resolve().parents[1] / "assets" / "gallery"
CHOICES: tuple[dict[str, Any], ...] = (
    {}, {"zeros": "rounded"}, {"grid": "survivor"}, {"codebook": "channel"}, {"tables": "laplace", "scope": "layer"},
)  # fmt: skip


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 8, 3), nn.ReLU(), nn.ConvTranspose2d(8, 4, 2), nn.Flatten(), nn.Linear(196, 5))


def saved(**changes: Any) -> dict[str, Any]:
    stored = cx.opq.allocate(network(), 0.5, 4, **changes).to_dict("mine", "random")
    return dict(json.loads(json.dumps(stored)))


@pytest.mark.parametrize("chosen", CHOICES)
def test_it_comes_back_equal_and_gives_the_same_model(chosen: dict[str, Any]) -> None:
    model = network()
    allocation = cx.opq.allocate(model, 0.5, 4, **chosen)
    again = Allocation.from_dict(json.loads(json.dumps(allocation.to_dict("mine", None))))
    assert again == allocation
    x = torch.randn(3, 2, 8, 8)
    first, second = (cx.opq.attach(copy.deepcopy(model), each) for each in (allocation, again))
    assert torch.equal(first(x), second(x))


def test_those_of_earlier_versions_are_read() -> None:
    older = saved()
    for name in ("grid", "codebook", "zeros", "gap", "notes"):
        del older[name]
    for layer in older["layers"]:
        del layer["offset"], layer["scales"], layer["axis"]
    assert Allocation.from_dict(older) == cx.opq.allocate(network(), 0.5, 4)
    recorded = [json.loads(path.read_text()).get("facts", {}) for path in GALLERY.rglob("result.json")]
    allocated = [facts["allocation"] for facts in recorded if "allocation" in facts]
    assert len(allocated) > 20
    assert [Allocation.from_dict(raw).pruned for raw in allocated] == [raw["pruned"] for raw in allocated]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("sparsity",), 1.5, "allocation: sparsity must be less than or equal to 1, not 1.5"),
        (("bits",), True, "allocation: bits must be a valid number, not True"),
        (("layers",), {}, "allocation: layers must be a list"),
        (("layers", 0), 3, "allocation: layers.0 must be an object"),
        (("layers", 0, "bits"), 4.5, "allocation: layers.0.bits must be a whole number, not 4.5"),
        (("layers", 0, "bits"), 17, "layers.0.bits must be less than or equal to 16"),
        (("layers", 1, "step"), 0, "layers.1.step must be greater than 0"),
        (("layers", 1, "step"), float("nan"), "layers.1.step must be a finite number"),
        (("layers", 1, "name"), "0", "'0' is there twice"),
        (("layers", 1, "pruned"), 129, "layers.1.pruned must be at most its numel 128"),
        (("layers", 1, "error"), -1, "layers.1.error must be greater than or equal to 0"),
        (("layers", 1, "offset"), 0.1, "layers.1.offset does not go with grid plain"),
        (("layers", 1, "scales"), [1.0, 2.0], "layers.1.scales do not go with codebook layer"),
        (("layers", 1, "scales"), [1.0, -2.0], "layers.1.scales.1 must be greater than 0"),
        (("layers", 1, "momentum"), 1, "layers.1.momentum is no field that is known"),
        (("pruned",), 1, "allocation.pruned is 1, its layers add up to"),
        (("numel",), 7, "allocation.numel is 7"),
        (("value_bits",), 7, "allocation.value_bits is 7"),
        (("budget_bits",), 7, "allocation.budget_bits must be at least"),
        (("exact",), 1, "allocation: exact must be true or false, not 1"),
        (("grid",), "round", "allocation: grid must be 'plain', 'survivor' or 'mixed', not 'round'"),
        (("grid",), "survivor", "offset does not go with grid survivor"),
        (("zeros",), None, "allocation: zeros must be 'exact' or 'rounded', not None"),
        (("codebook",), "channel", "scales do not go with codebook channel"),
        (("momentum",), 1, "allocation: momentum is no field that is known"),
    ],
)
def test_nonsense_is_refused_by_name(place: tuple[Any, ...], value: Any, message: str) -> None:
    stored = saved()
    inner: Any = stored
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(CompressionError, match=message):
        Allocation.from_dict(stored)


def test_what_is_missing_is_named() -> None:
    for name in ("sparsity", "layers", "value_bits", "exact"):
        stored = saved()
        del stored[name]
        with pytest.raises(CompressionError, match=f"allocation: {name} is missing"):
            Allocation.from_dict(stored)
    with pytest.raises(CompressionError, match="allocation must be an object"):
        Allocation.from_dict([])  # type: ignore[arg-type]


def test_scales_of_another_layer_do_not_fit() -> None:
    stored = saved(codebook="channel")
    stored["layers"][0]["scales"] = stored["layers"][0]["scales"][:-1]
    with pytest.raises(CompressionError, match="no layer 0 with 144 weights"):
        cx.opq.attach(network(), Allocation.from_dict(stored))
