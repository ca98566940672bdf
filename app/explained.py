"""Where a method comes from and which lesson explains it: its paper, and a link to the Learn page."""

from __future__ import annotations

from app import nav, plain
from compression import methods
from lessons import contents


def paper(method: str) -> str:
    """The method's paper as Markdown that ends a caption; empty where it has none."""
    source = methods.get(method).info.paper
    return f" {plain.text(source)}." if source else ""


def entry(method: str) -> contents.Entry | None:
    """The lesson that a method names; ``None`` for methods that are not installed, and lessons that are not there."""
    described = methods.all_methods().get(method)
    name = described.info.lesson if described is not None else None
    return next((each for each in contents.CONTENTS if each.name == name), None)


def lesson(method: str) -> None:
    """A link to that lesson, if there is one."""
    if (chosen := entry(method)) is None:
        return
    title = contents.text(chosen.name)["Title"]
    nav.link("learn", f"Lesson {chosen.number}: {title}", lesson=str(chosen.number))
