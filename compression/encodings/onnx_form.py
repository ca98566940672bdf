"""How an encoding asks for its weight in an ONNX graph, without knowing of any graph library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


class Nodes(Protocol):
    """Builds nodes of the graph under the name of one weight."""

    def constant(self, name: str, array: NDArray[Any]) -> Any:
        """An array stored in the graph, as a value to read."""
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
