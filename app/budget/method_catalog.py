"""The methods as the pages offer them: their order, what of a budget each follows, its options and its sentence.

What is not in the order below follows after it, so that a new method shows up by itself. torch comes with the first
call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app import words

if TYPE_CHECKING:
    from compression.methods import Method
    from compression.methods.base import Uses
    from compression.methods.options import Option

ORDER = ("geta", "opq", "sequential", "magnitude", "ptq")


def names() -> list[str]:
    """Every method, the usual ones first."""
    from compression import methods

    found = methods.all_methods()
    return [*(name for name in ORDER if name in found), *(name for name in found if name not in ORDER)]


def get(name: str) -> Method:
    """The method of this name.

    Raises:
        CompressionError: there is none.
    """
    from compression import methods

    return methods.get(name)


def uses(name: str) -> Uses:
    """What of a budget this method follows."""
    return get(name).uses


def options(name: str) -> Sequence[Option]:
    """The options of a method that a form can show; empty for a method whose options are set in a file only."""
    found: Sequence[Option] = getattr(get(name), "options", ())
    return found


def sentence(name: str) -> str:
    """What the method does, in one plain sentence."""
    return words.METHODS.get(name) or get(name).summary
