"""The export benchmark's words: which variant is fastest, by the median turn, and what was to be reached."""

from __future__ import annotations

import dataclasses
import json

from tests.bench import exported


def timed(name: str, median: float, *ratios: float) -> exported.Timed:
    return exported.Timed(name, median, median * 0.9, median * 1.2, 1e6 / median, 1000, 60, ratios)


def entry(model: str, ledger: float, same: float, seconds: float) -> exported.Exported:
    variants = (
        timed("dense, fp32", 4.0, 1.0, 1.0, 1.0),
        timed("slim", 2.0, 2.0, 9.0, 1.9),
        timed("ints", 1.9, 2.1, 2.2, 1),
    )
    return exported.Exported(model, 0.5, (0.9, 0.8), variants, ledger, 512, (same, 0.99), (100, 10), seconds, 0.5)


def test_the_section_tells_what_was_reached() -> None:
    found = [entry("resnet20", 1.013, 0.998, 4.0), entry("resnet50", 1.0, 0.1, 21.0)]
    again = [exported.from_dict(json.loads(json.dumps(dataclasses.asdict(one)))) for one in found]
    assert again == found
    text = exported.section(found)
    assert "- resnet20: fastest is ints, 2.10 times as fast as dense fp32, to reach: 2\n" in text
    assert "- resnet50: fastest is ints, 2.10 times as fast as dense fp32\n" in text
    assert "within 1.30% of the ledger, to reach: 2%" in text
    assert "- resnet20: `model.onnx` gives torch's class to 99.80% of 512 test images, to reach: 99.5%" in text
    assert "resnet50: `model.onnx`" not in text
    assert "at most 21 s (resnet50), to reach: 60" in text
    assert "| resnet20 | slim | 2.000 | 1.800 to 2.400 | 2.00 | 1.90 to 9.00 | 200.00% | 1,000 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {9, 12}
