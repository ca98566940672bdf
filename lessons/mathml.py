"""Formulas of Markdown texts as MathML, which browsers show without a script: for the lessons as pages and the docs."""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\[(\[](.*?)\\[)\]]</\1>', re.S)
"""A formula as the Markdown extension ``pymdownx.arithmatex`` marks it."""
TAG = re.compile(r"\\tag\{(.*?)\}")


def formulas(page: str) -> str:
    """HTML in which every marked formula is MathML; the number of a displayed one stands beside it."""
    return FORMULA.sub(_formula, page)


def _formula(match: re.Match[str]) -> str:
    source = html.unescape(match[2]).strip().replace("{aligned}", "{align*}")  # the name that the converter knows
    tags = TAG.findall(source)
    shown = convert(TAG.sub("", source), display="block" if match[1] == "div" else "inline")
    return f'<div class="formula">{shown}<span>({tags[0]})</span></div>' if tags else shown
