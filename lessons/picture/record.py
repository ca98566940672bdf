"""Writes ``scores.json``: the PSNR of the picture for every layer, bit-width and share of zeros that the sliders offer.

python -m lessons.picture.record
"""

from __future__ import annotations

import json

from lessons.picture.lesson import ALL, SCORES, WIDTHS, ZEROS, drawn, layers


def main() -> None:
    """Half a minute on one core."""
    scores = {
        layer: {str(zeros): [round(drawn(layer, bits, zeros).psnr, 3) for bits in WIDTHS] for zeros in ZEROS}
        for layer in (ALL, *layers())
    }
    scores["none"] = {"0": [round(drawn("none", WIDTHS[-1], 0).psnr, 3)]}
    SCORES.write_text(json.dumps(scores, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
