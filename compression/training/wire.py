"""What processes that train together send each other in the place of gradients: codes of a few bits, and their levels.

A communication hook of DistributedDataParallel. Each process rounds its own gradient, all get all codes, and each takes
the mean of what they stand for, in the same order: the means are equal bit for bit. With two bits and more rounding is
stochastic, between the levels of ORQ, so that the mean is right on average; with one bit it is BinGrad-b
(:mod:`compression.quant.gradient_levels`; arXiv 2002.11082). No error is carried over to the next step.
"""

from typing import Any  # no postponed annotations here: DistributedDataParallel reads those of the hook

import numpy as np
import torch
from torch import distributed
from torch.futures import Future

from compression.quant.gradient_levels import best_levels, two_means
from compression.quant.stochastic import (
    pack_codes,
    packed_bytes,
    round_stochastically,
    round_to_nearest,
    unpack_codes,
    values_of,
)

BLOCK, VALUES_A_LEVEL = 2048, 128
"""Values with levels of their own (the paper's bucket); more where there are so many levels that they would weigh."""


class Wire:
    """Gradients in ``bits`` bits a value between the processes of one run; hand :func:`averaged` to the hook with it.

    Biases, norms and the quantizers' own scalars are sent as they are: there are few of them, and a large one would
    coarsen the levels of all weights around it.

    Args:
        bits: 1 to 8. seed: of the run; the draws follow from it, the step, the bucket and the process, so that a run
        that is resumed draws what it would have drawn.

    ``step`` is the step that is being taken; ``sent`` and ``whole`` are bytes so far of this process to each other one,
    and those of the same gradients in fp32; ``steps``: how many steps that were.
    """

    def __init__(self, bits: int, seed: int) -> None:
        self.bits, self.seed = bits, seed
        self.step = self.steps = self.sent = self.whole = 0

    def state_dict(self) -> dict[str, Any]:
        """What was counted; nothing else lasts longer than a step."""
        return {"steps": self.steps, "sent": self.sent, "whole": self.whole}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on counting."""
        self.steps, self.sent, self.whole = (int(state[name]) for name in ("steps", "sent", "whole"))

    def facts(self) -> dict[str, Any]:
        """JSON values for the result: bits, and bytes a step that a process sends to each other one."""
        steps = max(1, self.steps)
        sizes = {"bytes_per_step": self.sent / steps, "fp32_bytes_per_step": self.whole / steps}
        return {"gradient_bits": self.bits, "steps": self.steps, **sizes}

    def __str__(self) -> str:
        steps = max(1, self.steps)
        sent, whole = f"{self.sent / steps:,.0f} bytes a step", f"{self.whole / steps:,.0f} in fp32"
        return f"gradients of {self.bits}-bit values: each process sends {sent} to each other one, {whole}"

    def generator(self, bucket: int, device: torch.device) -> torch.Generator:
        """The random numbers of this process for a bucket in this step."""
        entropy = (self.seed % 2**64, self.step, bucket, distributed.get_rank())
        drawn = np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]
        return torch.Generator(device).manual_seed(int(drawn))

    def encode(self, flat: torch.Tensor, coded: torch.Tensor, bucket: int) -> torch.Tensor:
        """The bytes, uint8 [m], of a gradient fp32 [n]: packed codes of the values that are ``coded`` (bool [n]), their
        levels, and the others as they are.
        """
        values, plain = flat[coded].float(), flat[~coded].float()
        if len(values) == 0:
            return plain.view(torch.uint8)
        blocks = _in_blocks(values, self.bits)
        if self.bits == 1:
            levels = two_means(blocks)
            codes = round_to_nearest(blocks, levels)
        else:
            levels = best_levels(blocks, self.bits)
            codes = round_stochastically(blocks, levels, self.generator(bucket, flat.device))
        packed = pack_codes(codes.flatten()[: len(values)], self.bits)
        return torch.cat([packed, levels.flatten().view(torch.uint8), plain.view(torch.uint8)])

    def decode(self, data: torch.Tensor, coded: torch.Tensor) -> torch.Tensor:
        """The gradient fp32 [n] that the bytes of :meth:`encode` stand for."""
        flat = torch.empty(len(coded), device=data.device)
        count = int(coded.sum())
        if count:
            blocks, length = _shape(count, self.bits)
            ends = [packed_bytes(count, self.bits), blocks * 2**self.bits * flat.element_size()]
            packed, levels, plain = data.split([*ends, len(data) - sum(ends)])
            codes = torch.nn.functional.pad(unpack_codes(packed, self.bits, count), (0, blocks * length - count))
            values = values_of(codes.view(blocks, length), _floats(levels).view(blocks, -1))
            flat[coded] = values.flatten()[:count]
        else:
            plain = data
        flat[~coded] = _floats(plain)
        return flat


def wire_bytes(coded: int, plain: int, bits: int) -> int:
    """The bytes of a gradient of ``coded`` values that are rounded and ``plain`` ones that are not."""
    blocks = _shape(coded, bits)[0] if coded else 0
    return packed_bytes(coded, bits) + 4 * (blocks * 2**bits + plain)


def wire_of(bits: int | None, seed: int) -> Wire | None:
    """The wire of a run whose gradients are sent in ``bits`` bits; None where they are sent in fp32."""
    return None if bits is None else Wire(bits, seed)


def averaged(wire: Wire, bucket: distributed.GradBucket) -> Future[torch.Tensor]:
    """The hook: the mean over the processes of the gradients in ``bucket``, as they are on the wire."""
    flat = bucket.buffer()
    coded = torch.cat([torch.full((g.numel(),), g.dim() > 1, device=flat.device) for g in bucket.gradients()])
    # 1. Codes, levels and what is sent as it is
    data = wire.encode(flat, coded, bucket.index())
    wire.sent, wire.whole = wire.sent + len(data), wire.whole + 4 * len(flat)
    wire.steps += bucket.is_last()
    # 2. Nothing else goes over the wire, and the bytes of every process are as many
    everybody = [torch.empty_like(data) for _ in range(distributed.get_world_size())]
    distributed.all_gather(everybody, data)
    # 3. The mean, from the first process to the last on all of them
    total = wire.decode(everybody[0], coded)
    for other in everybody[1:]:
        total += wire.decode(other, coded)
    done: Future[torch.Tensor] = Future(devices=[flat.device] if flat.device.type == "cuda" else None)
    done.set_result((total / len(everybody)).to(flat.dtype))
    return done


def _shape(count: int, bits: int) -> tuple[int, int]:
    """How many blocks ``count`` values make, and how long each is: equally long, up to the last value or few."""
    blocks = -(-count // max(BLOCK, VALUES_A_LEVEL * 2**bits))
    return blocks, max(2, -(-count // blocks))


def _in_blocks(values: torch.Tensor, bits: int) -> torch.Tensor:
    """The values as blocks [B, n], the last one filled up with copies of the last value."""
    blocks, length = _shape(len(values), bits)
    return torch.cat([values, values[-1:].expand(blocks * length - len(values))]).view(blocks, length)


def _floats(data: torch.Tensor) -> torch.Tensor:
    """Bytes as fp32, which may begin anywhere."""
    return data.clone().view(torch.float32)
