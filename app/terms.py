"""The terms of the glossary, and every help text with links to those it uses: one mechanism for all pages."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

from lessons import contents

FILE = "glossary"
ADDRESS = "learn?view=glossary&term="
_SKIPPED = re.compile(r"`[^`]*`|\[[^\]]*\]\([^)]*\)|\$[^$]*\$")


@dataclass(frozen=True)
class Term:
    """One entry: its ``name``, its explanation in Markdown, and other words for it (the last line, “Also: a, b.”).

    ``source``: the paper it comes from, or the derivation (a line “Source: …”, see :mod:`lessons.sources`).
    """

    name: str
    explanation: str
    also: tuple[str, ...] = ()
    source: str = ""

    @property
    def anchor(self) -> str:
        """``bit-width`` of ``Bit-width``."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def address(self) -> str:
        """The entry in the glossary, from any page of the app."""
        return ADDRESS + self.anchor


def terms(markdown: str) -> list[Term]:
    """The entries of a glossary file: ``## Name`` and what follows, sorted by name."""
    parts = re.split(r"^## ", markdown, flags=re.MULTILINE)[1:]
    return sorted(map(_entry, parts), key=lambda term: term.name.lower())


def _entry(part: str) -> Term:
    name, _, rest = part.partition("\n")
    body, _, also = rest.partition("\nAlso: ")
    explanation, _, source = body.partition("\nSource: ")
    names = tuple(also.strip().removesuffix(".").split(", ")) if also else ()
    return Term(name.strip(), explanation.strip(), names, source.strip())


def everything() -> list[Term]:
    """The entries of the app's glossary."""
    return terms(contents.page(FILE))


def tip(text: str | None) -> str | None:
    """A help text followed by links to the glossary's entries for its words; nothing for nothing."""
    return _tip(text, contents.page(FILE)) if text else None


@lru_cache(maxsize=512)
def _tip(text: str, glossary: str) -> str:
    named = mentioned(text, terms(glossary))
    if not named:
        return text
    return f"{text}\n\nGlossary: " + ", ".join(f"[{term.name}]({term.address})" for term in named)


def mentioned(text: str, known: list[Term]) -> list[Term]:
    """The terms a text uses, in the order it uses them; of two at the same place the longer one."""
    plain = _SKIPPED.sub(" ", text)
    at: list[tuple[int, int, Term]] = []
    for term in known:
        hits = [re.search(_pattern(name), plain, flags=re.IGNORECASE) for name in (term.name, *term.also)]
        at += [(hit.start(), hit.end(), term) for hit in hits if hit]
    taken: list[tuple[int, int, Term]] = []
    for start, end, term in sorted(at, key=lambda each: (each[0], -each[1])):
        if (not taken or start >= taken[-1][1]) and term not in (other for _, _, other in taken):
            taken.append((start, end, term))
    return [term for _, _, term in taken]


def _pattern(name: str) -> str:
    """The word, also in the plural, and with a blank for its hyphen."""
    words = r"[\s-]+".join(re.escape(part) for part in re.split(r"[\s-]+", name))
    return rf"(?<![\w-]){words}(?:e?s)?(?![\w-])"
