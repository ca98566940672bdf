"""Compute which pixels count for two models, for lesson 10: a run of the gallery that has its model, and the original.

    python -m lessons.forgetting.maps            writes maps.npz beside this file

The first test images that the models answer differently, then the first that they answer alike. For each: its pixels,
its class and both answers, and the maps of every light attribution method for the class that the original answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from compression.explain import METHODS, pair, scan
from compression.explain.comparison import Explainers
from compression.runs.folder import RunFolder
from lessons.recorded import GALLERY

RUN = "resnet8-mnist5k/geta"
SCANNED, OF_EACH = 600, 6


def computed() -> dict[str, NDArray[Any]]:
    """All arrays; maps are [image, 2, height, width], the original first, under the name of their method."""
    both = pair(RunFolder(GALLERY / RUN))
    scanned = scan(both, SCANNED)
    alike = [image for image in range(SCANNED) if image not in scanned.changed]
    images = [*scanned.changed[:OF_EACH], *alike[:OF_EACH]]
    targets, explainers = torch.tensor([scanned.before[image] for image in images]), Explainers.from_pair(both)
    arrays: dict[str, NDArray[Any]] = {
        "images": np.array(images),
        "pixels": both.data.split("test").images[images].numpy(),
        "answers": np.array(
            [[labels[image] for labels in (scanned.labels, scanned.before, scanned.after)] for image in images]
        ),
        "classes": np.array(both.data.classes),
        "differing": np.array([len(scanned.changed), SCANNED]),
    }
    for name in (method.name for method in METHODS.values() if not method.heavy):
        maps = [each.attribute(name, both.images(images), targets) for each in (explainers.dense, explainers.small)]
        arrays[name] = torch.stack(maps, dim=1).numpy().astype(np.float16)
    return arrays


def main() -> None:
    """Compute and write."""
    torch.set_num_threads(1)
    path = Path(__file__).with_name("maps.npz")
    stored: dict[str, Any] = computed()
    np.savez_compressed(path, **stored)
    print(f"{path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
