"""The one reader of files: what it refuses, by name, and that it neither waits nor grows."""

from __future__ import annotations

import json
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from compression.errors import CompressionError
from compression.reading import (
    Flag,
    Name,
    Number,
    Seconds,
    Signed,
    Text,
    Whole,
    check_version,
    json_object,
    json_value,
    read_bytes,
    read_object,
    short,
    typed,
)

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
    max_leaves=20,
)


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_reads_what_the_standard_library_writes(value):
    assert json_value(json.dumps(value), "it") == json.loads(json.dumps(value))


@pytest.mark.parametrize(
    "text",
    ["[" * 10_000 + "]" * 10_000, '{"a":' * 5_000 + "1" + "}" * 5_000, "1" * 400, "1" * 5_000, "-" + "9" * 19, "1e999",
     "-1e999", "NaN", "Infinity", "", "{", '{"a": 1} x', b"\xff\xfe", b'"\\ud800"', str(2**63)],
)  # fmt: skip
def test_refuses_by_name(text):
    with pytest.raises(CompressionError, match="spec it") as refused:
        json_value(text, "spec it")
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("text", ["[]", "1", '"a"', "null"])
def test_an_object_is_asked_for(text):
    with pytest.raises(CompressionError, match="must hold one JSON object"):
        json_object(text, "it")


def test_only_regular_files_are_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("pipe", "loop", ".", "missing", "zero\0byte", "n" * 5_000):
        with pytest.raises(CompressionError, match=r"^budget "):
            read_object(tmp_path / name, "budget")
    with pytest.raises(CompressionError, match="no regular file"):
        read_bytes("/dev/zero", "budget")
    (tmp_path / "large").write_bytes(b" " * 101)
    with pytest.raises(CompressionError, match="larger than the 100 bytes"):
        read_bytes(tmp_path / "large", "budget", most=100)
    assert read_bytes(tmp_path / "large", "budget", most=101) == b" " * 101


def test_a_wrong_type_is_reported_by_its_field():
    kind = TypeAdapter(dict[str, list[Whole]])
    assert typed(kind, {"a": [1]}, "row") == {"a": [1]}
    for wrong, message in (
        ({"a": [1, "x"]}, "row: a.1 must be a whole number, not 'x'"),
        ({"a": [True]}, "row: a.0 must be a whole number, not True"),
        ({"a": [-1]}, "row: a.0 must be greater than or equal to 0, not -1"),
        ({"a": {}}, "row: a must be a list, not {}"),
        ([1], "row must be an object of names and values, not [1]"),
    ):
        with pytest.raises(CompressionError) as refused:
            typed(kind, wrong, "row")
        assert str(refused.value) == message


@given(st.one_of(PLAIN, st.integers(), st.floats(), st.binary()))
@settings(max_examples=300, deadline=None)
def test_leaves_convert_nothing(value):
    kinds = {Whole: int, Signed: int, Number: (int, float), Seconds: (int, float), Text: str, Name: str, Flag: bool}
    for kind, python in kinds.items():
        right = isinstance(value, python) and (kind is Flag or not isinstance(value, bool))
        try:
            assert typed(TypeAdapter(kind), value) is value or value == typed(TypeAdapter(kind), value)
            assert right
        except CompressionError as error:
            assert len(str(error)) < 250


def test_memory_is_bounded_before_the_text_is_parsed():
    with pytest.raises(CompressionError, match="more than the 2,500,000 values"):
        json_value("[" + "[]," * 2_500_000 + "1]", "it")


VALUES = [
    "x" * 10**6,
    list(range(10**5)),
    {str(i): i for i in range(100)},
    10**5000,
    b"z" * 999,
    [["y" * 10**6] * 9] * 9,
]


@pytest.mark.parametrize("value", VALUES, ids=[type(value).__name__ for value in VALUES])
def test_values_in_messages_are_short(value):
    assert len(short(value)) <= 161


@pytest.mark.parametrize("version", [None, 0, 3, "2", True, [2], 2.5])
def test_other_versions_are_refused(version):
    check_version({"version": 2}, 2, "it")
    with pytest.raises(CompressionError, match="this program reads version 2"):
        check_version({"version": version}, 2, "it")
