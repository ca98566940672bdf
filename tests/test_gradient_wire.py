"""Gradients as codes between two gloo processes: read back by numpy, right on average, equal on both, and resumed."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from numpy.typing import NDArray
from torch import distributed, nn

from compression import methods
from compression.cli import main
from compression.data import Batches
from compression.methods.base import Reporter, Setup
from compression.runs import RunFolder
from compression.tasks import task_of
from compression.training import parallel
from compression.training.wire import BLOCK, Wire, wire_bytes, wire_of
from tests.contract.runs import budget, network, setup
from tests.stripes import striped

WIDTHS = (4, 2, 1)
STEPS, SEED, STOP = 40, 3, 2
Saved = dict[str, Any]


class _Storing(Reporter):
    """Stores what a checkpoint after :data:`STOP` steps would hold."""

    stored: Saved | None = None

    def checkpoint(self, step: int, capture: Callable[[], Saved], *, due: bool = False) -> None:
        if step == STOP:
            self.stored = copy.deepcopy(capture())


def _trained(saved: Saved | None) -> tuple[Saved, Saved | None]:
    """A run of a method as one of the processes: its last weights and what was counted, and its checkpoint."""
    requested = budget("magnitude")
    work, report = setup(requested), _Storing()
    work = Setup(work.model, work.graph, work.task, requested, wire_of(4, requested.seed))
    report.saved = parallel.shared(saved)
    torch.manual_seed(requested.seed)
    done = methods.get("magnitude").run(work, report)
    assert work.wire is not None
    return {"model": done.model.state_dict(), "wire": work.wire.facts(), "last": work.wire.step}, report.stored


def _gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def _rank(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = next(name for name in psutil.net_if_addrs() if name.startswith("lo"))
    distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    task, results = task_of(striped()), {}
    x, y = Batches(task.data, "train", 32, augment=False, part=(rank, 2)).batch(0, 0)
    model = network()
    task.loss(task.answer(model, x), y).backward()
    results["own"] = _gradients(model)
    send, sent = distributed.all_gather, []

    def recorded(outputs: list[torch.Tensor], data: torch.Tensor) -> None:
        sent.append(data.clone())
        send(outputs, data)

    distributed.all_gather = recorded
    for bits in WIDTHS:
        wire = Wire(bits, SEED)
        called, seen = parallel.averaging(task, model, wire), []
        for step in range(STEPS if bits == 4 else 2):
            wire.step = step
            model.zero_grad()
            answer, _ = parallel.training_answer(task, called, x, y)
            task.loss(answer, y).backward()
            seen.append(_gradients(model))
        results[f"{bits}"] = {"gradients": seen, "sent": sent[:2], "facts": wire.facts()}
        sent.clear()
    whole, stored = _trained(None)
    again, _ = _trained(stored)
    results |= {"whole": whole, "resumed": again}
    torch.save(results, f"{folder}/{rank}.pt")
    distributed.barrier()  # who leaves first would close a connection that the other waits for
    distributed.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[Saved]:
    """What each of two processes on this machine sent and got."""
    folder = tmp_path_factory.mktemp("wire")
    torch.multiprocessing.spawn(_rank, (str(folder),), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


def order(gradients: dict[str, torch.Tensor]) -> list[str]:
    """The names in the order of the only bucket."""
    return list(gradients)


def read(data: torch.Tensor, own: dict[str, torch.Tensor], bits: int) -> tuple[dict[str, NDArray[Any]], Any]:
    """The gradients that bytes stand for, with numpy: codes, levels, then those of one dimension as they are."""
    raw, names = data.numpy(), order(own)
    coded = [name for name in names if own[name].dim() > 1]
    count = sum(own[name].numel() for name in coded)
    blocks = -(-count // BLOCK)
    length, end = -(-count // blocks), -(-count // 8) * bits
    digits = np.unpackbits(raw[:end], bitorder="little")[: count * bits].reshape(count, bits)
    codes = (digits.astype(int) << np.arange(bits)).sum(axis=1)
    levels = raw[end : end + blocks * 2**bits * 4].copy().view(np.float32).reshape(blocks, -1)
    values = levels[np.arange(count) // length, codes]
    plain = raw[end + levels.nbytes :].copy().view(np.float32)
    result = {}
    for name in names:
        size = own[name].numel()
        if name in coded:
            result[name], values = values[:size], values[size:]
        else:
            result[name], plain = plain[:size], plain[size:]
    assert len(values) == len(plain) == 0
    return result, (levels, length)


def test_the_mean_of_what_was_sent_is_the_gradient_on_both_bit_for_bit(ranks: list[Saved]) -> None:
    for bits in map(str, WIDTHS):
        for step in range(2):
            both = [read(each[bits]["sent"][step], each["own"], int(bits))[0] for each in ranks]
            for name in both[0]:
                mean = (both[0][name] + both[1][name]) / np.float32(2)
                for each in ranks:
                    assert np.array_equal(each[bits]["gradients"][step][name].numpy().ravel(), mean), name


def test_what_is_sent_are_codes_of_the_own_gradient(ranks: list[Saved]) -> None:
    """Each value is one of its two neighbouring levels, and levels are values; few bytes, and all are counted."""
    sizes = {name: tensor.numel() for name, tensor in ranks[0]["own"].items()}
    for bits in WIDTHS:
        for each in ranks:
            own, data = each["own"], each[f"{bits}"]["sent"][0]
            decoded, (levels, length) = read(data, own, bits)
            flat, rounded = (
                np.concatenate([np.ravel(source[name]) for name in order(own) if own[name].dim() > 1])
                for source in (own, decoded)
            )
            for block, table in enumerate(levels):
                part, place = (values[block * length : (block + 1) * length] for values in (flat, rounded))
                if bits > 1:
                    assert np.isin(table, part).all()
                    below = table[np.clip(np.searchsorted(table, part, side="right") - 1, 0, len(table) - 2)]
                    above = table[np.clip(np.searchsorted(table, part, side="right"), 1, len(table) - 1)]
                    assert ((place == below) | (place == above)).all()
                else:
                    assert np.abs(place - part).max() == pytest.approx(np.abs(part[:, None] - table).min(1).max())
                    assert part[place == table[0]].mean() == pytest.approx(table[0], rel=1e-3)
            for name in order(own):
                if own[name].dim() <= 1:
                    assert np.array_equal(decoded[name], own[name].numpy().ravel()), name
            facts = each[f"{bits}"]["facts"]
            matrices = sum(sizes[name] for name in sizes if own[name].dim() > 1)
            assert facts["bytes_per_step"] == len(data) == wire_bytes(matrices, sum(sizes.values()) - matrices, bits)
            assert facts["fp32_bytes_per_step"] == 4 * sum(sizes.values())
            assert len(data) < (bits / 32 + 0.05) * 4 * sum(sizes.values())


def test_the_mean_is_right_on_average(ranks: list[Saved]) -> None:
    """Over steps with the same batch, against the exact mean: as far off as the mean of so many draws is."""
    steps, squares, varied, nonzero = ranks[0]["4"]["gradients"], [], 0, 0
    for name in ranks[0]["own"]:
        exact = sum(each["own"][name].double() for each in ranks) / 2
        taken = torch.stack([step[name] for step in steps]).double()
        if exact.dim() <= 1:
            torch.testing.assert_close(taken.mean(0), exact, rtol=1e-6, atol=1e-9)
            continue
        drawn = taken.std(0) > 0
        squares.append((taken.mean(0) - exact)[drawn].square() / (taken.var(0)[drawn] / STEPS))
        varied, nonzero = varied + int((drawn & (exact != 0)).sum()), nonzero + int((exact != 0).sum())
    assert float(torch.cat(squares).mean()) == pytest.approx(1, abs=0.15)
    assert varied > 0.9 * nonzero, "each step draws anew"


def test_one_bit_draws_nothing(ranks: list[Saved]) -> None:
    for each in ranks:
        assert torch.equal(*each["1"]["sent"])


def test_a_run_that_is_resumed_draws_what_it_would_have_drawn(ranks: list[Saved]) -> None:
    for each in ranks:
        assert each["whole"]["wire"] == each["resumed"]["wire"]
        assert each["whole"]["wire"]["steps"] == each["whole"]["last"] + 1 > STOP + 1
        for name, tensor in ranks[0]["whole"]["model"].items():
            assert torch.equal(tensor, each["whole"]["model"][name]) or "running" in name or "num_batches" in name
            assert torch.equal(each["whole"]["model"][name], each["resumed"]["model"][name]), name


def test_a_run_says_what_it_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["run", "--model", "resnet8", "--data", "mnist5k", "--epochs", "0.1", "--batch-size", "64"]
    command += ["--method", "magnitude", "--sparsity", "0.5", "--device", "cpu", "--gpus", "2", "--gradient-bits", "4"]
    assert main([*command, "--runs", str(tmp_path)]) == 0, capsys.readouterr().err
    (run,) = (path for path in tmp_path.iterdir() if path.is_dir())
    wire = json.loads(RunFolder(run).result_path.read_text())["wire"]
    assert (wire["gradient_bits"], wire["steps"]) == (4, RunFolder(run).points()[-1].step)
    assert 1 / 8 < wire["bytes_per_step"] / wire["fp32_bytes_per_step"] < 1 / 6
    assert f"{wire['bytes_per_step']:,.0f} bytes" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--gradient-bits", "4"], "add --gpus N"),
        (["--gpus", "2", "--gradient-bits", "9"], "from 1 to 8, not 9"),
        (["--gpus", "2", "--gradient-bits", "0"], "from 1 to 8, not 0"),
    ],
)
def test_bits_that_nobody_sends_are_refused(
    more: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["run", "--model", "resnet8", "--data", "mnist5k", "--device", "cpu", "--runs", str(tmp_path / "runs")]
    assert main([*command, *more]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith("error: gradient-bits") and reason in line
    assert not list(tmp_path.iterdir())
