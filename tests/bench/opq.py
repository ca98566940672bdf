"""The OPQ benchmark: how fast an allocation of 25 M weights answers, how good it is, and how small and fast packing is.

python -m tests.bench.opq [--write BENCHMARKS.md]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
import zstandard
from torch import nn

from compression.counting.entropy import entropy_bits
from compression.methods.opq import LayerTables, allocate_from, attach
from compression.pack import pack, unpack
from compression.quant.integers import integer_weights
from tests.bench.graphs import write
from tests.bench.report import machine

T = TypeVar("T")
TITLE = "OPQ: allocation of 25 M weights, and packing"
ANSWERS = 200  # budgets asked for one after the other, as a slider does
FIRST_REACH, EXACT_REACH, RELEASE_REACH, DRAG_REACH, MEMORY_REACH = 2.0, 6.0, 1.0, 0.050, 8.0
ENTROPY_REACH = ((5_000_000, 1.005), (100_000, 1.02))
DECODE_REACH = 30.0  # million weights a second
SIZES = (100_000, 1_000_000, 5_000_000, 25_000_000)
BUDGETS = ((0.5, 2.0), (0.7, 4.0), (0.9, 3.0))
LEGEND = """\
Allocation: the weight shapes of ResNet-50, filled with seeded Laplace numbers of each layer's own scale (torchvision's
trained weights need a download); seconds of processor time on one thread. *First answer*: reading and sorting the
weights, and the Laplace tables' allocation. *Exact*: reading, exact steps and the proven bits. *While dragging*: 200
random budgets (sparsity 0 to 95 %, 2.5 to 7 bits) one after the other, Laplace tables. *After release*: the same
budgets, exact. *Memory*: the most the process grew by over all of this, over the weights' 4 bytes each. *Dearer*: the
error of the answer while dragging over that of the exact one, at the same budget. Tests compare the exact bits with a
MILP solver (tests/test_opq_bits.py).

Packing: a linear layer of so many Laplace weights, allocated and quantized; the whole file, tables and header included,
over the entropy of its codes; `zstd`: the same codes at their bits, packed or one a byte (whichever comes out smaller),
by zstd -19 (-19 takes minutes on the longest: left out there); decoding: the whole file back to fp32 weights."""


@dataclass(frozen=True)
class Speed:
    """Seconds; ``memory`` is relative to the weights, ``dearer`` the median error of the dragged answer over exact."""

    weights: int
    first: float
    exact: float
    drag: tuple[float, float]
    release: tuple[float, float]
    memory: float
    dearer: tuple[float, float]


@dataclass(frozen=True)
class Packed:
    """One file: ``bound`` in bytes, ``rate`` in million weights decoded a second, ``zstd`` in bytes where measured."""

    weights: int
    sparsity: float
    bits: float
    size: int
    bound: float
    zstd: int | None
    rate: float


def main(argv: list[str] | None = None) -> int:
    """Measure, print the section, and put it into a file if asked."""
    parser = argparse.ArgumentParser(prog="tests.bench.opq", description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the section into this file")
    arguments = parser.parse_args(argv)
    torch.set_num_threads(1)
    with multiprocessing.get_context("spawn").Pool(1) as alone:  # its memory is nobody else's
        speed = alone.apply(allocation)
    packed = [packing(size, *budget) for size in SIZES for budget in BUDGETS]
    text = section(speed, packed)
    print(text)
    if arguments.write:
        write(arguments.write, text)
    return 0


def large_weights() -> dict[str, torch.Tensor]:
    """The convolution and linear weights of ResNet-50, random: 25.5 M."""
    from torchvision.models import resnet50

    with torch.device("meta"):
        shapes = {n: m.weight.shape for n, m in resnet50().named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))}
    random = torch.Generator().manual_seed(0)
    return {name: laplace(tuple(shape), random) * (2 / shape[1:].numel()) ** 0.5 for name, shape in shapes.items()}


def laplace(shape: tuple[int, ...], random: torch.Generator) -> torch.Tensor:
    """Laplace numbers of scale 1, fp32."""
    even = torch.rand(shape, generator=random).mul_(2).sub_(1).clamp_(-1 + 1e-7, 1 - 1e-7)
    return -even.sign() * torch.log1p(-even.abs())


def allocation() -> Speed:
    """All measurements of the allocation, in a process of their own."""
    torch.set_num_threads(1)
    weights = large_weights()
    size = sum(weight.numel() for weight in weights.values())
    before = _peak()
    prepare, tables = _timed(lambda: LayerTables.prepare(weights))
    laplace_first, _ = _timed(lambda: allocate_from(tables, 0.7, 4.0, tables="laplace"))
    exact_first, _ = _timed(lambda: allocate_from(tables, 0.7, 4.0))
    chance = np.random.default_rng(0)
    requests = [(chance.uniform(0.0, 0.95), chance.uniform(2.5, 7.0)) for _ in range(ANSWERS)]
    drag = [_timed(partial(allocate_from, tables, s, b, tables="laplace")) for s, b in requests]
    release = [_timed(partial(allocate_from, tables, s, b)) for s, b in requests]
    dearer = [quick.error / exact.error for (_, quick), (_, exact) in zip(drag, release, strict=True)]
    return Speed(
        size, prepare + laplace_first, prepare + exact_first, _middle_and_tail([t for t, _ in drag]),
        _middle_and_tail([t for t, _ in release]), (_peak() - before) / (4 * size), _middle_and_tail(dearer),
    )  # fmt: skip


def packing(size: int, sparsity: float, bits: float) -> Packed:
    """Pack one allocated layer of ``size`` weights, and read it back."""
    layer = nn.Linear(size // 100, 100, bias=False)
    random = torch.Generator().manual_seed(size)
    with torch.no_grad():
        layer.weight.copy_(laplace((100, size // 100), random))
    model = nn.Sequential(layer)
    attach(model, allocate_from(LayerTables.prepare(model), sparsity, bits))
    (integer,) = integer_weights(model).values()
    codes = integer.codes.numpy().reshape(-1)
    bound = entropy_bits(np.unique(codes, return_counts=True)[1]) / 8
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.packed"
        written = pack(model, path).total
        seconds = statistics.median(_timed(lambda: unpack(path))[0] for _ in range(3))
    return Packed(size, sparsity, bits, written, bound, zstd(codes, int(bits)), size / seconds / 1e6)


def zstd(codes: np.ndarray, bits: int) -> int | None:
    """Bytes of ``zstd -19`` on the codes, one a byte or packed at their bits, whichever is smaller."""
    if codes.size > 5_000_000:
        return None
    small = codes.astype(np.int8)
    low = np.bitwise_and(small.view(np.uint8), np.uint8((1 << bits) - 1)).astype(np.uint8)
    planes = np.unpackbits(low[:, None], axis=1)[:, 8 - bits :]
    coder = zstandard.ZstdCompressor(level=19)
    return min(len(coder.compress(raw.tobytes())) for raw in (small, np.packbits(planes)))


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    begin = time.process_time()
    result = work()
    return time.process_time() - begin, result


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _middle_and_tail(values: list[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    return float(np.percentile(values, 50)), float(np.percentile(values, 95))


def section(speed: Speed, packed: list[Packed]) -> str:
    """The whole section of BENCHMARKS.md, title included."""
    about = machine(f"{speed.weights / 1e6:.1f} M weights")
    about += [
        f"- first answer (Laplace tables) after {speed.first:.2f} s, to reach: {FIRST_REACH:g}; exact after "
        f"{speed.exact:.2f} s, to reach: {EXACT_REACH:g}",
        f"- while dragging {1e3 * speed.drag[0]:.0f} ms (median), {1e3 * speed.drag[1]:.0f} ms (p95), to reach: "
        f"{1e3 * DRAG_REACH:.0f}; after release, exact: {1e3 * speed.release[0]:.0f} and "
        f"{1e3 * speed.release[1]:.0f} ms, to reach: {1e3 * RELEASE_REACH:.0f}",
        f"- memory {speed.memory:.1f} times the weights, to reach: {MEMORY_REACH:g}",
        f"- the answer while dragging has {speed.dearer[0]:.4f} (median) and {speed.dearer[1]:.4f} (p95) times the "
        "error of the exact one",
        *(_reached(packed, least, most) for least, most in ENTROPY_REACH),
        f"- decodes {min(p.rate for p in packed):.0f} to {max(p.rate for p in packed):.0f} M weights/s, to reach: "
        f"{DECODE_REACH:g}",
        f"- smaller than zstd -19: {sum(p.zstd is not None and p.size < p.zstd for p in packed)} of "
        f"{sum(p.zstd is not None for p in packed)}",
    ]
    lines = ["weights | sparsity | bits | file bytes | over entropy | zstd -19 over file | decoded, M weights/s"]
    lines.append("---: | ---: | ---: | ---: | ---: | ---: | ---:")
    lines += [
        f"{p.weights:,} | {p.sparsity:.0%} | {p.bits:g} | {p.size:,} | {p.size / p.bound:.4f} | "
        f"{'' if p.zstd is None else f'{p.zstd / p.size:.3f}'} | {p.rate:.0f}"
        for p in packed
    ]
    table = "\n".join(f"| {line} |" for line in lines)
    return "\n\n".join([f"## {TITLE}", "\n".join(about), LEGEND, table]) + "\n"


def _reached(packed: list[Packed], least: int, most: float) -> str:
    worst = max(p.size / p.bound for p in packed if p.weights >= least)
    return f"- files from {least:,} weights on: at most {worst:.4f} of the entropy, to reach: {most:g}"


if __name__ == "__main__":
    sys.exit(main())
