"""Checking what a student types: a number with a tolerance, or one of several choices; never a traceback."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

RIGHT, WRONG, UNREADABLE = "right", "wrong", "unreadable"
LONGEST = 40


@dataclass(frozen=True)
class Number:
    """The right ``value``, and how far off an answer may be; ``unit`` stands behind the field."""

    value: float
    tolerance: float
    unit: str = ""


@dataclass(frozen=True)
class Pick:
    """One of ``options`` (value → what people read) is right."""

    options: Mapping[str, str]
    value: str


Answer = Number | Pick


@dataclass(frozen=True)
class Verdict:
    """``kind`` is right, wrong or unreadable; ``said`` a friendly line where it is unreadable."""

    kind: str
    said: str = ""


def judge(given: str | None, answer: Answer) -> Verdict:
    """Is this the answer?"""
    text = (given or "").strip()
    if isinstance(answer, Pick):
        if text not in answer.options:
            return Verdict(UNREADABLE, "Choose one of the answers first.")
        return Verdict(RIGHT if text == answer.value else WRONG)
    if not text:
        return Verdict(UNREADABLE, "Type a number first; a guess is fine, it costs nothing.")
    value = read_number(text)
    if value is None:
        shown = text if len(text) <= LONGEST else text[:LONGEST] + "…"
        return Verdict(UNREADABLE, f"“{shown}” is no number this page can read. Type one such as 12 or 3.5.")
    return Verdict(RIGHT if abs(value - answer.value) <= answer.tolerance else WRONG)


def read_number(text: str) -> float | None:
    """``3,5`` and ``3.5 %`` and ``1 000`` are read; text, infinities and NaN are not."""
    plain = re.sub(r"[\s\u00a0\u202f]", "", text).removesuffix("%").replace("−", "-")
    if not re.fullmatch(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)(e[+-]?\d+)?", plain, flags=re.IGNORECASE | re.ASCII):
        return None
    try:
        value = float(plain.replace(",", "."))
    except ValueError:
        return None
    return value if math.isfinite(value) else None
