"""Numbers in files."""

from __future__ import annotations

import base64
import json
import math
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_neurohealth.packing import pack, plain, replace_file, unpack

FLOATS = st.floats(width=32, allow_nan=True, allow_infinity=True)


@given(st.lists(FLOATS, max_size=20))
def test_what_is_packed_comes_back(numbers: list[float]) -> None:
    packed = json.loads(json.dumps(pack(torch.tensor(numbers, dtype=torch.float64))))
    assert unpack(packed).tolist() == pytest.approx(numbers, rel=0, abs=0, nan_ok=True)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3), (2, 0)])
def test_shapes_come_back(shape: tuple[int, ...]) -> None:
    values = torch.rand(shape)
    assert torch.equal(unpack(pack(values)), values)


def test_is_little_endian_single_precision() -> None:
    assert base64.b64decode(pack(torch.tensor([1.5, -2.0]))["float32"]) == struct.pack("<2f", 1.5, -2.0)


@pytest.mark.parametrize(
    "packed", [{}, {"shape": [2], "float32": "AAAA"}, {"shape": [1], "float32": "not base64"}, None]
)
def test_what_is_not_packed_is_refused(packed: object) -> None:
    with pytest.raises((ValueError, KeyError, TypeError)):
        unpack(packed)  # type: ignore[arg-type]


def test_plain_is_strict_json() -> None:
    value = {"a": (1, math.nan, [math.inf, -math.inf, None, True]), 2: torch.tensor(0.5)}
    assert json.loads(json.dumps(plain(value), allow_nan=False)) == {
        "a": [1, "NaN", ["Infinity", "-Infinity", None, True]],
        "2": 0.5,
    }


def test_a_file_that_cannot_be_replaced_stays_and_leaves_nothing_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "x.txt"
    replace_file(file, "old")
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        replace_file(file, "new")
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]
