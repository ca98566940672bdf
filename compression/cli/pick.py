"""A model for commands that only look at it: with the weights at hand, else with initial ones, and saying which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from compression import zoo

if TYPE_CHECKING:
    from compression.forecast import Subject

RANDOM, PUBLISHED = "random", "published"


def pick(
    name: str,
    data: str | None = None,
    input: tuple[int, ...] | None = None,
    classes: int | None = None,
    weights: str | None = None,
    *,
    inexact: bool = False,
) -> tuple[Subject, str]:
    """Build and trace ``name`` with ``weights``; without, those trained on ``data`` (on any it goes with) are taken.

    Says also where the weights are from: their file or function, ``published`` for those that ``train`` starts from, or
    ``random``.

    Raises:
        CompressionError: unknown model or data set, an impossible size, missing or wrong-shaped weights.
    """
    from compression.data import catalogue
    from compression.forecast import Subject
    from compression.graph import trace
    from compression.zoo.origin import weighted

    spec = zoo.spec(name)
    sources = spec.data if data is None else (catalogue.absolute(data),)
    input, classes = zoo.resolve(name, input, classes)
    trained = weighted(name, input, classes, weights, sources)
    if trained is not None:
        model, origin = trained.model, str(trained.file or trained.name)
    else:
        model, origin = zoo.build(name, input, classes).eval(), RANDOM
        if spec.pretrained is not None and catalogue.text_installed():
            spec.pretrained(model)
            origin = PUBLISHED
    return Subject(model, trace(model, zoo.example(name, input=input), inexact=inexact)), origin
