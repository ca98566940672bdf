"""One file, many qualities: a finished run as a layered file (:mod:`compression.pack.layered`), prefixes measured."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from compression.data import Batches
from compression.errors import CompressionError
from compression.export.layered_table import EACH, FILE, INTEGERS, LOADER, ONE, TABLE, LayeredTable, PrefixPoint, read
from compression.export.nesting import Nested, nest
from compression.export.source import Source
from compression.export.standalone import with_words
from compression.graph.copies import deep_copy
from compression.pack import layered as files
from compression.pack import planes
from compression.pack.container import write
from compression.pack.layered_header import CRC, SHARES, STATISTICS, Part, tensor_name
from compression.pack.layering import differences, in_order, to_bytes
from compression.runs.files import finite
from compression.runs.folder import RunFolder
from compression.training.dense import evaluate
from compression.training.preparation import STATISTICS_BATCHES
from compression.training.recalibrate import settle_statistics

BITS, MOST_BITS = 8, 16
PREFIXES = 7
Say = Callable[[str, float], None]


@dataclass(frozen=True)
class Layering:
    """``bits``: the highest precision, sign included, of weights that are known before they were rounded; a run's own
    integers have the precision that they have. ``statistics`` of batch norms: ``one`` for all prefixes, those of the
    run, or ``each`` measured prefix has some, taken anew on training batches.
    """

    bits: int = BITS
    statistics: str = EACH

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= MOST_BITS:
            raise CompressionError(f"layered bits must be 2 to {MOST_BITS}, not {self.bits}")
        if self.statistics not in (ONE, EACH):
            raise CompressionError(f"statistics must be {ONE} or {EACH}, not {self.statistics!r}")


@dataclass(frozen=True)
class LayeredExport:
    """The file's bytes, and the table of its prefixes."""

    data: bytes
    table: LayeredTable

    def files(self) -> dict[str, bytes]:
        """What a bundle holds of it, by name."""
        text = json.dumps(finite(self.table.to_dict()), indent=2, allow_nan=False) + "\n"
        return {FILE: self.data, TABLE: text.encode(), LOADER: loader().encode()}


def loader() -> str:
    """The source of ``load_layered.py``: it reads prefixes of the file with numpy, torch and constriction alone."""
    frame = resources.files(str(__package__)).joinpath("load_layered.py.txt").read_text("utf-8")
    return with_words(frame)


def layered(source: Source, layering: Layering | None = None, say: Say | None = None) -> LayeredExport:
    """Write a run's weights plane by plane, and measure some prefixes; ``say`` is called with the step and the share.

    Raises:
        CompressionError: the run's weights have no planes (:func:`.nesting.nest`).
    """
    layering, report = layering or Layering(), say or (lambda text, share: None)
    report("cutting the weights into planes", 0.0)
    nested = nest(source, layering.bits)
    codes = [weight.codes.reshape(-1).numpy() for weight in nested.weights]
    coded = [planes.encode(own, w.planes) for own, w in zip(codes, nested.weights, strict=True)]
    errors = [weight.errors(target) for weight, target in zip(nested.weights, nested.targets, strict=True)]
    order = in_order(coded, errors)
    stops = chosen_stops(order)
    state, names = source.model.state_dict(), norm_statistics(source.model) if layering.statistics == EACH else []
    parts = _with_statistics(source, nested, shares(order, stops, errors), stops, names, report) if names else order
    data = to_bytes(state, nested.weights, parts, names)
    points = _measure(source, data, _sizes(parts, stops), nested, errors, report)
    packed = hashlib.sha256(source.packed).hexdigest()
    metric, statistics = source.task.metric.to_dict(), EACH if names else ONE
    facts: dict[str, Any] = {"source": nested.source, "statistics": statistics, "metric": metric, "bytes": len(data)}
    facts |= {"packed_bytes": len(source.packed), "packed_sha256": packed, "prefixes": points}
    return LayeredExport(data, read({"version": 1, "run": source.run, **facts}))


def keep(folder: RunFolder, export: LayeredExport) -> None:
    """Leave the files in the run's folder, where pages look for them; the table last.

    Raises:
        CompressionError: the folder cannot be written.
    """
    files = export.files()
    for name in (FILE, LOADER, TABLE):
        write(folder.bundle / name, files[name])


def chosen_stops(order: list[Part]) -> list[int]:
    """After how many planes a prefix is measured: from where every layer has one, in equal ratios of bytes, to all."""
    ends = np.cumsum([len(part.data) + CRC.size for part in order])
    weights = {part.weight for part in order}
    first = next((i for i in range(len(order)) if {part.weight for part in order[: i + 1]} == weights), 0)
    if not order:
        return [0]
    targets = np.geomspace(ends[first], ends[-1], PREFIXES)
    stops = [int(np.searchsorted(ends, target * (1 - 1e-9))) + 1 for target in targets]
    return sorted({min(stop, len(order)) for stop in stops})


def shares(order: list[Part], stops: list[int], errors: Sequence[NDArray[np.float64]]) -> list[Part]:
    """The planes with the share of the statistics before them that still applies: what they correct is in proportion to
    the squared error, of which each plane behind a stop leaves less.
    """
    counts, result = [0] * len(errors), []
    total = at_stop = sum(float(own[0]) for own in errors)
    for place, part in enumerate(order):
        if place in stops:
            at_stop = total
        before = counts[part.weight]
        counts[part.weight] += 1
        total += float(errors[part.weight][before + 1] - errors[part.weight][before])
        remaining = min(1.0, max(0.0, total / at_stop)) if at_stop > 0 else 0.0
        result.append(part._replace(share=round(SHARES * remaining)))
    return result


def norm_statistics(model: nn.Module) -> list[str]:
    """The names in the state of running means and variances, fp32."""
    norms = (nn.modules.batchnorm._BatchNorm,)
    names = [
        f"{name}.{part}".lstrip(".")
        for name, module in model.named_modules()
        if isinstance(module, norms) and module.track_running_stats
        for part in ("running_mean", "running_var")
    ]
    state = model.state_dict()
    return [name for name in names if name in state and state[name].dtype == torch.float32]


def _with_statistics(
    source: Source, nested: Nested, order: list[Part], stops: list[int], names: list[str], report: Say
) -> list[Part]:
    """The parts with statistics behind each stop; where all planes are the run's own weights, those are the run's."""
    model, base = deep_copy(source.model), source.model.state_dict()
    parts: list[Part] = []
    for place, stop in enumerate(stops):
        report(f"statistics of prefix {place + 1} of {len(stops)}", 0.05 + 0.35 * place / len(stops))
        parts += order[sum(part.weight != STATISTICS for part in parts) : stop]
        if stop == len(order) and nested.source == INTEGERS:
            parts.append(Part(STATISTICS, b""))
            continue
        counts = [sum(part.weight == weight for part in order[:stop]) for weight in range(len(nested.weights))]
        prefix = {tensor_name(w.name): w.prefix(n).weight() for w, n in zip(nested.weights, counts, strict=True)}
        model.load_state_dict({**base, **{name: value.to(base[name].dtype) for name, value in prefix.items()}})
        settle_statistics(model, _batches(source))
        parts.append(Part(STATISTICS, differences(base, model.state_dict(), names)))
    return parts


def _batches(source: Source) -> Any:
    """Plain training batches, as methods take statistics from."""
    budget = source.budget
    batches = Batches(source.data, "train", budget.batch_size, seed=budget.seed, augment=False)
    return (batches.batch(0, index)[0] for index in range(min(STATISTICS_BATCHES, len(batches))))


def _sizes(parts: list[Part], stops: list[int]) -> list[int]:
    """Bytes of the parts up to each stop, statistics behind it included."""
    sizes: list[int] = []
    done = total = 0
    for place, part in enumerate(parts):
        done, total = done + (part.weight != STATISTICS), total + len(part.data) + CRC.size
        more = place + 1 < len(parts) and parts[place + 1].weight == STATISTICS
        if done in stops and not more and (not sizes or total > sizes[-1]):
            sizes.append(total)
    return sizes or [0]


def _measure(
    source: Source, data: bytes, sizes: list[int], nested: Nested, errors: list[Any], report: Say
) -> list[PrefixPoint]:
    """Every prefix read back from the file and measured on the test split."""
    count = sum(math.prod(weight.codes.shape) for weight in nested.weights)
    model, points = deep_copy(source.model), []
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / FILE
        path.write_bytes(data)
        known = {cut.bytes: cut.planes for cut in files.cuts(path)}
        start = min(known)
        for place, size in enumerate(sizes):
            report(f"measuring prefix {place + 1} of {len(sizes)}", 0.4 + 0.55 * place / len(sizes))
            at = start + size
            model.load_state_dict(files.read(path, at))
            result, ledger = evaluate(model, source.task, "test"), files.ledger(path, at)
            read = known[at]
            error = sum(float(own[read[w.name]]) for own, w in zip(errors, nested.weights, strict=True))
            bits = 8 * (ledger.values + ledger.positions) / max(1, count)
            points.append(PrefixPoint(at, bits, error, result.score, result.loss, read, ledger.to_dict()))
    return points
