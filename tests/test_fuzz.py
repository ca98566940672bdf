"""Every format against some hundred malformed files of fixed seeds, and each fault that fuzzing once found."""

from __future__ import annotations

import io
import json
import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compression import methods
from compression.asks import STANDARD
from compression.budget import Budget
from compression.errors import CompressionError
from compression.export.reader import read_files
from compression.pack import integers, ledger, unpack
from compression.pack.container import to_bytes
from compression.pack.header import CODES_A_BYTE, FREE_CODES, PREFIX
from compression.pack.streams import decode, encode
from compression.quant.integers import IntegerWeight
from compression.runs.events import last_state, read_events
from compression.runs.process import Handle
from compression.runs.resultfile import written
from compression.zoo import weights
from tests.fuzz.binary import packed_files
from tests.fuzz.samples import EVENTS, HANDLE, POINT, RESULT, SPEC, SWEEP
from tests.fuzz.target import ACCEPTED, REFUSED, Target, example, outcome
from tests.fuzz.targets import targets

INPUTS = 100
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@pytest.mark.parametrize("name", targets())
def test_malformed_files_are_refused_in_one_line_or_used(name: str, tmp_path: Path) -> None:
    kinds = {REFUSED: 0, ACCEPTED: 0}
    for number in range(INPUTS):
        result = outcome(targets()[name], example(targets()[name], number), tmp_path)
        assert result.kind in kinds, f"{name} {number}: {result.kind}\n{result.where}"
        kinds[result.kind] += 1
    assert min(kinds.values()) > 0, f"the mutations are all alike: {kinds}"


def test_the_fuzzer_sees_a_reader_that_believes_its_file(tmp_path: Path) -> None:
    """A fault that is planted is found, or the tests above could not fail."""

    def believing(data: bytes, folder: Path) -> None:
        assert json.loads(data)["budget"]["method"]

    target = targets()["spec"]
    kinds = {outcome(Target("spec", target.mutant, believing), example(target, n), tmp_path).kind for n in range(300)}
    assert kinds >= {ACCEPTED, "KeyError", "RecursionError"}


@given(st.sampled_from([*Budget.model_fields, *STANDARD]), JSON)
@settings(max_examples=200, deadline=None)
def test_any_value_of_any_field_of_a_budget_is_refused_or_kept(name: str, value: Any) -> None:
    try:
        budget = Budget.from_dict({name: value})
    except CompressionError as error:
        assert len(str(error)) <= 2_000
        assert "\n" not in str(error)
        return
    again = budget.to_dict()
    assert Budget.from_dict(again) == budget
    assert json.loads(json.dumps(again, allow_nan=False)) == again


BUDGETS = [
    ({"groups": {"conv1": 3}}, "groups.conv1 must be an object"),
    ({"groups": [1]}, "groups must be an object"),
    ({"layers": {"conv1": None}}, "layers.conv1 must be an object"),
    ({"seed": 2**64}, "seed must be less than or equal to 9223372036854775807"),
    ({"seed": True}, "seed must be a whole number, not True"),
    ({"seed": 1.0}, "seed must be a whole number"),
    ({"sparsity": "0.5"}, "sparsity must be in [0, 1), not '0.5'"),
    ({"lr": 10**400}, "lr must be a finite number"),
    ({"epochs": 1e300}, "epochs must be above 0 and at most"),
    ({"input": [3, True, 32]}, "input.1 must be a whole number"),
    ({"input": [1 << 33, 32, 32]}, "input must have at most"),
    ({"input": [60_000, 60_000, 3]}, "at most 268,435,456 values"),
    ({"classes": 2**40}, "classes must be a whole number of at least 2 and at most"),
    ({"weight_bits": {"low": 4}}, "weight_bits must be a pair LO:HI of bit-widths"),
    ({"schedule": []}, "schedule must be an object"),
    ({"schedule": {"joint": "x"}}, "schedule: joint must be a finite number"),
    ({"schedule": {"projection_periods": 10**9}}, "schedule.projection_periods must be"),
    ({"options": {"a": [[float("inf")]]}}, "options holds inf"),
    ({"version": True}, "budget version True is not known"),
    ({"x\ny" * 5_000: 1}, "unknown field"),
]


@pytest.mark.parametrize(("raw", "message"), BUDGETS)
def test_budgets_are_refused_by_field(raw: dict[str, Any], message: str) -> None:
    with pytest.raises(CompressionError) as refused:
        budget = Budget.from_dict(raw)
        methods.get(budget.method).check_budget(budget)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_seeds_of_both_signs_are_seeds() -> None:
    assert [Budget(seed=seed).seed for seed in (-(2**63) + 1, -1, 0, 2**63 - 1)] == [-(2**63) + 1, -1, 0, 2**63 - 1]


def run_with(folder: Path, **files: Any) -> Any:
    from tests.fuzz.targets import _placed

    return _placed(folder, **files)


@pytest.mark.parametrize(
    "change",
    [{"created": 10**400}, {"created": -1}, {"children": ["../victim"]}, {"children": "ab"}, {"sweep": "/tmp"},
     {"threads": 10**6}, {"threads": "2"}, {"priority": 2**70}, {"budget": {"method": {}}}, {"budget": []},
     {"find": {"min_accuracy": 0.9, "planned": [{"id": ".."}]}}, {"version": 1.0}],
)  # fmt: skip
def test_specs_are_refused_by_name(change: dict[str, Any], tmp_path: Path) -> None:
    for sound in (SPEC, SWEEP):
        run = run_with(tmp_path, **{"spec.json": {**sound, **change}})
        with pytest.raises(CompressionError, match=r"^run spec .*spec\.json"):
            run.spec()
            run.children()
            run.parent()


@pytest.mark.parametrize(
    ("number", "change"),
    [(1, {"total_steps": 10**30}), (4, {"step": {"a": 1}}), (4, {"t": 1e300}), (4, {"attempt": "1"}), (4, {"loss": []}),
     (4, {"epoch": None}), (3, {"phase": ["p"]}), (12, {"split": {}}), (0, {"state": "asleep"}), (9, {"message": None}),
     (6, {"units": {"conv1": -1}}), (7, {"chosen": {"conv1": [[1]]}}), (6, {"sizes": {"conv1": 0.5}}),
     (6, {"layers": {"conv1": [1]}}), (6, {"removed": {"conv1": [-1]}}), (7, {"until": "3"}),
     (8, {"joint": {"conv1": {}}}),
     (2, {"score": None}), (2, {"bits": {"conv1": 4}})],
)  # fmt: skip
def test_events_are_refused_by_field(number: int, change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(EVENTS[number]) + "\n")
    assert read_events(path)[0] == [EVENTS[number]]
    path.write_text(json.dumps({**EVENTS[number], **change}) + "\n")
    with pytest.raises(CompressionError, match=r"^events file .*events\.jsonl"):
        read_events(path)


def test_the_last_state_is_found_however_the_line_is_spaced(tmp_path: Path) -> None:
    for separators in ((",", ":"), (", ", ": "), (" ,", " : ")):
        path = tmp_path / "events.jsonl"
        path.write_text("".join(json.dumps(event, separators=separators) + "\n" for event in EVENTS))
        assert last_state(path) == "failed"


def test_an_events_file_that_is_none_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        for read in (read_events, last_state):
            with pytest.raises(CompressionError, match=f"^events file .*{name}"):
                read(tmp_path / name)


@pytest.mark.parametrize("change", [{"pid": -1}, {"pid": 2**70}, {"start": "now"}, {"host": None}, {"job": 3}])
def test_process_files_are_refused_by_field(change: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "process.json").write_text(json.dumps({**HANDLE, **change}))
    with pytest.raises(CompressionError, match=rf"^process file .*(: {next(iter(change))} must be|out of range)"):
        Handle.load(tmp_path / "process.json")


@pytest.mark.parametrize(
    "change",
    [{"confusion": {"baseline": [[1, 2]], "final": [[1, 2]]}}, {"classes": ["a", "b", "c"]}, {"final": {}},
     {"ledger": {"total": 3}}, {"seconds": None}, {"points": [[]]}, {"units": {"conv1": 3}}, {"metric": {"name": "x"}},
     {"metric": {**RESULT["metric"], "decimals": 10**9}}, {"beside": {"JPEG": {"quality": "a"}}}],
)  # fmt: skip
def test_results_are_refused_with_a_way_out(change: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_text(json.dumps(RESULT))
    assert written(path) == RESULT
    path.write_text(json.dumps({**RESULT, **change}))
    with pytest.raises(CompressionError, match="put the file back, or remove it"):
        written(path)


def test_what_version_0_1_calls_accuracy_is_read_as_a_score(tmp_path: Path) -> None:
    def older(value: dict[str, Any]) -> dict[str, Any]:
        renamed = {"accuracy": value["score"]} if "score" in value else {}
        return {name: each for name, each in value.items() if name not in ("score", "metric")} | renamed

    (tmp_path / "events.jsonl").write_text("".join(json.dumps(older(event)) + "\n" for event in EVENTS))
    scores = [
        event["score"] for event in read_events(tmp_path / "events.jsonl")[0] if event["kind"] in ("point", "step")
    ]
    assert scores == [event["score"] for event in EVENTS if event["kind"] in ("point", "step")]
    result = {**older(RESULT), **{end: older(RESULT[end]) for end in ("baseline", "final")}, "points": [older(POINT)]}
    (tmp_path / "result.json").write_text(json.dumps(result))
    read = written(tmp_path / "result.json")
    assert [point["score"] for point in (read["baseline"], read["final"], *read["points"])] == [0.9] * 3


# --- archives ---------------------------------------------------------------------------------------------------------


def archive(entries: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as target:
        for name, content in entries.items():
            target.writestr(name, content)
    return buffer.getvalue()


def torch_archive(pickled: int, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A sound file of torch, rewritten, its pickle followed by so many zeros."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, buffer)
    with zipfile.ZipFile(buffer) as source:
        entries = {info.filename: source.read(info) for info in source.infolist()}
    name = next(name for name in entries if name.endswith("data.pkl"))
    return archive({**entries, name: entries[name] + bytes(pickled)}, compression)


ARCHIVES = {
    "compressed": (torch_archive(1 << 20, zipfile.ZIP_DEFLATED), "larger than its tensors"),
    "a huge pickle": (torch_archive(9 << 20), "larger than its tensors"),
    "a name in no encoding": (archive({"é": b""}).replace("é".encode(), b"\xff\xff"), "cannot be read"),
}


@pytest.mark.parametrize("name", ARCHIVES)
def test_archives_are_refused_before_they_are_unpacked(name: str, tmp_path: Path) -> None:
    data, message = ARCHIVES[name]
    model = torch.nn.Linear(2, 2)
    (tmp_path / "sound.pt").write_bytes(torch_archive(0))
    weights.load(model, tmp_path / "sound.pt")
    assert not model.weight.any()
    (tmp_path / "w.pt").write_bytes(data)
    with pytest.raises(CompressionError, match=message):
        weights.load(model, tmp_path / "w.pt")
    with pytest.raises(CompressionError, match="bundle"):
        read_files(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("entry", "message"),
    [({"shape": [-1, 2]}, "shape.0 must be"), ({"shape": [1 << 33, 1 << 33]}, "impossible shape"),
     ({"shape": {}}, "shape must be a list"), ({"shape": [2, 3]}, "does not fit its bytes"), ({"dtype": "F4"}, "dtype"),
     ({"data_offsets": [0, 1 << 40]}, "beyond the end"), ({"data_offsets": [0]}, "data_offsets.1 is missing")],
)  # fmt: skip
def test_safetensors_headers_are_refused_by_tensor(entry: dict[str, Any], message: str, tmp_path: Path) -> None:
    sound = {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]}
    for change, refused in (({}, None), (entry, message)):
        text = json.dumps({"weight": {**sound, **change}, "__metadata__": {"provenance": '{"classes": 3}'}}).encode()
        (tmp_path / "w.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(16))
        if refused is None:
            assert weights.read_provenance(tmp_path / "w.safetensors") == {"classes": 3}
            continue
        with pytest.raises(CompressionError, match=rf"^weights file .*weight.*{refused}"):
            weights.read_provenance(tmp_path / "w.safetensors")


# --- packed files -----------------------------------------------------------------------------------------------------


def packed_with(rows: Any, rest: bytes = b"", codes: int = 0, header: bytes | None = None) -> bytes:
    text = header if header is not None else json.dumps({"codes": codes, "tensors": rows}).encode()
    squeezed = zlib.compress(text, 9)
    body = squeezed + rest
    return PREFIX.pack(b"CXPACK", 3, len(squeezed), zlib.crc32(body)) + body


STEP = np.float32(0.5).tobytes()
HEADERS = {
    "a header that grows": ([], b"", b"[" + b" " * (5 << 20)),
    "a header of empty lists": ([], b"", b'{"codes":0,"tensors":[' + b"[]," * 30_000 + b"[]]}"),
    "deep": ([], b"", b"[" * 10_000),
    "no rows": ({}, b"", None),
    "a constant stream of a billion codes": ([["w", [1 << 30], "fixed", 2, 4]], STEP + b"\0\0", None),
    "a shape of 2^80": ([["w", [1 << 40, 1 << 40], "fixed", 2, 4]], STEP + b"\0\0", None),
    "an empty tensor of 2^80": ([["w", [0, 1 << 40, 1 << 40], "float32"]], b"", None),
    "a negative shape": ([["w", [-4], "float32"]], b"", None),
    "a text as shape": ([["w", "22", "float32"]], b"", None),
    "too few bytes": ([["w", [100], "float32"]], b"abc", None),
    "an unknown type": ([["w", [1], "float33"]], b"abcd", None),
    "a type in a list": ([["w", [1], ["float32"]]], b"abcd", None),
    "an axis that is not there": ([["w", [2, 2], "fixed", 2, 4, 2]], STEP * 2 + b"\0\0", None),
    "a negative axis": ([["w", [2, 2], "fixed", 2, 4, -1]], STEP * 2 + b"\0\0", None),
    "a width of 2^33": ([["w", [2], "fixed", 2, 1 << 33]], STEP + b"\0\0", None),
    "no bits": ([["w", [2], "fixed", 2, 0]], STEP + b"\0\0", None),
    "a negative length": ([["w", [2], "fixed", -2, 4]], STEP + b"\0\0", None),
    "another coding": ([["w", [2], "zip", 2, 4]], STEP + b"\0\0", None),
    "twice": ([["w", [1], "uint8"], ["w", [1], "uint8"]], b"ab", None),
    "the same as none": ([["w", "v"]], b"", None),
    "the same as a later one": ([["w", "v"], ["v", [1], "uint8"]], b"a", None),
    "the same as itself": ([["w", "w"]], b"", None),
    "an empty row": ([[]], b"", None),
    "eight entries": ([["w"] * 8], b"", None),
    "codes beyond 32 bits": ([["w", [2], "fixed", 7, 4]], STEP + b"\xff\xff\xff\xff\x7f\x01\x40", None),
    "a number without end": ([["w", [2], "fixed", 40, 4]], STEP + b"\xff" * 40, None),
    "a table of 2^40": ([["w", [2], "ans", 8, 4]], STEP + b"\0\x80\x80\x80\x80\x80\x20\0", None),
}


ONLY_DECODED = ("codes beyond 32 bits", "a number without end")  # the ledger counts such a stream without reading it


@pytest.mark.parametrize("name", HEADERS)
def test_packed_headers_are_refused_before_memory_is_taken(name: str, tmp_path: Path) -> None:
    import tracemalloc

    rows, rest, header = HEADERS[name]
    path = tmp_path / "weights.packed"
    path.write_bytes(packed_with(rows, rest, header=header))
    tracemalloc.start()
    try:
        for read in (unpack, integers):
            with pytest.raises(CompressionError, match="is no sound packed file"):
                read(path)
        if name not in ONLY_DECODED:
            with pytest.raises(CompressionError, match="is no sound packed file"):
                ledger(path)
        assert tracemalloc.get_traced_memory()[1] < 200e6
    finally:
        tracemalloc.stop()


def test_the_files_that_are_mutated_are_sound(tmp_path: Path) -> None:
    for data in packed_files():
        (tmp_path / "p").write_bytes(data)
        assert ledger(tmp_path / "p").total == len(data)
        assert {weight.name for weight in integers(tmp_path / "p").values()} == {"a", "b", "c", "d"}


def test_a_huge_constant_weight_still_comes_back(tmp_path: Path) -> None:
    """It takes no bytes of its own, so that its file is made long enough to be believed."""
    size = FREE_CODES + 4 * CODES_A_BYTE * 1_000
    weight = IntegerWeight("w", torch.full((size,), 3, dtype=torch.int32), 0.5, 4)
    path = tmp_path / "p"
    data = to_bytes({"w.weight": weight.weight()}, {"w": weight})
    assert 4_000 <= len(data) < 4_200
    path.write_bytes(data)
    assert torch.equal(unpack(path)["w.weight"], weight.weight())
    counted = ledger(path)
    assert counted.total == len(data) == sum(counted.to_dict().values()) - counted.total


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_streams_of_all_32_bit_codes(values: list[int]) -> None:
    codes = np.array(values, dtype=np.int32)
    stream = encode(codes)
    assert np.array_equal(decode(stream.coding, stream.data, len(codes)), codes)


@given(st.sampled_from(["ans", "fixed", "bitmap"]), st.binary(max_size=60), st.integers(0, 200))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_a_stream_or_none(coding: str, data: bytes, size: int) -> None:
    try:
        codes = decode(coding, data, size)
    except ValueError:
        return
    assert codes.dtype == np.int32
    assert codes.shape == (size,)
