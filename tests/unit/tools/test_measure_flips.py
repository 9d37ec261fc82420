"""The clock of bit flips: a flip that shows is named in time, one that shows on no tile never."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import pytest

from tests.kits import tiny_model
from tools import measure_flips


def test_a_flip_that_shows_is_clocked_and_one_that_does_not_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    model, random = onnx.load_from_string(tiny_model.onnx()), np.random.default_rng(1)
    bias = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 1)
    tiles = [random.random((1, 4, tiny_model.TILE, tiny_model.TILE), dtype=np.float32) for _ in range(3)]

    def drawn(*_: object) -> Iterator[str]:
        for kind, value in (("sign", -0.5), ("two bits", 0.5)):  # of the first bias; the second is the right value
            bias.CopyFrom(onnx.numpy_helper.from_array(np.array([value, 0, -1], np.float32), bias.name))
            yield kind

    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([0.5, 0, -1], np.float32), bias.name))
    monkeypatch.setattr(measure_flips, "drawn", drawn)
    (shown, hidden), tile_s = measure_flips.clock(model, tiles, 2, 5, random)
    assert shown.by_any_s is not None and shown.by_known_s is not None
    assert 0 < shown.by_any_s <= shown.by_known_s < 5
    assert (hidden.by_any_s, hidden.by_known_s) == (None, None)
    assert tile_s > 0


def test_each_drawn_flip_is_taken_back() -> None:
    model = onnx.load_from_string(tiny_model.onnx())
    for tensor in model.graph.initializer:
        tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor), tensor.name))
    whole, seen = model.SerializeToString(), []
    for kind in measure_flips.drawn(model, 12, np.random.default_rng(2)):
        seen.append((kind, model.SerializeToString() != whole))
    assert [kind for kind, _ in seen] == [*measure_flips.KINDS] * 2
    assert sum(changed for _, changed in seen) >= 11  # "32 weights" may draw the bits that are there
    assert model.SerializeToString() == whole
