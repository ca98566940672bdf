"""The shortcuts of the meta device: exactly the shapes, strides and types of torch's own kernels, on every layout."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_leaves

from compression.graph.shapes import SHORTCUTS, run

aten = torch.ops.aten
SHAPES = [(), (5,), (1, 7), (3, 4), (1, 2, 6), (2, 6, 5, 4), (1, 6, 1, 1), (2, 6, 3, 1), (0, 3)]
Case = tuple[Any, ...]


def empty(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def layouts(shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Iterator[torch.Tensor]:
    """New, channels last, transposed, with gaps, a part of something larger, and broadcast."""
    new = empty(*shape, dtype=dtype)
    yield new
    if len(shape) == 4:
        yield new.contiguous(memory_format=torch.channels_last)
    if len(shape) > 1:
        yield empty(*shape[:-2], shape[-1], shape[-2], dtype=dtype).transpose(-1, -2)
        yield empty(*shape[1:], shape[0], dtype=dtype).movedim(-1, 0)
    if shape:
        yield empty(*shape[:-1], 2 * shape[-1], dtype=dtype)[..., ::2]
        yield empty(*shape[:-1], shape[-1] + 1, dtype=dtype)[..., 1:]
        yield empty(*(1 for _ in shape), dtype=dtype).expand(shape)


def every(shapes: Sequence[tuple[int, ...]] = SHAPES, *dtypes: torch.dtype) -> Iterator[torch.Tensor]:
    for shape, dtype in itertools.product(shapes, dtypes or (torch.float32, torch.bfloat16, torch.int64)):
        yield from layouts(shape, dtype)


def unary() -> Iterator[Case]:
    yield from ((x,) for x in every())


def clamped() -> Iterator[Case]:
    yield from ((x, *bounds) for x in every() for bounds in ((0,), (0.0, 6), (5, 2), (None,)))


def raised() -> Iterator[Case]:
    yield from (args for args in clamped() if len(args) == 2)


def binary() -> Iterator[Case]:
    yield from ((x, number) for x in every() for number in (2, 0.5, True))
    for x in every(SHAPES, torch.float32):
        partners = {tuple(x.shape), (1,) * x.ndim, tuple(x.shape[1:]), (*x.shape[:2], 1, 1), (9, 9), (3, *x.shape)}
        yield from ((x, y) for shape in sorted(partners) for y in layouts(shape))
        yield from ((x, empty(*x.shape, dtype=torch.float64)), (x, torch.tensor(2.0)))


def numbers() -> Iterator[Case]:
    yield from ((x, number) for x in every() for number in (2, 0.5, True))


def filled() -> Iterator[Case]:
    for x in every(SHAPES, torch.float32):
        yield from ((x, mask, -100.0) for shape in (x.shape, x.shape[-1:]) for mask in layouts(shape, torch.bool))


def rolled() -> Iterator[Case]:
    moves: list[tuple[list[int], list[int]]] = [([1], [0]), ([1, -2], [-1, 0]), ([1], []), ([1, 1], [0]), ([1], [9])]
    yield from ((x, *move) for x in every() for move in moves)


def along() -> Iterator[Case]:
    yield from ((x, dim) for x in every(SHAPES, torch.float32) for dim in (-1, 0, 1, 5))


def reduced() -> Iterator[Case]:
    dims: list[Any] = [[0], [-1], [2, 3], [0, 1], [0, 0], [7], [], None]
    yield from ((x, over, keep) for x in every() for over in dims for keep in (True, False))


def normed() -> Iterator[Case]:
    yield from ((x, order, *rest) for x, *rest in reduced() for order in (2, float("inf")))


def joined() -> Iterator[Case]:
    for shape in SHAPES:
        pairs = itertools.product(layouts(shape), layouts(shape))
        yield from (([x, y], dim) for x, y in pairs for dim in (0, 1, -1, 4))
        yield from (([empty(*shape), empty(*other)], 0) for other in [*SHAPES, (0,)])
    yield ([empty(3, 4), empty(3, 4, dtype=torch.float64)], 0)


MATRICES = [(3, 4), (4, 5), (1, 4), (4, 1), (0, 4)]


def products() -> Iterator[Case]:
    for x, y in itertools.product(MATRICES, MATRICES):
        yield from itertools.product(layouts(x), layouts(y))
    yield (empty(3, 4), empty(4, 5, dtype=torch.float64))


def shifted_products() -> Iterator[Case]:
    for x, y in products():
        yield from ((empty(*shape), x, y) for shape in ((y.shape[1],), (1,), (x.shape[0], y.shape[1]), (), (6,)))


def batches() -> Iterator[Case]:
    shapes = [(2, 3, 4), (2, 4, 5), (1, 4, 5), (2, 4, 1)]
    for x, y in itertools.product(shapes, shapes):
        yield from itertools.product(layouts(x), layouts(y))


def convolutions() -> Iterator[Case]:
    plain = [1, 1], [0, 0], [1, 1]
    ways = [plain, ([2, 2], [1, 1], [2, 2]), ([1], [0], [1]), ([1, 1], [-1, -1], [1, 1]), ([0, 0], [0, 0], [1, 1])]
    sizes = [((2, 6, 8, 7), (4, 6, 3, 3), 1), ((1, 6, 8, 7), (12, 1, 3, 3), 6), ((2, 6, 1, 1), (4, 6, 1, 1), 1),
             ((2, 6, 8, 7), (4, 5, 3, 3), 1), ((2, 6, 2, 2), (4, 6, 5, 5), 1),
             ((2, 6, 8, 7), (5, 3, 3, 3), 2)]  # fmt: skip
    for x_shape, w_shape, groups in sizes:
        bias = empty(w_shape[0])
        for x, weight in itertools.product(layouts(x_shape), layouts(w_shape)):
            yield from ((x, weight, bias, *way, False, [0, 0], groups) for way in ways)
            yield (x, weight, empty(1), *plain, False, [0, 0], groups)
            yield (x, weight, None, *plain, True, [0, 0], groups)


def batch_norms() -> Iterator[Case]:
    for x in every([shape for shape in SHAPES if len(shape) > 1], torch.float32, torch.float64, torch.bfloat16):
        for dtype in (torch.float32, x.dtype):
            four = [empty(x.shape[1], dtype=dtype) for _ in range(4)]
            yield from ((x, *four, training, 0.1, 1e-5) for training in (False, True))
            yield (x, None, None, *four[2:], False, 0.1, 1e-5)


def layer_norms() -> Iterator[Case]:
    for x in every([shape for shape in SHAPES if len(shape) > 1], torch.float32, torch.float64, torch.bfloat16):
        for over in (list(x.shape[-1:]), list(x.shape[-2:]), [9]):
            for dtype in (torch.float32, x.dtype):
                yield (x, over, empty(*over, dtype=dtype), empty(*over, dtype=dtype), 1e-5)
            yield (x, over, None, None, 1e-5)


CASES = {
    "_unary": unary, "_in_place": unary, "_clamped": clamped, "_binary": binary, "_binary_in_place": binary,
    "_masked_fill": filled, "_roll": rolled, "_softmax": along, "_mean": reduced, "_norm": normed, "_cat": joined,
    "_mm": products, "_addmm": shifted_products, "_bmm": batches, "_convolution": convolutions,
    "_batch_norm": batch_norms, "_layer_norm": layer_norms,
}  # fmt: skip
OWN = {aten.mul.Scalar: numbers, aten.clamp_min.default: raised}  # operations that take less than their shortcut


def facts(call: Any, given: Sequence[Any]) -> list[Any]:
    """Everything about the result that a recording could depend on, or the type of the error."""
    try:
        leaves = tree_leaves(call())
    except Exception as error:  # compared, too
        return [type(error)]
    return [(x.shape, x.stride(), x.dtype, x.device, any(x is other for other in given)) for x in leaves]


@torch.no_grad()
@pytest.mark.parametrize("func", list(SHORTCUTS), ids=str)
def test_shortcuts_give_what_torch_gives(func: Any) -> None:
    taken = refused = 0
    for args in OWN.get(func, CASES[SHORTCUTS[func].__name__])():
        if SHORTCUTS[func](*args) is None:
            refused += 1  # torch's own kernel runs
            continue
        taken += 1
        expected = facts(lambda a=args: func(*a), args)
        assert facts(lambda a=args: run(func, a, {}), args) == expected, args
    assert taken and refused


@pytest.mark.parametrize(("func", "kwargs"), [(aten.add.Tensor, {"alpha": 2}), (aten.mean.dim, {"dtype": torch.half})])
def test_keyword_arguments_go_to_torch(func: Any, kwargs: dict[str, Any]) -> None:
    x = empty(2, 3)
    args = (x, x) if func is aten.add.Tensor else (x, [0])
    assert facts(lambda: run(func, args, kwargs), args) == facts(lambda: func(*args, **kwargs), args)
