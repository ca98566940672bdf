"""Where in the user's code a forward pass stopped, in one line."""

from __future__ import annotations

import traceback
from pathlib import Path

import torch
from torch import nn

_OURS = Path(__file__).resolve().parents[1]
_TORCH = Path(torch.__file__).resolve().parent


def first_line(error: BaseException) -> str:
    """The first line of the exception's message; its type if the message is empty or only a key."""
    lines = str(error).strip().splitlines()
    if isinstance(error, KeyError):
        return f"KeyError: {lines[0]}" if lines else "KeyError"
    return lines[0] if lines else type(error).__name__


def location(error: BaseException) -> str:
    """The innermost line of the traceback that is neither torch's nor this project's, such as
    ``net.py:12 (x = self.fc(x))``; empty if there is none.
    """
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        path = Path(frame.filename)
        if path.is_file() and not any(path.resolve().is_relative_to(home) for home in (_OURS, _TORCH)):
            return f"{path.name}:{frame.lineno} ({frame.line})" if frame.line else f"{path.name}:{frame.lineno}"
    return ""


def running_module(error: BaseException, model: nn.Module) -> str:
    """The path of the innermost module of this model that was running; empty for the model itself."""
    paths = {id(part): path for path, part in model.named_modules()}
    for frame, _ in reversed(list(traceback.walk_tb(error.__traceback__))):
        running = id(frame.f_locals.get("self"))
        if running in paths:
            return paths[running]
    return ""
