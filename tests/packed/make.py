"""How the files beside this one were made, with the release before format version 4 (commit ff01e02):

    git archive ff01e02 compression | tar -x -C OLD && cd OLD && python …/tests/packed/make.py FOLDER

One file for each of the versions 1 to 3, with every coding, a shared tensor, an empty one and other types; beside it
the very state that was packed. ``gallery.json`` has the digest of what each packed file of the gallery held then.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

CHANNELS = torch.tensor([0.25, 0.5, 0.125, 1.5, 0.0625, 3.0])


def codes() -> dict[str, torch.Tensor]:
    """Codes that are shortest as a table with coded words, at fixed length, with a bitmap, and as nothing at all."""
    random = np.random.default_rng(0)
    return {
        name: torch.from_numpy(values).to(torch.int32)
        for name, values in {
            "ans": np.clip(np.round(random.laplace(size=(6, 60)) * 1.5), -7, 7),
            "fixed": random.integers(-8, 8, (6, 4, 2, 2)),
            "bitmap": np.where(random.random((6, 30)) < 0.6, 0, random.integers(-127, 128, (6, 30))),
            "zero": np.zeros((6, 4)),
        }.items()
    }


def digest(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of the names, types, shapes and bytes of a state, in its order."""
    result = hashlib.sha256()
    for name, tensor in state.items():
        result.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        result.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return result.hexdigest()


def main(folder: Path) -> None:
    """Write ``v1.packed``, ``v2.packed`` and ``v3.packed`` with what they hold."""
    from compression.pack.container import to_bytes, unpack
    from compression.quant.integers import IntegerWeight

    shared = torch.arange(6.0)
    others = {"bias": torch.tensor([0.5, -0.0]), "half": shared.half(), "n": torch.tensor(3), "none": torch.zeros(0, 4)}
    for version, offset in ((1, None), (2, None), (3, 0.1875)):
        weights = {}
        for name, own in codes().items():
            step = CHANNELS.reshape(-1, *[1] * (own.dim() - 1)) if version == 2 else 0.3
            weights[name] = IntegerWeight(name, own, step if version == 2 else float(np.float32(step)), 8, offset)
        state = {f"{name}.weight": weight.weight() for name, weight in weights.items()}
        state |= {**others, "first": shared, "second": shared}
        (folder / f"v{version}.packed").write_bytes(to_bytes(state, weights))
        save_file({name: tensor.clone() for name, tensor in state.items()}, folder / f"v{version}.safetensors")

    gallery = folder.parents[1] / "assets" / "gallery"
    paths = sorted(gallery.glob("*/*/bundle/weights.packed"))
    digests = {path.relative_to(gallery).parts[1]: digest(unpack(path)) for path in paths}
    (folder / "gallery.json").write_text(json.dumps(digests, indent=2) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
