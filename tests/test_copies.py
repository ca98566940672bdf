"""The copy without storage that is traced: the same as a deep copy, and nothing of the model is touched by its run."""

import copy
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from compression.graph import trace
from compression.graph.copies import meta_copy

IMAGE = torch.ones(1, 3, 8, 8)


class Odd(nn.Module):
    """Shared and hidden modules, hooks, caches, plain tensors, bound methods, and a reference to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Linear(8, 2)
        self.again, self.hidden, self.itself = self.stem, [nn.Conv2d(8, 8, 1)], [self]
        self.cache: dict[str, Any] = {}
        self.other = self.cache
        self.settings: Any = OrderedDict(sizes=(1, 2), names={"a"}, deep=[{"weight": self.stem.weight}])
        self.settings.version = 3
        self.plain, self.runs, self.call = torch.rand(8, 1, 1), 0, self.count
        self.register_buffer("table", torch.arange(8))
        self.stem.register_forward_hook(self.seen)

    def seen(self, *_: Any) -> None:
        self.cache["seen"] = self.cache.get("seen", 0) + 1

    def count(self, x: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        self.settings["names"].add("b")
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.call(self.hidden[0](self.stem(x)) * self.plain)[:, self.table]
        return self.head(x.mean((2, 3)))


def test_a_copy_has_the_structure_of_a_deep_copy() -> None:
    model = Odd()
    for duplicate in (meta_copy(model), copy.deepcopy(model)):
        assert isinstance(duplicate, Odd) and duplicate.again is duplicate.stem and duplicate.itself[0] is duplicate
        assert duplicate.other is duplicate.cache and duplicate.cache is not model.cache
        assert duplicate.settings["deep"][0]["weight"] is duplicate.stem.weight and duplicate.settings.version == 3
        assert duplicate.settings["names"] == {"a"} and duplicate.settings["names"] is not model.settings["names"]
        assert duplicate.call.__self__ is duplicate and duplicate.hidden[0] is not model.hidden[0]
        (hook,) = duplicate.stem._forward_hooks.values()
        assert hook.__self__ is duplicate
        assert torch.equal(duplicate.table, model.table) and torch.equal(duplicate.plain, model.plain)
        assert vars(duplicate).keys() == vars(model).keys() and vars(duplicate.stem).keys() == vars(model.stem).keys()
        assert duplicate.state_dict().keys() == model.state_dict().keys()
    assert meta_copy(model).stem.weight.is_meta


def test_a_run_of_the_copy_leaves_the_model_alone() -> None:
    model = Odd()
    assert trace(model, IMAGE).groups
    assert (model.runs, model.cache, model.settings["names"]) == (0, {}, {"a"})
    assert len(model.stem._forward_hooks) == 1 and not model.stem._forward_pre_hooks


def test_a_module_with_its_own_way_of_copying_is_copied_that_way() -> None:
    class Counted(nn.Conv2d):
        def __deepcopy__(self, memo: dict[int, Any]) -> nn.Module:
            duplicate = Counted(3, 8, 1)
            duplicate.weight = copy.deepcopy(self.weight, memo)
            duplicate.copied = True  # type: ignore[assignment]
            return duplicate

    duplicate: Any = meta_copy(nn.Sequential(Counted(3, 8, 1)))
    assert duplicate[0].copied and duplicate[0].weight.is_meta
