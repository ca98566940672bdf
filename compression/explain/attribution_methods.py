"""The attribution methods that are offered: what each is called, where it is from, and how it is to be read.

Importing this module imports neither torch nor Captum: pages list the methods before anything heavy is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """One way to say which pixels count. ``signed``: negative values speak against the class, else all are ≥ 0.

    ``gradient``: made of gradients, so straight-through where quantizers round activations. ``heavy``: dozens of passes
    over each image, for a background job. ``source`` is the paper.
    """

    name: str
    label: str
    signed: bool
    gradient: bool
    heavy: bool
    source: str


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("saliency", "Saliency", False, True, False, "Simonyan et al. 2013, arXiv 1312.6034"),
        Method("input_x_gradient", "Input × gradient", True, True, False, "Shrikumar et al. 2016, arXiv 1605.01713"),
        Method("integrated_gradients", "Integrated gradients", True, True, True, "Sundararajan 2017, arXiv 1703.01365"),
        Method("grad_cam", "Grad-CAM", True, True, False, "Selvaraju et al. 2017, arXiv 1610.02391"),
        Method("occlusion", "Occlusion", True, False, True, "Zeiler and Fergus 2014, arXiv 1311.2901"),
    )
}
