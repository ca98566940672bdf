"""Where parameters and MACs sit: a treemap over the module tree, area for one quantity and colour for the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compression.plots import base, theme, words
from compression.plots.base import go

QUANTITIES = {"params": "parameters", "macs": "MACs"}


@dataclass(frozen=True)
class Tile:
    """One module: ``id`` is its path, ``""`` the whole model; quantities are sums over everything inside."""

    id: str
    label: str
    parent: str
    params: int
    macs: int


@dataclass(frozen=True)
class TreeInfo:
    """The module tree from the root on, parents before children."""

    tiles: tuple[Tile, ...]

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The tree as a table, a row for each module."""
        return [{"module": tile.id or tile.label, "parameters": tile.params, "MACs": tile.macs} for tile in self.tiles]

    @property
    def root(self) -> Tile:
        """The whole model."""
        return self.tiles[0]


def tree_info(layers: Sequence[Mapping[str, Any]], title: str) -> TreeInfo:
    """Sum modules (``name``, ``params``, ``macs``) up the module tree, one tile for every level."""
    sums: dict[str, list[int]] = {"": [0, 0]}
    for layer in layers:
        parts = str(layer["name"]).split(".")
        for path in ["", *(".".join(parts[: i + 1]) for i in range(len(parts)))]:
            total = sums.setdefault(path, [0, 0])
            total[0] += layer["params"]
            total[1] += layer["macs"]
    return TreeInfo(
        tuple(
            Tile(path, path.rpartition(".")[2] or title, path.rpartition(".")[0] if path else "\0", *total)
            for path, total in sums.items()
        )
    )


def tree_figure(info: TreeInfo, area: str = "params", height: int = 420) -> go.Figure:
    """The treemap; ``area`` is ``params`` or ``macs``, the other one is the colour, the same one where that is nil."""
    other = "macs" if area == "params" and info.root.macs else "params"
    fig = base.figure(height)
    fig.add_trace(
        go.Treemap(
            ids=[tile.id or "/" for tile in info.tiles],
            labels=[tile.label for tile in info.tiles],
            parents=[_parent(tile) for tile in info.tiles],
            values=[getattr(tile, area) for tile in info.tiles],
            branchvalues="total",
            marker={
                "colors": [getattr(tile, other) / max(getattr(info.root, other), 1) for tile in info.tiles],
                "colorscale": theme.SPARSITY_SCALE,
                "cmin": 0,
                "cmax": max((getattr(t, other) / max(getattr(info.root, other), 1) for t in info.tiles[1:]), default=1),
                "colorbar": {"title": f"{QUANTITIES[other]}", "tickformat": ".0%", "thickness": 12, "len": 0.9},
                "showscale": True,
                "line": {"width": 1},
            },
            texttemplate="%{label}<br>%{percentRoot:.1%}",
            hovertext=base.tooltips(
                [
                    f"<b>{tile.id or tile.label}</b><br>{tile.params:,} parameters"
                    + (f"<br>{words.count(tile.macs)} MACs" if info.root.macs else "")
                    for tile in info.tiles
                ]
            ),
            hoverinfo="text",
            tiling={"pad": 2},
            pathbar={"visible": True},
        )
    )
    fig.update_layout(margin={"l": 0, "r": 0, "t": 24, "b": 0}, uniformtext={"minsize": 9, "mode": "hide"})
    return fig


def _parent(tile: Tile) -> str:
    return "" if tile.parent == "\0" else tile.parent or "/"
