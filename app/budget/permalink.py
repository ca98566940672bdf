"""What no slider shows, in the address: bounds, options and extras as one short word, so that a link opens all of it.

The word is JSON without empty parts, compressed and in base64url. It never names a file.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any, NotRequired

import streamlit as st
from pydantic import ConfigDict, TypeAdapter
from typing_extensions import TypedDict

from app import widgets
from app.budget import budget_upload, draft, method_catalog
from compression.errors import CompressionError
from compression.reading import Text, json_object, typed

NAME = "budget"
LONGEST = 4000
_AT = "carried"


class _Word(TypedDict):
    __pydantic_config__ = ConfigDict(extra="forbid")  # type: ignore[misc]

    method: Text
    groups: NotRequired[dict[str, Any]]
    layers: NotRequired[dict[str, Any]]
    options: NotRequired[dict[str, Any]]
    extras: NotRequired[dict[str, Any]]


_WORD = TypeAdapter(_Word)


def pack(method: str, parts: Mapping[str, Any]) -> str:
    """The word for bounds (``groups``, ``layers``), ``options`` and ``extras``; empty when there is nothing to say."""
    kept = {name: value for name, value in parts.items() if value}
    if not kept:
        return ""
    text = json.dumps({"method": method, **kept}, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def unpack(word: str) -> dict[str, Any]:
    """What :func:`pack` put into a word.

    Raises:
        CompressionError: it is damaged, too long, or asks for what cannot be.
    """
    broken = "the address carries a budget that cannot be read; the link may have been cut"
    try:
        raw = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
        reader = zlib.decompressobj()
        text = reader.decompress(raw, budget_upload.LARGEST_FILE)
    except (ValueError, zlib.error) as error:  # also what is no base64, and letters that are not ASCII
        raise CompressionError(broken) from error
    if not reader.eof:
        raise CompressionError(broken)
    try:
        found = typed(_WORD, json_object(text, "the budget in the address"), "the budget in the address")
    except CompressionError as error:
        raise CompressionError(f"{error}; the link may have been cut") from error
    extras = found.get("extras", {})
    if set(extras) & draft.SHOWN:
        raise CompressionError(broken)
    plain = {"groups": found.get("groups", {}), "layers": found.get("layers", {}), "options": found.get("options", {})}
    read = budget_upload.parse(json.dumps({**extras, **plain, "method": found["method"]}).encode())
    method_catalog.get(read.method).check(read)
    return {"method": read.method, "extras": extras, **plain}


def of_draft() -> str:
    """The word for the draft as it stands."""
    held, method = draft.bounds(), draft.value("method") or draft.DEFAULTS["method"]
    parts = {"groups": held["groups"], "layers": held["layers"]}
    return pack(method, {**parts, "options": draft.options(method), "extras": draft.extras()})


def read() -> None:
    """Take over what the address carries, once for every new word; a damaged one is told and dropped.

    An empty word, as links to a budget without bounds have it, takes away what was set before.
    """
    word = st.query_params.get(NAME)
    if word is None or word == st.session_state.get(_AT):
        return
    st.session_state[_AT] = word
    if not word:
        draft.clear_bounds()
        draft.clear_extras()
        return
    try:
        draft.put_parts(**unpack(word))
    except CompressionError as error:
        del st.query_params[NAME]
        widgets.problem(error)


def write() -> None:
    """Bring the draft's word into the address; one that is too long for a link is left out and told."""
    word = of_draft()
    if len(word) > LONGEST:
        st.caption("These bounds are too many for a link: save the budget as JSON to hand it on.")
        word = ""
    st.session_state[_AT] = word
    if word and st.query_params.get(NAME) != word:
        st.query_params[NAME] = word
    elif not word and NAME in st.query_params:
        del st.query_params[NAME]
