"""Units that fade: chosen in several periods of training, they shrink to exact zero while all others are trained.

HESSO (arXiv 2409.09085), as its published code has it: at the first step of a period units of least score become
redundant; after every step of the period, with x the numbers of such a unit, h its update and α the learning rate,

    x ← (x - α h) · (D - t - 1) / (D - t),    t = 0, 1, …, D - 1,

whose factors multiply to (D - k) / D after k steps and to exactly 0 after D. From then on the unit is held at zero.
"""

from __future__ import annotations

from typing import Any

import torch

from compression.pruning.choose import averaged
from compression.pruning.removal import HeldUnits, Removal
from compression.pruning.scores import ScoreWindow


class Fading:
    """Removes the units of ``removal`` within the steps ``first`` up to ``last`` (not included), in equal periods.

    Steps count from 0. The scores are those of the removal's options; where their criteria look at gradients, these are
    of the training's own steps, the last ones before and at each choice. After period j of P, ⌊K (j + 1) / P⌋ of K
    units are zero, or as many as it takes to save that share of the cost. No more periods than steps.
    """

    def __init__(self, removal: Removal, first: int, last: int, periods: int) -> None:
        """Nothing is chosen yet.

        Args:
            removal: of units that are still there.
            first: the step that the first units are chosen at.
            last: the step before which the last ones are zero, above ``first``.
            periods: P, how many times units are chosen.
        """
        self.removal = removal
        count = min(periods, last - first)
        self.starts = [first + index * (last - first) // count for index in range(count + 1)]
        self.redundant: list[int] = []
        self._window = ScoreWindow(removal.scorer, self.starts[:-1])
        self._fading: HeldUnits | None = None

    @property
    def periods(self) -> int:
        """How many there are."""
        return len(self.starts) - 1

    def observe(self, step: int) -> list[int]:
        """The gradients of ``step`` are complete: score, and at the beginning of a period choose.

        Returns the units that were chosen, by number.
        """
        self._window.observe(step)
        if step not in self.starts[:-1]:
            return []
        period = self.starts.index(step)
        self._begin(self.removal.choose((period + 1) / self.periods, self._scores))
        return self.redundant

    def end(self, step: int) -> int:
        """Where the period of ``step`` ends: units that fade in it are zero after so many steps."""
        return next(start for start in self.starts if start > step)

    def shrink(self, step: int) -> None:
        """The weights have been updated in ``step``: redundant units fade, removed ones are held at zero."""
        if self._fading is not None:
            end = self.end(step)
            begin = max(start for start in self.starts if start <= step)
            length, done = end - begin, step - begin
            # x ← x · (D - t - 1) / (D - t); the last factor is 0
            self._fading.shrink((length - done - 1) / (length - done))
            if done + 1 == length:
                self.removal.remove(self.redundant)
                self._begin([])
        self.removal.hold()

    def state_dict(self) -> dict[str, Any]:
        """Which units are removed, which are fading, and what was observed since the last choice."""
        scores = self.removal.scorer.state_dict()
        return {**self.removal.state_dict(), "redundant": list(self.redundant), "scores": scores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what :meth:`state_dict` gave; the model's own state is loaded apart from it."""
        self.removal.load_state_dict(state_dict)
        self.removal.scorer.load_state_dict(state_dict["scores"])
        self._begin(list(state_dict["redundant"]))

    def _begin(self, chosen: list[int]) -> None:
        self.redundant = chosen
        self._fading = self.removal.held(chosen) if chosen else None

    def _scores(self) -> torch.Tensor:
        return averaged(self.removal.scorer.take(self.removal.removed))
