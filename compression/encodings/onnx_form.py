"""How an encoding asks for its weight in an ONNX graph, without knowing of any graph library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Nodes(Protocol):
    """Builds nodes of the graph under the name of one weight."""

    def constant(self, name: str, array: NDArray[Any], like: Any = None) -> Any:
        """An array stored in the graph, as a value to read; in the type of the value ``like``, if there is one."""
        ...

    def node(self, op_type: str, *inputs: Any, **attributes: Any) -> Any:
        """A node of one output, which is returned."""
        ...


@dataclass(frozen=True, eq=False)
class OnnxForm:
    """Integer ``codes``, and what makes a weight of them.

    Without ``expand`` the weight is a multiple of its codes (one scale, or one for each channel), which runtimes can
    compute with, and codes have its shape. Otherwise ``expand(nodes, codes)`` builds it from the stored codes, and
    ``values`` (fp32, the weight's shape) is what comes of that; further arrays may be stored as constants. Reports call
    the way ``suffix`` and say that such weights are ``reason``. Transposing, and scales that a batch norm leaves behind
    when it is folded into the weight, are the exporter's part.
    """

    codes: NDArray[np.int32]
    values: NDArray[np.float32] | None = None
    expand: Callable[[Nodes, Any], Any] | None = None
    suffix: str = ""
    reason: str = ""

    @property
    def reference(self) -> NDArray[Any]:
        """What is scaled to give the weight, in its shape."""
        return self.codes if self.values is None else self.values

    @property
    def levels(self) -> int:
        """The largest magnitude among the codes."""
        return int(np.abs(self.codes).max(initial=0))


def table_form(
    codes: NDArray[np.int32], values: Callable[[NDArray[np.int32]], NDArray[np.float32]], reason: str
) -> OnnxForm:
    """Signed codes that look their ``values`` up in a table, negative ones from its end.

    Where no weight is 0, codes above it move down by one, so that 2^b levels take b bits.
    """
    count, without_zero = int(np.abs(codes).max(initial=0)), codes.size > 0 and bool(codes.all())
    stored = codes - (codes > 0) if without_zero else codes
    table = values(np.concatenate([np.arange(int(without_zero), count + 1), np.arange(-count, 0)]).astype(np.int32))

    def expand(nodes: Nodes, stored: Any) -> Any:
        return nodes.node("Gather", nodes.constant("table", table), nodes.node("Cast", stored, to=np.int32))

    return OnnxForm(stored.astype(np.int32), table[stored], expand, "table", reason)
