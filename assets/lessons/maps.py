"""Ask two models which pixels count, for lesson 10: a run of the gallery that kept its model, and the original.

    python assets/lessons/maps.py            writes assets/lessons/maps.npz

The first test images that the models answer differently, then the first that they answer alike. For each: its pixels,
its class and both answers, and the maps of every light attribution method for the class that the original answers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from compression.explain import METHODS, pair, scan  # noqa: E402
from compression.explain.comparison import Explainers  # noqa: E402
from compression.runs.folder import RunFolder  # noqa: E402

RUN = "resnet8-mnist5k/geta"
SCANNED, OF_EACH = 600, 6


def computed() -> dict[str, NDArray[Any]]:
    """All that is kept; maps are [image, 2, height, width], the original first, under the name of their method."""
    both = pair(RunFolder(HERE.parent / "gallery" / RUN))
    seen = scan(both, SCANNED)
    alike = [image for image in range(SCANNED) if image not in seen.changed]
    images = [*seen.changed[:OF_EACH], *alike[:OF_EACH]]
    targets, explainers = torch.tensor([seen.before[image] for image in images]), Explainers.of(both)
    kept: dict[str, NDArray[Any]] = {
        "images": np.array(images),
        "pixels": both.data.split("test").images[images].numpy(),
        "answers": np.array([[told[image] for told in (seen.labels, seen.before, seen.after)] for image in images]),
        "classes": np.array(both.data.classes),
        "differing": np.array([len(seen.changed), SCANNED]),
    }
    for name in (method.name for method in METHODS.values() if not method.heavy):
        maps = [each.attribute(name, both.images(images), targets) for each in (explainers.dense, explainers.small)]
        kept[name] = torch.stack(maps, dim=1).numpy().astype(np.float16)
    return kept


def main() -> None:
    """Compute and write."""
    torch.set_num_threads(1)
    np.savez_compressed(HERE / "maps.npz", **computed())
    print(f"{(HERE / 'maps.npz').stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
