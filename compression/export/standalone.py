"""``load.py`` of a bundle: a program without ours, put together from a frame and the encodings' own decode functions.

The frame ``load.py.txt`` reads streams and the container; how a kind of weight is decoded is written once, in its
module, and copied from there, so that the loader cannot decode otherwise than this program does.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from importlib import resources
from typing import Any

from compression import encodings
from compression.encodings.list_rows import named
from compression.pack.header import WORDS

HEADER, KINDS = "# the words of headers are put here\n", "# how weights are decoded is put here\n"


def program() -> str:
    """The source of ``load.py``, which reads every version and every kind of encoding known here."""
    frame = resources.files(str(__package__)).joinpath("load.py.txt").read_text("utf-8")
    decoders = {kind: encoding.decode for kind, encoding in encodings.all_encodings().items()}
    table = ", ".join(f'"{kind}": {decode.__name__}' for kind, decode in decoders.items())
    known = textwrap.fill(f"KINDS = {{{table}}}", 120, subsequent_indent=" " * 9, break_on_hyphens=False)
    kinds = "\n\n".join([*map(_plain, dict.fromkeys((named, *decoders.values()))), known])
    return with_words(frame).replace(KINDS, f"{kinds}\n")


def with_words(frame: str) -> str:
    """A frame with the preset dictionary of headers in its place."""
    words = "\n         ".join(repr(WORDS[at : at + 100]) for at in range(0, len(WORDS), 100))
    return frame.replace(HEADER, f"WORDS = ({words})\n")


def _plain(function: Callable[..., Any]) -> str:
    """The source of a function without types, the first line of its docstring as a comment."""
    source = textwrap.dedent(inspect.getsource(function))
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.FunctionDef)
    for argument in ast.walk(definition.args):
        if isinstance(argument, ast.arg):
            argument.annotation = None
    comment = (ast.get_docstring(definition) or "").partition("\n")[0]
    head = f"def {definition.name}({ast.unparse(definition.args)}):  # {comment[:1].lower()}{comment[1:].rstrip('.')}"
    return "\n".join([head, *source.splitlines()[definition.body[1].lineno - 1 :]])
