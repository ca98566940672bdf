"""Values shown as they are: what an address, a file, a class or a layer is called is never Markdown, HTML or a link.

Streamlit reads nearly every text as Markdown with extensions of its own, Plotly reads tags. A value goes through here
where it becomes part of such a text; texts of the app itself do not.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Any

import plotly.graph_objects as go

LONGEST = 1500
_JOINER = "\u2060"  # invisible; parts what is recognized only after Markdown's own escapes are gone
_MARKUP = re.compile(
    r"[\\`*~\[$]|(?<![^\W_])_|_(?![^\W_])|<(?=[A-Za-z/!?])|&(?=#?\w+;)|^[#+=>-]+(?=\s|$)|(?<=^\d)[.)](?=\s|$)"
)
_NAMES = "red|blue|green|violet|orange|yellow|gray|grey|rainbow|primary|small|shimmer|color|material|streamlit"
_COLON = re.compile(rf":(?=//|(?:{_NAMES})\b|[\w+-]+[\[{{:])")
_ADDRESS = re.compile(r"\bwww(?=\.)|(?<=[\w.+-])@(?=\w)", re.IGNORECASE)
_TAG = re.compile(
    r"<(?=[A-Za-z/!?])(?!/?(?:b|i|br|sub|sup|em|extra|span(?: style=\"color: [#\w(), .%]+\")?)>)", re.IGNORECASE
)
_KEYS = frozenset({"customdata", "ids", "parents"})  # read back after a click, never drawn


def line(value: object) -> str:
    """A value in one line of visible characters, cut where it is endless."""
    joined = " ".join(str(value).split())
    shown = "".join(char for char in joined[: LONGEST + 1] if unicodedata.category(char) not in ("Cc", "Cf", "Cs"))
    return shown if len(shown) <= LONGEST else f"{shown[:LONGEST]}…"


def text(value: object) -> str:
    """A value for a Markdown text, a label or a tooltip, that shows exactly its characters.

    Ordinary names stay as they are; only what would be read as markup is escaped.
    """
    escaped = _MARKUP.sub(lambda match: f"\\{match[0]}", line(value))
    escaped = _COLON.sub(f":{_JOINER}", escaped)
    return _ADDRESS.sub(lambda match: f"{match[0]}{_JOINER}", escaped)


def sentence(value: str) -> str:
    """A line as a sentence: a capital where it begins with a word, a full stop where it ends without a mark.

    A name with a sign or a digit in it (``resnet8``, ``--bits``), or without a vowel (``lr``), stays as it is.
    """
    first = value.partition(" ")[0]
    word = first.isalpha() and first.islower() and set(first) & set("aeiouy")
    begun = value[:1].upper() + value[1:] if word else value
    return begun if not begun or begun.endswith((".", "!", "?", "…", ":")) else f"{begun}."


def code(value: object) -> str:
    """A value as inline code in a Markdown text."""
    shown = line(value)
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    space = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{space}{shown}{space}{fence}" if shown else ""


def figure(fig: go.Figure) -> go.Figure:
    """A figure in whose texts only the tags of our own figures are tags: no links, no styles."""
    drawn = fig.to_plotly_json()
    return go.Figure(_untagged(drawn)) if _tagged(drawn) else fig


def _tagged(part: Any) -> bool:
    if isinstance(part, dict):
        return any(_tagged(value) for key, value in part.items() if key not in _KEYS)
    if isinstance(part, (list, tuple)):
        return any(map(_tagged, part))
    return isinstance(part, str) and _TAG.search(part) is not None


def _untagged(part: Any) -> Any:
    if isinstance(part, dict):
        return {key: value if key in _KEYS else _untagged(value) for key, value in part.items()}
    if isinstance(part, (list, tuple)):
        return type(part)(map(_untagged, part))
    return _TAG.sub("&lt;", part) if isinstance(part, str) else part
