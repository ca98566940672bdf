"""Runs, tasks and studies on a simulated accelerator beside the CPU: :func:`seen`, in a process that does only this."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from compression import devices, methods
from compression.budget import Budget
from compression.data import Batches
from compression.jobs import curve, explain_run, saliency, sensitivity
from compression.methods import Setup, opq
from compression.methods.geta import QASSO
from compression.points import Point
from compression.quant import kernels
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.prepare import TrainedModel, load
from compression.runs.reporter import RunReporter
from compression.training.dense import evaluate
from compression.training.distill import Distillation, Teacher
from compression.training.recipe import Recipe
from tests.contract.runs import budget, setup
from tests.simulated_device import WAITS, simulated

CPU = torch.device("cpu")


class Watching(RunReporter):
    """Keeps the points, and the waits of plain steps; writes a checkpoint at step ``stop`` and is killed there."""

    def __init__(self, folder: Path, attempt: int = 1, stop: int = 0) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder / "events", attempt, checkpoint_path=folder / "checkpoint.pt", clock=lambda: 7.0)
        self.stop, self.scores, self.plain, self.is_plain = stop, [], 0, False
        self.waits: dict[int, dict[str, int]] = {}
        self.load()

    def step(self, step: int, epoch: float, **values: Any) -> None:
        if self.is_plain:
            self.plain += 1
            if +WAITS.counted:
                self.waits[step] = dict(+WAITS.counted)
        super().step(step, epoch, **values)
        self.is_plain = True
        WAITS.clear()

    def point(self, point: Point) -> None:
        self.scores.append(point.score)
        self.is_plain = False

    def decision(self, step: int, **facts: Any) -> None:
        super().decision(step, **facts)
        self.is_plain = False

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        super().phase(name, step, epoch)
        self.is_plain = False

    def checkpoint(self, step: int, capture: Any, *, due: bool = False) -> None:
        super().checkpoint(step, capture, due=step == self.stop)
        if step == self.stop:
            raise KeyboardInterrupt


def ran(requested: Budget, device: torch.device, report: Watching) -> dict[str, torch.Tensor]:
    """The state of the compressed model, on the CPU."""
    work = setup(requested)
    torch.manual_seed(requested.seed)
    state: dict[str, torch.Tensor] = {}
    with contextlib.suppress(KeyboardInterrupt):
        done = methods.get(requested.method).run(
            Setup(work.model.to(device), work.graph, work.task, work.budget), report
        )
        state = {name: tensor.cpu() for name, tensor in done.model.state_dict().items()}
    report.close()
    return state


def differing(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> list[str]:
    names = sorted(one.keys() ^ other.keys())
    return names + [name for name in one.keys() & other.keys() if not torch.equal(one[name], other[name])]


@contextlib.contextmanager
def as_on_devices() -> Iterator[None]:
    """Quantizers and convolutions of the CPU and of the simulated device add up to the same numbers, bit for bit."""

    def reduced(gradient: torch.Tensor, scalar: torch.Tensor) -> torch.Tensor:
        return gradient.double().sum_to_size(scalar.shape).to(scalar.dtype)

    with (
        torch.backends.mkldnn.flags(enabled=False),
        mock.patch.object(kernels, "_per_tensor_on_cpu", lambda *_: False),
        mock.patch.object(kernels, "_rows", lambda *_: None),
        mock.patch.object(kernels, "reduced", reduced),
    ):
        yield


def result(root: Path, name: str, requested: Budget, device: torch.device) -> dict[str, Any]:
    """The result of a whole run that is carried out on the device."""
    folder = RunFolder.create(root, {"id": name, "budget": requested.to_dict(), "created": 0.0})
    with mock.patch.object(devices, "choose", lambda _="": device):
        assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    return json.loads(folder.result_path.read_text())


def of_task(model: str, data: str) -> dict[str, Any]:
    """What a task computes of a trained network, on the CPU and there: [CPU, there] of each."""
    with simulated() as elsewhere:
        pairs = [_of_task(load(Budget(model=model, data=data, sparsity=0.5)).on(where)) for where in (CPU, elsewhere)]
    return {name: [each[name] for each in pairs] for name in pairs[0]}


def _of_task(subject: TrainedModel) -> dict[str, Any]:
    task, network, device = subject.task, subject.model, devices.device_of(subject.model)
    x, y = Batches(task.data, "train", 8, device=device).batch(0, 0)
    answer = task.answer(network.train(), x).float()
    loss = task.loss(answer, y)
    loss.backward()
    teacher = Distillation(Teacher(task, network, Recipe(device=device.type)), 0.5, 2.0)(
        answer, x, partial(task.loss, answer, y)
    )
    gradients = torch.stack([p.grad.abs().sum() for p in network.parameters() if p.grad is not None])
    picture = task.picture(network)
    return {
        "loss": float(loss.detach()),
        "distilled": float(teacher.detach()),
        "gradients": float(gradients.sum()),
        "score": float(task.batch_score(answer.detach(), y)),
        "measured": evaluate(network, task, "validation", limit=64).score,
        "picture": None if picture is None else int(picture.numpy().astype(int).sum()),
    }


def of_studies(root: Path) -> dict[str, Any]:
    """The tables about a dense model and the maps of a run, on the CPU and there."""
    requested = budget("ptq")
    with simulated() as elsewhere:
        pairs = [_of_studies(root / where.type, requested, where) for where in (CPU, elsewhere)]
    return {name: [each[name] for each in pairs] for name in pairs[0]}


def _of_studies(root: Path, requested: Budget, device: torch.device) -> dict[str, Any]:
    spec = {"budget": requested.to_dict(), "created": 0.0}
    tables: dict[str, Any] = {}
    requests = {"sensitivity": sensitivity.request(True, 32), "saliency": saliency.request(8)}
    requests["curve"] = {**curve.request(requested.replace(method="")), "grid": [[0.5, 4.0]], "images": 32}
    for kind, study in {"sensitivity": sensitivity, "saliency": saliency, "curve": curve}.items():
        folder = RunFolder.create(root, {**spec, "id": kind})
        with mock.patch.object(devices, "choose", lambda _="": device), Watching(root / f"{kind}-events") as report:
            tables[kind] = study.carry_out(folder, report, **requests[kind])["rows"]
    result(root, "run", requested, device)
    with mock.patch.object(devices, "choose", lambda _="": device):
        explain_run.work(RunFolder(root / "run"), 4, 0, lambda *_: None)
    tables["pruned"] = _pruned_without_quantizers(device)
    tables["scores"] = json.loads((root / "run" / "explain" / "result.json").read_text())
    return tables


def _pruned_without_quantizers(device: torch.device) -> dict[str, Any]:
    """The units that QASSO removes in a loop of one's own, and what remains of the weights."""
    work = setup(budget("geta"))
    model = work.model.to(device)
    optimizer = QASSO(model, work.graph, sparsity=0.4, total_steps=60, lr=0.05)
    for x, y in islice(Batches(work.data, "train", 10, device=device), 60):
        optimizer.zero_grad()
        work.task.loss(model(x), y).backward()
        optimizer.step()
    total = torch.stack([parameter.abs().sum() for parameter in model.parameters()])
    return {"units": optimizer.removed_units, "total": float(total.sum())}


def without_fp64(root: Path) -> dict[str, Any]:
    """GETA where the device has no fp64, as MPS: the bits, how many units are removed; and OPQ's allocations."""
    requested = budget("geta").replace(epochs=0.2)
    model = setup(requested).model
    with simulated({torch.float64}) as elsewhere, mock.patch.object(devices, "exact_dtype", lambda _: torch.float32):
        final = result(root, "single", requested, elsewhere)
        allocations = [opq.allocate(model.to(where), 0.5, 4).to_dict() for where in (CPU, elsewhere)]
    widths = [bits for each in final["final"]["bits"].values() for bits in each.values() if bits is not None]
    removed = sum(map(len, final["units"].values()))
    return {"removed": removed, "bits": sorted(set(widths)), "allocations": allocations}


def of_method(method: str, options: dict[str, Any], root: Path) -> dict[str, Any]:
    """What differs from the same run on the CPU, from runs that changed the device half-way, and what made the program
    wait for the device in steps in which nothing was measured, decided or stored."""
    requested = budget(method).replace(epochs=2)
    requested = requested.replace(options={**requested.options, **options})
    short = requested.replace(epochs=0.1)
    here, there = Watching(root / "cpu"), Watching(root / "elsewhere")
    expected, on_cpu = ran(requested, CPU, here), result(root, "run-cpu", short, CPU)
    moved = {}
    with simulated() as elsewhere:
        state, on_elsewhere = ran(requested, elsewhere, there), result(root, "run-elsewhere", short, elsewhere)
        for name, (first, second) in {"to": (CPU, elsewhere), "from": (elsewhere, CPU)}.items():
            if method == "geta":
                ran(requested, first, Watching(root / name, stop=21))
                moved[name] = differing(expected, ran(requested, second, Watching(root / name, attempt=2)))
    results = (on_elsewhere, on_cpu)
    finals = [{**each["final"], "ledger": each["ledger"], "sha": each["packed_sha256"]} for each in results]
    return {
        "differing": differing(expected, state),
        "scores": [here.scores, there.scores],
        "plain": there.plain,
        "waits": there.waits,
        "moved": moved,
        "finals": finals,
        "devices": [each["device"] for each in results],
    }


def seen(what: str, root: Path) -> dict[str, Any]:
    """What is compared of a method, a task (``MODEL@DATA``) or the studies.

    ``METHOD?NAME=VALUE&NAME=VALUE`` gives a method options, words or JSON.
    """
    torch.set_num_threads(1)
    if what == "without fp64":
        return without_fp64(root)
    with as_on_devices():
        if what == "studies":
            return of_studies(root)
        name, _, chosen = what.partition("?")
        if name not in methods.names():
            return of_task(*name.split("@"))
        pairs = (each.split("=") for each in chosen.split("&") if each)
        return of_method(
            name, {option: json.loads(word) if word in ("true", "false") else word for option, word in pairs}, root
        )
