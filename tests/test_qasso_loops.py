"""QASSO in other people's training loops: its promises under any settings, resuming, and the usual tricks."""

from __future__ import annotations

import io
import math
import os
from typing import Any

import psutil
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import compression as cx
from compression.errors import CompressionError
from compression.methods.geta import QASSO
from compression.methods.geta.schedule import Schedule
from compression.quant import activation_quantizers, fold, quantize, weight_quantizers
from tests.test_qasso import TOTAL, N, build, gradients, optimizer_of, train, zero_units

VARIANTS = ("sgd", "adam", "adamw")
SIZES = {"conv1": 8, "conv2": 6, "hidden": 4}


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


# --- exactly K, whatever is asked -------------------------------------------------------------------------------------


@st.composite
def bounds(draw: st.DrawFn) -> dict[str, tuple[float, float]]:
    names = draw(st.sets(st.sampled_from(sorted(SIZES))))
    share = st.floats(0, 1, allow_subnormal=False)
    return {name: tuple(sorted((draw(share), draw(share)))) for name in sorted(names)}  # type: ignore[misc]


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    variant=st.sampled_from(VARIANTS),
    seed=st.integers(0, 99),
    sparsity=st.floats(0, 0.99),
    group_bounds=bounds(),
    periods=st.integers(1, 4),
    bits=st.tuples(st.integers(2, 8), st.integers(2, 8)).map(sorted),
    activations=st.booleans(),
    total=st.integers(24, 40),
)
def test_exactly_k_units_and_whole_bits_in_range_or_a_refusal(
    variant: str,
    seed: int,
    sparsity: float,
    group_bounds: dict[str, tuple[float, float]],
    periods: int,
    bits: list[int],
    activations: bool,
    total: int,
) -> None:
    model = build(seed, activations)
    requested = math.floor(sparsity * N + 1e-9)
    least = {name: math.ceil(low * SIZES[name] - 1e-9) for name, (low, _) in group_bounds.items()}
    most = {
        name: min(math.floor(group_bounds.get(name, (0, 1))[1] * size + 1e-9), size - 1) for name, size in SIZES.items()
    }
    possible = all(low <= most[name] for name, low in least.items())
    possible = possible and sum(least.values()) <= requested <= sum(most.values())
    settings: dict[str, Any] = {"variant": variant, "lr": 0.01, "sparsity": sparsity, "group_bounds": group_bounds}
    settings |= {"schedule": Schedule(0.1, 0.2, 2, 0.4, periods), "total_steps": total, "bits": tuple(bits)}
    if not possible:
        with pytest.raises(CompressionError):
            optimizer_of(model, **settings)
        return
    optimizer = optimizer_of(model, **settings)
    train(model, optimizer, total)
    removed = zero_units(model)
    assert sum(map(len, removed.values())) == requested
    assert removed == optimizer.removed_units
    for name, size in SIZES.items():
        assert least.get(name, 0) <= len(removed.get(name, ())) <= most[name] < size
    for quantizer in [*weight_quantizers(model).values(), *activation_quantizers(model).values()]:
        assert quantizer.bits() == round(quantizer.bits())
        assert bits[0] <= quantizer.bits() <= bits[1]
        assert quantizer.step() > 0


# --- resuming ---------------------------------------------------------------------------------------------------------

SCHEDULED = Schedule(warmup=0.1, projection=0.3, projection_periods=4, joint=0.4, pruning_periods=2)
BOUNDARIES = sorted({0, 1, 3, 4, 5, 6, 7, 8, 15, 16, 17, 23, 24, 25, 31, 32, 33, 39, 40})


def test_the_boundaries_are_those_of_the_schedule() -> None:
    optimizer = optimizer_of(build(), schedule=SCHEDULED)
    starts = optimizer.stages.starts()
    assert starts == {"warm-up": 1, "projection": 5, "joint": 17, "cool-down": 33}
    periods = [optimizer.stages.period(step) for step in range(17, 33)]
    assert [17 + i for i, period in enumerate(periods) if period.position == 1] == [17, 25]
    assert {first - 1 for first in starts.values()} | {24} <= set(BOUNDARIES)


@pytest.mark.parametrize("variant", VARIANTS)
def test_interrupted_at_every_stage_boundary_is_uninterrupted_bit_for_bit(variant: str) -> None:
    """At every boundary the state goes through a file, into a model and an optimizer made anew."""
    settings: dict[str, Any] = {"variant": variant, "lr": 0.01, "schedule": SCHEDULED, "weight_decay": 1e-3}
    whole = build(activations=True)
    train(whole, expected := optimizer_of(whole, **settings))
    model = build(activations=True)
    optimizer = optimizer_of(model, **settings)
    for step in range(TOTAL):
        if step in BOUNDARIES:
            file = io.BytesIO()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
            file.seek(0)
            loaded = torch.load(file, weights_only=True)
            model = build(seed=step + 50, activations=True)
            optimizer = optimizer_of(model, **settings)
            model.load_state_dict(loaded["model"])
            optimizer.load_state_dict(loaded["optimizer"])
        gradients(model, step)
        optimizer.step()
    for (name, a), b in zip(whole.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(a, b), name
    assert optimizer.removed_units == expected.removed_units


# --- the usual tricks -------------------------------------------------------------------------------------------------


def batch(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 3, 8, 8, generator=generator), torch.randint(0, 5, (16,), generator=generator)


class Smooth(nn.Module):
    """Two convolutions without norms, so that two half batches give what the whole batch gives."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.out = nn.Linear(6, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(self.conv1(x).relu()).relu()
        out: torch.Tensor = self.out(x.mean((2, 3)))
        return out


def smooth(dtype: torch.dtype = torch.float32, **settings: Any) -> tuple[Smooth, QASSO]:
    torch.manual_seed(0)
    model = Smooth().to(dtype)
    traced = cx.trace(model, torch.randn(1, 3, 8, 8, dtype=dtype))
    quantize(model, 16)
    arguments: dict[str, Any] = {"sparsity": 0.5, "schedule": SCHEDULED, "total_steps": TOTAL, "lr": 0.02, **settings}
    return model, QASSO(model, traced, **arguments)


def loss(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    parameter = next(model.parameters())
    logits = model(x.to(parameter.dtype))  # of another type under autocast
    return nn.functional.cross_entropy(logits.to(parameter.dtype), y)


def accumulate(model: nn.Module, optimizer: QASSO, step: int) -> None:
    """The gradients of a step's batch, one half of it after the other."""
    optimizer.zero_grad()
    for x, y in zip(*(part.chunk(2) for part in batch(step)), strict=True):
        (loss(model, x, y) / 2).backward()


def promised(model: nn.Module, optimizer: QASSO) -> None:
    """What a finished run holds: K units really gone, whole bits in range."""
    assert sum(map(len, optimizer.removed_units.values())) == optimizer.target.units == 7
    small = cx.slim(fold(model.eval()), cx.trace(Smooth(), torch.randn(1, 3, 8, 8)))
    assert small.conv1.out_channels + small.conv2.out_channels == 14 - 7
    x = batch(99)[0].to(next(small.parameters()).dtype)
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=1e-4, atol=1e-5)
    assert all(q.bits() == round(q.bits()) and 4 <= q.bits() <= 8 for q in weight_quantizers(model).values())


def test_accumulated_gradients_choose_what_the_whole_batch_chooses() -> None:
    """In fp64, where the order of a sum is far below what tells one unit's score from another's."""
    (one, whole), (two, parts) = smooth(torch.float64), smooth(torch.float64)
    for step in range(TOTAL):
        x, y = batch(step)
        whole.zero_grad()
        loss(one, x, y).backward()
        whole.step()
        accumulate(two, parts, step)
        parts.step()
        if step == 20:
            assert whole.redundant == parts.redundant != []
    promised(one, whole)
    promised(two, parts)


@pytest.mark.parametrize("name", ["StepLR", "CosineAnnealingLR", "OneCycleLR", "ReduceLROnPlateau", "LambdaLR"])
def test_any_scheduler_autocast_and_a_moving_average(name: str) -> None:
    model, optimizer = smooth()
    makers: dict[str, Any] = {
        "StepLR": lambda: torch.optim.lr_scheduler.StepLR(optimizer, 10),
        "CosineAnnealingLR": lambda: torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, TOTAL),
        "OneCycleLR": lambda: torch.optim.lr_scheduler.OneCycleLR(optimizer, [0.02, 1e-3], total_steps=TOTAL),
        "ReduceLROnPlateau": lambda: torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=1),
        "LambdaLR": lambda: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / (TOTAL + 1)),
    }
    scheduler = makers[name]()
    average = torch.optim.swa_utils.AveragedModel(
        model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.5), use_buffers=True
    )
    for step in range(TOTAL):
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = loss(model, *batch(step))
        value.backward()
        optimizer.step()
        if name == "ReduceLROnPlateau":
            scheduler.step(value.item())
        else:
            scheduler.step()
        average.update_parameters(model)
    promised(model, optimizer)
    assert optimizer.param_groups[0]["lr"] < 0.02
    with torch.no_grad():
        assert torch.isfinite(average(batch(0)[0])).all()


def test_parameters_that_the_user_froze_stay_as_they_are() -> None:
    torch.manual_seed(0)
    model = Smooth()
    traced = cx.trace(model, torch.randn(1, 3, 8, 8), frozen=["conv1.weight"])
    for parameter in (model.conv1.weight, model.out.bias):
        parameter.requires_grad_(False)
    quantize(model, 16)
    before = {
        "conv1": model.conv1.parametrizations.weight.original.clone(),  # type: ignore[union-attr,operator]
        "out": model.out.bias.clone(),
    }
    optimizer = QASSO(
        model, traced, sparsity=0.5, schedule=SCHEDULED, total_steps=TOTAL, lr=0.02, variant="adamw", weight_decay=0.1
    )
    for step in range(TOTAL):
        optimizer.zero_grad()
        loss(model, *batch(step)).backward()
        optimizer.step()
    assert torch.equal(before["conv1"], model.conv1.parametrizations.weight.original)  # type: ignore[union-attr]
    assert torch.equal(before["out"], model.out.bias)
    assert {name: len(units) for name, units in optimizer.removed_units.items()} == {"conv2": 3}


class Attention(nn.Module):
    """Self-attention of four heads with one fused projection for queries, keys and values, twice, and a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.out = nn.Linear(6, 16), nn.Linear(16, 5)
        self.qkv = nn.ModuleList(nn.Linear(16, 48) for _ in range(2))
        self.back = nn.ModuleList(nn.Linear(16, 16) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for qkv, back in zip(self.qkv, self.back, strict=True):
            size, length, _ = x.shape
            q, k, v = qkv(x).reshape(size, length, 3, -1, 4).permute(2, 0, 3, 1, 4).unbind(0)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v)
            x = x + back(mixed.transpose(1, 2).flatten(2))
        out: torch.Tensor = self.out(x.mean(1))
        return out


def test_heads_of_a_fused_projection_leave_whole() -> None:
    torch.manual_seed(0)
    model = Attention()
    traced = cx.trace(model, torch.randn(2, 7, 6))
    heads = [group for group in traced.prunable if group.id.startswith("qkv")]
    assert [group.units for group in heads] == [4, 4]
    others = {group.id: (0.0, 0.0) for group in traced.prunable if group not in heads}
    quantize(model, 16)
    optimizer = QASSO(
        model,
        traced,
        sparsity=5 / traced.prunable_units + 1e-6,
        group_bounds=others,
        schedule=SCHEDULED,
        total_steps=TOTAL,
        lr=0.02,
    )
    for step in range(TOTAL):
        generator = torch.Generator().manual_seed(step)
        optimizer.zero_grad()
        x, y = torch.randn(16, 7, 6, generator=generator), torch.randint(0, 5, (16,), generator=generator)
        loss(model, x, y).backward()
        optimizer.step()
    removed = {group.id: len(optimizer.removed_units.get(group.id, ())) for group in heads}
    assert sum(removed.values()) == 5
    small = cx.slim(fold(model.eval()), traced)
    for index, count in enumerate(removed.values()):
        assert small.qkv[index].out_features == 3 * 4 * (4 - count)
        assert small.back[index].in_features == 4 * (4 - count)
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=1e-4, atol=1e-5)


# --- several processes ------------------------------------------------------------------------------------------------


def _rank(rank: int, folder: str) -> None:
    """Train wrapped (gradients averaged) to the end, and unwrapped (each on its own) to the first choice of units."""
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = next(name for name in psutil.net_if_addrs() if name.startswith("lo"))
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    results = {}
    for wrapped in (True, False):
        model, optimizer = smooth(torch.float64)
        net = DistributedDataParallel(model) if wrapped else model
        for step in range(TOTAL if wrapped else 17):
            x, y = (part.chunk(2)[rank] for part in batch(step))
            optimizer.zero_grad()
            loss(net, x, y).backward()
            optimizer.step()
        units = {"removed": optimizer.removed_units, "redundant": optimizer.redundant}
        results["wrapped" if wrapped else "alone"] = {"model": model.state_dict(), **units}
    torch.save(results, f"{folder}/{rank}.pt")
    torch.distributed.barrier()  # who leaves first would close the connection of a sum that the other waits for
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """The results of two gloo processes on this machine."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def test_two_processes_train_the_model_of_one_process_that_accumulates(ranks: list[dict[str, Any]]) -> None:
    """In fp64, as above: two processes may compute with other instructions than one does."""
    first, second = (each["wrapped"] for each in ranks)
    alone, optimizer = smooth(torch.float64)
    for step in range(TOTAL):
        accumulate(alone, optimizer, step)
        optimizer.step()
    assert first["removed"] == second["removed"] == optimizer.removed_units
    for (name, a), b in zip(first["model"].items(), second["model"].values(), strict=True):
        assert torch.equal(a, b), name
        torch.testing.assert_close(a, alone.state_dict()[name], rtol=1e-9, atol=1e-12)
    promised(alone, optimizer)


def test_processes_that_see_different_gradients_choose_the_same_units(ranks: list[dict[str, Any]]) -> None:
    first, second = (each["alone"] for each in ranks)
    assert first["redundant"] == second["redundant"] != []
    assert not torch.equal(first["model"]["out.bias"], second["model"]["out.bias"])
