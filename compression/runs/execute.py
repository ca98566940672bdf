"""One run from its spec to its result: prepare, compress, remove, pack, and measure what was packed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from compression import devices, methods
from compression.data import Batches
from compression.encodings import cut_weights
from compression.errors import CompressionError
from compression.graph import slim_report
from compression.graph.copies import deep_copy
from compression.methods.base import Compressed, Method, Setup
from compression.pack import pack
from compression.pack.restore import restored
from compression.preprocess import words
from compression.quant import fold, integer_weights
from compression.runs import names, precisions
from compression.runs.files import sha256, write_json
from compression.runs.folder import RunFolder
from compression.runs.paths import make_folder
from compression.runs.prepare import TrainedModel, Workbench, file_point
from compression.runs.reporter import RunReporter
from compression.training import parallel
from compression.training.dense import evaluate
from compression.training.loop import check_finite
from compression.training.resume import check_taken_over
from compression.training.wire import wire_of
from compression.zoo import weights as weight_files

CHECKED_IMAGES = 64


def execute(
    folder: RunFolder, report: RunReporter, *, method: Method | None = None, bench: Workbench | None = None
) -> dict[str, Any]:
    """Carry out the run in ``folder`` and return what belongs in ``result.json``.

    ``method`` takes the place of the one the budget names; ``bench`` shares preparations between runs.

    Raises:
        Cancelled: the run was asked to stop.
        RunFailed: training diverged, or the packed file does not hold the model that was measured.
    """
    budget = folder.budget()
    chosen = method or methods.get(budget.method)
    device = _device(folder, report)
    with devices.fitting(device):
        prepared = (bench or Workbench()).prepare(budget, folder.spec().get("subject"), device)
    report.bind(prepared.digest)
    report.saved = parallel.shared(report.saved)
    report.log(_beginning(prepared.subject))
    label = devices.label(device) if parallel.size() == 1 else f"{parallel.size()} × {devices.label(device)}"
    report.log(f"computes on {label}")
    report.point(prepared.baseline)
    original = prepared.subject.task.original()
    if original is not None:
        report.picture("original", original)
    report.check()
    if chosen.removes_units:
        prepared.prove_cuts(budget)
    report.log(f"asked for: {chosen.describe(budget)}")
    if unused := chosen.unused(budget):
        report.log(f"{chosen.info.label} does not use {', '.join(unused)} of this budget")
    torch.manual_seed(budget.seed)
    setup = prepared.setup(budget, wire_of(folder.spec().get("gradient_bits"), budget.seed))
    if chosen.removes_units and report.saved is None:
        groups = setup.graph.prunable
        report.decision(0, sizes={g.id: g.units for g in groups}, layers={g.id: g.layers for g in groups})
    with devices.fitting(device, budget.batch_size):
        compressed = _compress(chosen, setup, report)
    check_taken_over(report)
    if setup.wire is not None:
        report.log(str(setup.wire))
    report.check()
    with devices.fitting(device):
        outcome, details = finish(folder, compressed.setup(setup), compressed.model, report)
        if compressed.precisions:
            outcome["precisions"] = precisions.measured(folder, setup, compressed, device, report, *report.at)
    return {
        **_by_end({"baseline": prepared.details, "final": details}),
        "method": budget.method,
        "model": budget.model,
        "data": prepared.subject.data.label,
        "weights": prepared.subject.weights,
        "weights_digest": prepared.subject.identity["digest"],
        "preprocess": prepared.subject.data.preprocess,
        "budget": budget.to_dict(),
        "baseline": prepared.baseline.to_dict(),
        "baseline_ledger": prepared.ledger,
        "task": prepared.subject.task.name,
        "metric": prepared.subject.task.metric.to_dict(),
        "device": label,
        "classes": list(prepared.subject.data.classes),
        "facts": compressed.facts,
        "ranks": dict(compressed.ranks),
        **({} if setup.wire is None else {"wire": setup.wire.facts()}),
        **outcome,
        "points": [point.to_dict() for point in folder.points()],
    }


def _device(folder: RunFolder, report: RunReporter) -> torch.device:
    """The device that the run's spec names; an interrupted run goes on elsewhere where that is not there.

    Raises:
        CompressionError: it is not there.
    """
    named = folder.spec().get("device", devices.AUTO)
    try:
        return devices.choose(named)
    except CompressionError as error:
        if report.saved is None:
            raise
        report.log(f"{error}: the run goes on without")
        return devices.choose()


def _beginning(subject: TrainedModel) -> str:
    """What the run starts from, in one line: which weights, and how images are brought to the network."""
    images = f"; preprocess: {words(subject.data.preprocess)}" if subject.data.preprocess else ""
    return f"weights: {subject.weights} (SHA-256 {subject.identity['digest'][:12]}){images}"


def _compress(method: Method, setup: Setup, report: RunReporter) -> Compressed:
    """Let the method run; a failure of a model that is no longer finite is reported as that."""
    try:
        return method.run(setup, report)
    except (ArithmeticError, ValueError, RuntimeError, IndexError, AssertionError):
        check_finite(setup.model)
        raise


def _by_end(details: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What a task counts beside its score (such as a confusion) → before and after."""
    names = dict.fromkeys(name for counted in details.values() for name in counted)
    return {name: {end: counted.get(name) for end, counted in details.items()} for name in names}


def finish(
    folder: RunFolder, setup: Setup, model: nn.Module, report: RunReporter
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Cut the zero units out, pack, read the packed file back, and measure on the test split what came out of it.

    Returns what the result stores, and the details that the task counted. All but the measuring is done on the CPU.

    Raises:
        RunFailed: the file gives other weights than those that were packed.
        CompressionError: the smaller model computes something else than the masked one.
    """
    device = devices.device_of(model)
    check_finite(model.cpu().eval())
    plain, cut = slim_report(fold(model), setup.graph)
    plain.eval()
    report.confirm()
    make_folder(folder.bundle)
    codes = cut_weights(integer_weights(model), setup.graph, cut.units)
    ledger = pack(plain, folder.bundle / "weights.packed", codes).to_dict()
    shipped = restored(plain, folder.bundle / "weights.packed")
    measured = evaluate(deep_copy(shipped).to(device), setup.task, "test")
    step, epoch = report.at
    at: dict[str, Any] = {"step": step, "epoch": epoch, "phase": "final"}
    point = file_point(model, setup.graph, setup.task.metric, measured, ledger["total"], **at)
    picture = setup.task.picture(shipped)
    if picture is not None:
        report.picture(step, picture)
    report.group(step, cut.units)
    report.point(point)
    report.confirm()
    model_name = names.model_name(setup.budget.model)
    provenance = {"run": folder.id, "method": setup.budget.method, "model": model_name, "data": setup.data.label}
    weight_files.save(plain, folder.bundle / "model.safetensors", provenance)
    write_json(folder.bundle / "ledger.json", ledger)
    outcome = {
        "final": point.to_dict(),
        "packed_sha256": sha256(folder.bundle / "weights.packed"),
        "ledger": ledger,
        "equality": max(cut.equality, difference(model, shipped, setup)),
        "removed": cut.removed,
        "units": cut.units,
        "rebuilt": cut.rebuilt,
        "beside": setup.task.beside(ledger["total"]),
    }
    return outcome, measured.details


@torch.no_grad()
def difference(model: nn.Module, shipped: nn.Module, setup: Setup) -> float:
    """Largest difference between the answers of the masked, quantized model and of the shipped one on real images."""
    images, _ = next(iter(Batches(setup.data, "validation", CHECKED_IMAGES, augment=False)))
    return float((setup.task.answer(model, images) - setup.task.answer(shipped, images)).abs().max())
