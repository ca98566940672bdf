"""Whether two networks compute the same: what rounding explains passes, what it does not explain is refused."""

import pytest
import torch
from torch import nn

from compression.errors import CompressionError
from compression.graph.equality import check_equal, difference, outputs

ROWS = torch.randn(4, 6, generator=torch.Generator().manual_seed(0))


class Shifted(nn.Module):
    """Gives 1000 x, off by a share of it: in every precision, or only where numbers are short."""

    def __init__(self, share: float, rounding: bool = False, own: bool = False) -> None:
        super().__init__()
        self.weight, self.share, self.rounding, self.own = nn.Parameter(torch.tensor(1000.0)), share, rounding, own

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        share = 0.0 if self.rounding and x.dtype == torch.float64 else self.share
        if self.own and x.dtype == torch.float64:
            raise RuntimeError("expected float but got double")
        return x * self.weight * (1 + share)


def compare(second: nn.Module) -> float:
    first = Shifted(0.0)
    return check_equal(first, second, (ROWS,), outputs(first, (ROWS,)), "the other")


@pytest.mark.parametrize("second", [Shifted(0.0), Shifted(3e-5, rounding=True), Shifted(6e-6, own=True)])
def test_rounding_passes(second: nn.Module) -> None:
    expected = float((Shifted(0.0)(ROWS) - second(ROWS)).abs().max().detach())
    assert compare(second) == pytest.approx(expected)


@pytest.mark.parametrize("second", [Shifted(3e-6), Shifted(3e-5), Shifted(3e-5, own=True), Shifted(float("nan"))])
def test_what_rounding_does_not_explain_is_refused(second: nn.Module) -> None:
    with pytest.raises(CompressionError, match=r"differs from the other by .* of the output: refused"):
        compare(second)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(CompressionError, match=r"output has shape \(4, 2\), not \(4, 6\)"):
        compare(nn.Linear(6, 2))


def test_infinities_and_emptiness() -> None:
    infinite = torch.tensor([1.0, float("-inf"), 2.0], dtype=torch.float64)
    assert difference([infinite], [infinite.clone()]) == 0.0
    assert difference([infinite], [infinite + torch.tensor([0.5, 0, 0])]) == 0.5
    assert difference([], []) == 0.0 and difference([torch.empty(0)], [torch.empty(0)]) == 0.0
    assert torch.tensor(difference([infinite], [infinite.nan_to_num(0, 0, 0)])).isinf()


def test_the_mode_is_kept() -> None:
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(6, 2)).train()
    model[0].eval()
    outputs(model, (ROWS,))
    assert [module.training for module in model] == [False, True] and model.training
