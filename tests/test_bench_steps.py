"""The step benchmark: it times what it says, and its section takes its own place in the file."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.bench import steps
from tests.bench.graphs import write


def test_every_side_is_trained_through_all_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    file = tmp_path / "BENCHMARKS.md"
    file.write_text("# Benchmarks\n\n## Another section\n\nkept\n", encoding="utf-8")
    try:
        assert steps.main(["--model", "resnet8", "--batch", "2", "--steps", "24", "--write", str(file)]) == 0
    finally:
        torch.set_num_threads(threads)
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    names = [row.split("|")[1].strip() for row in rows[2:]]
    assert names in (
        [steps.PLAIN, steps.WEIGHTS, steps.EAGER, steps.COMPILED, steps.LEVERS, steps.BOTH_LEVERS],
        [steps.PLAIN, steps.WEIGHTS, steps.EAGER, steps.LEVERS],
    )
    assert len({row.count("|") for row in rows}) == 1
    assert file.read_text(encoding="utf-8").count("\n## ") == 2
    assert "kept" in file.read_text(encoding="utf-8")


def test_ratios_are_medians_of_turns_and_joint_costs_means() -> None:
    def side(passes: float, updates: list[float]) -> steps.Side:
        model = nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return steps.Side("side", model, optimizer, passes=[passes] * len(updates), updates=updates)

    stages = steps.stage_of(40)
    plain = side(9.0, [1.0] * 40)
    ours = side(10.0, [4.0 if stage == "joint" else 1.0 for stage in stages])
    ours.updates[stages.index("joint")] = 20.0
    assert steps.ratio(ours, plain) == pytest.approx(11 / 10)
    joint = stages.count("joint")
    mean = (20 + 4 * (joint - 1)) / joint
    assert steps.joint_cost(ours, plain) == pytest.approx((mean, mean / (10 + mean)))


def test_a_section_is_replaced_by_its_newer_self_and_others_stay(tmp_path: Path) -> None:
    file = tmp_path / "BENCHMARKS.md"
    write(file, "## One\n\nold\n")
    write(file, "## One of another name\n\nstays\n")
    write(file, "## One\n\nnew\n")
    text = file.read_text(encoding="utf-8")
    assert "old" not in text
    assert "new" in text and "stays" in text
