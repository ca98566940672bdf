"""All bounds of layers and groups in one table that can be edited; sliders and table write the same draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas
import streamlit as st

from app.budget import bounds
from app.budget.bounds import GROUPS, BoundField, BoundRow
from compression.errors import CompressionError

PROBLEM = "bounds_problem"
Table = dict[str, list[Any]]
Edits = Mapping[int, Mapping[str, Any]]


def draw(rows: Sequence[BoundRow]) -> None:
    """The table; an empty cell is left to the method."""
    shown = table(rows)
    key = _key(shown)
    limits = {column: field for row in rows for field in row.fields for column in _columns(field)}
    columns = {name: _column(name, limits[name]) for name in shown if name not in ("layer", "group")}
    frame = pandas.DataFrame({name: pandas.Series(values, dtype=_dtype(name)) for name, values in shown.items()})
    st.data_editor(
        frame,
        key=key,
        hide_index=True,
        placeholder="",
        disabled=["layer", "group"],
        column_config=columns,
        on_change=_edited,
        args=(key, tuple(rows)),
        alt="Bounds of every layer: sparsity in percent and bits, from and to; empty cells are left to the method.",
    )


def table(rows: Sequence[BoundRow]) -> Table:
    """The bounds as columns: percentages for sparsity, two columns for a range; ``None`` where nothing is bounded."""
    shared = {row.group: field for row in rows for field in row.fields if field.kind == GROUPS}
    ends = list(dict.fromkeys(column for row in rows for field in row.fields for column in _columns(field)))
    columns: Table = {"layer": [row.name for row in rows]}
    if shared:
        columns["group"] = [row.group for row in rows]
    for column in ends:
        columns[column] = [_cell(_field(row, column, shared), column) for row in rows]
    return columns


def changes(rows: Sequence[BoundRow], edits: Edits) -> list[tuple[BoundField, Any]]:
    """The bounds that edited cells ask for: row number → column → new content.

    An emptied cell removes the whole bound; where one end of a range is given the other is what the method has.

    Raises:
        CompressionError: a cell that cannot be bounded.
    """
    shared = {row.group: field for row in rows for field in row.fields if field.kind == GROUPS}
    result: dict[BoundField, Any] = {}
    for number, cells in edits.items():
        for column, content in cells.items():
            field = _field(rows[number], column, shared)
            if field is None or field.fixed:
                raise CompressionError(f"{rows[number].name}: {field.fixed if field else 'there is nothing to bound'}")
            result[field] = _changed(field, column, content, result.get(field, field.bound))
    return list(result.items())


def _changed(field: BoundField, column: str, content: Any, before: Any) -> Any:
    if content is None:
        return None
    value = int(content) if field.whole else round(float(content) / 100, 4)
    if not field.ranged:
        return field.stored(value)
    low, high = before if before is not None else field.control.default
    if column.endswith(" from"):
        return [value, high if before is not None else max(value, high)]
    return [low if before is not None else min(value, low), value]


def _columns(field: BoundField) -> tuple[str, ...]:
    title = field.control.label if field.whole else f"{field.control.label}, %"
    return (f"{title} from", f"{title} to") if field.ranged else (title,)


def _field(row: BoundRow, column: str, shared: Mapping[str, BoundField]) -> BoundField | None:
    own = next((field for field in row.fields if column in _columns(field)), None)
    tied = shared.get(row.group)
    return own or (tied if tied is not None and column in _columns(tied) else None)


def _cell(field: BoundField | None, column: str) -> Any:
    if field is None or field.bound is None:
        return None
    value = field.bound
    if isinstance(value, (list, tuple)):
        value = field.shown if not field.ranged else value[0 if column.endswith(" from") else 1]
    return int(value) if field.whole else round(100 * value, 2)


def _column(name: str, field: BoundField) -> Any:
    if "%" in name:
        return st.column_config.NumberColumn(min_value=0, max_value=100, step=0.01, format="%g")
    return st.column_config.NumberColumn(min_value=field.control.low, max_value=field.control.high, step=1)


def _dtype(name: str) -> str:
    return "object" if name in ("layer", "group") else "Float64" if "%" in name else "Int64"


def _key(shown: Table) -> str:
    """The editor's key: a new one when the browser still holds edits that are no longer what is bounded."""
    version = int(st.session_state.get("bounds_version", 0))
    edits: Edits = st.session_state.get(f"bounds_table {version}", {}).get("edited_rows", {})
    if any(_differs(shown, row, column, content) for row, cells in edits.items() for column, content in cells.items()):
        version += 1
        st.session_state["bounds_version"] = version
    return f"bounds_table {version}"


def _differs(shown: Table, row: int, column: str, content: Any) -> bool:
    cells = shown.get(column, [])
    return row >= len(cells) or cells[row] != content


def _edited(key: str, rows: Sequence[BoundRow]) -> None:
    try:
        for field, bound in changes(rows, st.session_state[key]["edited_rows"]):
            bounds.put(field, bound)
    except CompressionError as error:
        st.session_state[PROBLEM] = error
