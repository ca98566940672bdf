"""The export benchmark's words: which variant is fastest, by the median turn, and what was to be reached."""

from __future__ import annotations

import dataclasses
import json
import re

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


def test_the_section_reports_what_was_reached() -> None:
    results = [entry("resnet20", 1.013, 0.998, 4.0), entry("resnet50", 1.0, 0.1, 21.0)]
    again = [exported.from_dict(json.loads(json.dumps(dataclasses.asdict(one)))) for one in results]
    assert again == results
    text = exported.section(results)
    lines = [line.removeprefix("- ") for line in exported.reached(results)]
    numbers = [re.findall(r"(?<![\w.])\d+(?:\.\d+)?%?(?![\w.])", line) for line in lines]
    assert numbers == [["2.10", "2"], ["2.10"], ["1.30%", "2%"], ["99.80%", "512", "99.5%"], ["21", "60"]]
    assert [line.partition(":")[0] for line in (*lines[:2], lines[3])] == ["resnet20", "resnet50", "resnet20"]
    assert all("ints" in line for line in lines[:2]) and "resnet50" in lines[4]
    assert all(line in text for line in lines)
    assert "| resnet20 | slim | 2.000 | 1.800 to 2.400 | 2.00 | 1.90 to 9.00 | 200.00% | 1,000 |" in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {9, 12}
