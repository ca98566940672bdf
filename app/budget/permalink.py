"""The draft in the address: one query parameter, written and read here alone, so that a link opens the same form.

The word is the JSON of a budget without its defaults, compressed and in base64url. It never names a file.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Any

import streamlit as st

from app import widgets
from app.budget import budget_upload, draft, oldlinks
from compression import methods
from compression.budget import VERSION, Budget
from compression.errors import CompressionError
from compression.reading import json_object

NAME = "budget"
LONGEST = 4000
CUT = "the address carries a budget that cannot be read; the link may have been cut"
_SEEN = "budget_in_address"


def pack(budget: Budget) -> str:
    """The word for a budget, without its model, data and weights, which the page's subject names."""
    default = Budget().to_dict()
    fields = {name: value for name, value in budget.to_dict().items() if value != default.get(name)}
    fields |= {"version": VERSION, "method": methods.get(budget.method).info.name}
    fields = {name: value for name, value in fields.items() if name == "version" or name not in draft.PLACE}
    text = json.dumps(fields, separators=(",", ":"), sort_keys=True)
    return base64.urlsafe_b64encode(zlib.compress(text.encode(), 9)).decode().rstrip("=")


def unpack(word: str) -> Budget:
    """The budget of a word from :func:`pack`, or of a word that an earlier version wrote.

    Raises:
        CompressionError: it is damaged, too long, names a place, or asks for what cannot be.
    """
    fields = _fields(word)
    if fields.get("version") != VERSION:
        fields = oldlinks.word_fields(fields)
    if set(fields) & (draft.PLACE - {"version"}):
        raise CompressionError(CUT)
    budget = Budget.from_dict(fields)
    budget_upload.check_shown(draft.requested(budget))
    return budget


def _fields(word: str) -> Mapping[str, Any]:
    try:
        raw = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
        reader = zlib.decompressobj()
        text = reader.decompress(raw, budget_upload.LARGEST_FILE)
    except (ValueError, zlib.error) as error:  # also what is no base64, and letters that are not ASCII
        raise CompressionError(CUT) from error
    if not reader.eof:
        raise CompressionError(CUT)
    try:
        return json_object(text, "the budget in the address")
    except CompressionError as error:
        raise CompressionError(f"{error}; the link may have been cut") from error


def read() -> list[str]:
    """Take over what the address says, once for every new address; returns a line for each field that fell back."""
    word = st.query_params.get(NAME)
    old = {name: st.query_params.get_all(name) for name in oldlinks.NAMES if name in st.query_params}
    if word is not None and word != st.session_state.get(_SEEN):
        st.session_state[_SEEN] = word
        try:
            draft.put(unpack(word) if word else oldlinks.unbounded(draft.get()))
        except CompressionError as error:
            del st.query_params[NAME]
            widgets.problem(error)
    for name in old:
        del st.query_params[name]
    return oldlinks.take(old) if old else []


def write() -> None:
    """Bring the draft into the address; one that is too long for a link is left out, with a line that says so."""
    now = draft.get()
    word = pack(now) if now != draft.initial() else ""
    if len(word) > LONGEST:
        st.caption("These bounds are too many for a link: save the budget as JSON to hand it on.")
        word = ""
    st.session_state[_SEEN] = word
    if word and st.query_params.get(NAME) != word:
        st.query_params[NAME] = word
    elif not word and NAME in st.query_params:
        del st.query_params[NAME]
