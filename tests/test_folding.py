"""fold: the rows of each neuron, as a view; thin: a part of the rows, all of them in time."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from lightning_neurohealth.folding import (
    ELEMENTS,
    FEWEST_ROWS,
    LEAST_ROWS,
    LEAST_SAMPLES,
    MOST_ROWS,
    PRODUCTS,
    SAMPLES,
    Pick,
    fold,
    some_samples,
    thin,
)


def rows(x: Tensor, axis: int) -> Tensor:
    """``x`` as [rows, neurons], by hand."""
    return torch.stack([part.flatten() for part in x.unbind(axis)], dim=1)


def nchw() -> Tensor:
    return torch.randn(2, 3, 4, 5)


CASES: dict[str, tuple[Tensor, int]] = {
    "linear": (torch.randn(6, 3), -1),
    "tokens": (torch.randn(2, 5, 3), -1),
    "images": (nchw(), 1),
    "channels_last": (nchw().to(memory_format=torch.channels_last), 1),
    "volumes": (torch.randn(2, 3, 4, 5, 6), 1),
    "volumes, channels last": (torch.randn(2, 3, 4, 5, 6).to(memory_format=torch.channels_last_3d), 1),
    "signals": (torch.randn(2, 3, 7), 1),
    "one image": (torch.randn(3, 4, 5), 0),
    "one sample": (torch.randn(3), -1),
    "one pixel": (torch.randn(2, 3, 1, 1), 1),
    "one channel": (torch.randn(2, 1, 4, 5), 1),
    "images permuted to the last axis": (nchw().permute(0, 2, 3, 1), 3),
    "tokens transposed to the first axis": (torch.randn(2, 7, 3).transpose(1, 2), 1),
    "a part of the rows": (torch.randn(9, 3)[2:6], -1),
    "every second image": (torch.randn(6, 3, 4, 5)[::2], 1),
    "one number for all": (torch.ones(1, 3, 1, 1).expand(2, 3, 4, 5), 1),
    "cropped": (torch.randn(2, 3, 6, 6)[..., 1:-1, 1:-1], 1),
    "sliced features": (torch.randn(4, 8)[:, 2:5], -1),
    "no rows": (torch.randn(0, 3), -1),
    "no images": (torch.randn(0, 3, 4, 5), 1),
}
COPIES = {"images permuted to the last axis", "one number for all", "cropped", "every second image"}


@pytest.mark.parametrize("case", CASES)
def test_fold_gives_the_rows_of_each_neuron(case: str) -> None:
    x, axis = CASES[case]
    folded = fold(x, axis)
    assert folded.shape[1] == x.shape[axis]
    ours, true = folded.movedim(1, 2).flatten(0, 1), rows(x, axis)
    assert ours.shape == true.shape
    # the order of rows may differ: rows are pooled
    assert torch.equal(ours.sort(0).values, true.sort(0).values)
    assert sorted(map(tuple, ours.tolist())) == sorted(map(tuple, true.tolist()))


@pytest.mark.parametrize("case", sorted(CASES.keys() - COPIES))
def test_fold_copies_nothing(case: str) -> None:
    x, axis = CASES[case]
    assert fold(x, axis).data_ptr() == x.data_ptr()


@pytest.mark.parametrize("shape", [(1024, 64, 1), (2, 8, 4096), (256, 256, 1)])
def test_what_is_small_stays_whole(shape: tuple[int, int, int]) -> None:
    x = torch.arange(math.prod(shape), dtype=torch.float32).view(shape)
    whole = thin(x, None, 3)
    assert torch.equal(whole.squeeze(2), rows(x, 1))
    assert whole.untyped_storage().data_ptr() != x.untyped_storage().data_ptr()


@pytest.mark.parametrize("shape", [(4096, 512, 1), (64, 64, 1024), (256, 512, 49), (8, 4, 65536), (100_000, 7, 2)])
def test_a_large_tensor_gives_what_one_thread_takes(shape: tuple[int, int, int]) -> None:
    thinned = thin(torch.zeros(1).expand(shape), None, 0)
    rows, neurons = thinned.shape[:2]
    assert neurons == shape[1]
    assert 0.9 * MOST_ROWS <= rows <= MOST_ROWS or 0.7 * ELEMENTS <= rows * neurons <= ELEMENTS


@pytest.mark.parametrize(("neurons", "enough"), [(1024, LEAST_ROWS), (50_000, FEWEST_ROWS)])
def test_wide_layers_keep_rows_enough(neurons: int, enough: int) -> None:
    assert thin(torch.zeros(1).expand(1024, neurons, 1), None, 0).shape[0] == enough


@pytest.mark.parametrize("shape", [(600, 3, 1), (20, 3, 64), (500, 3, 2)])
@pytest.mark.parametrize("rows", [1, 7, 100])
def test_never_more_than_asked_for(shape: tuple[int, int, int], rows: int) -> None:
    thinned = thin(torch.zeros(shape), rows, 5)
    assert 1 <= thinned.shape[0] * thinned.shape[2] <= rows


@pytest.mark.parametrize(("shape", "axis"), [((1024, 2, 1), 0), ((4, 2, 1024), 2)])
def test_every_row_comes_in_time(shape: tuple[int, int, int], axis: int) -> None:
    place = torch.arange(1024.0).view([-1 if i == axis else 1 for i in range(3)]).expand(shape)
    rows = 64 if axis == 0 else 64 * shape[0]
    thinned = [thin(place, rows, phase) for phase in range(300)]
    assert len(torch.cat(thinned).unique()) == 1024
    assert len({of_one.shape for of_one in thinned}) == 1


def test_columns_of_an_image_are_all_seen_in_a_few_steps() -> None:
    column = (torch.arange(64 * 64.0) % 64).view(1, 1, -1).expand(32, 16, -1)
    assert len(torch.cat([thin(column, None, phase) for phase in range(100)]).unique()) == 64


def test_ten_steps_see_all_of_an_image() -> None:
    height = torch.arange(64.0).view(1, 1, -1, 1).expand(64, 16, -1, 64).flatten(2)
    seen = torch.cat([thin(height, None, phase) for phase in range(10)]).unique()
    assert seen.diff().max() <= 12
    assert seen[0] < 10
    assert seen[-1] > 53


def test_many_images_come_in_each_step() -> None:
    image = torch.arange(64.0).view(-1, 1, 1).expand(-1, 64, 256)
    assert len(thin(image, None, 3).unique()) >= SAMPLES


def test_many_images_come_with_one_place_each() -> None:
    image = torch.arange(256.0).view(-1, 1, 1).expand(-1, 512, 49)
    for phase in range(5):
        thinned = thin(image, None, phase)
        assert thinned.shape[2] == 1
        assert len(thinned.unique()) == thinned.shape[0] == LEAST_ROWS
    seen = {int(value) for phase in range(100) for value in thin(image, None, phase).unique()}
    assert len(seen) == 256


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((64, 16, 32, 32), 1), ((640, 16, 8, 8), 1), ((1024, 1024), -1), ((8, 512, 256), 2), ((600, 300), 1)],
)
def test_of_large_products_whole_samples_come(shape: tuple[int, ...], axis: int) -> None:
    some = some_samples(torch.zeros(1).expand(shape), axis, 3)
    assert some.shape[1:] == (shape[1:] if len(shape) == 4 else shape[-1:])
    assert PRODUCTS / 8 <= some.numel() <= max(PRODUCTS, LEAST_SAMPLES * math.prod(shape[1:]))


def test_every_sample_comes_in_time_and_never_too_few() -> None:
    place = torch.arange(40.0).view(-1, 1, 1).expand(-1, 4, 300_000)
    seen = [set(some_samples(place, 1, phase)[:, 0, 0].tolist()) for phase in range(40)]
    assert min(map(len, seen)) > LEAST_SAMPLES / 2
    assert set.union(*seen) == set(range(40))
    small = torch.zeros(6, 4, 9)
    assert some_samples(small, 1, 5) is small


def picked(shape: tuple[int, int, int], rows: int | None, phase: int = 0) -> Tensor:
    """Numbers of the places of which the mean is taken, ``[samples, places]``."""
    x = torch.arange(shape[0] * shape[2]).view(shape[0], 1, shape[2]).expand(shape)
    pick = Pick(x, rows, means=True)
    some = x.as_strided(pick.shape, pick.strides, pick.offset(phase))[..., 0].flatten(1)
    assert (some // shape[2] == pick.first(phase) + pick.step * torch.arange(len(some)).unsqueeze(1)).all()
    return some % shape[2]


@pytest.mark.parametrize(
    ("shape", "samples", "places"),
    [
        ((256, 512, 1), 31, 1),
        ((4096, 10, 1), 4096, 1),
        ((60_000, 10, 1), 255, 1),
        ((64, 16, 1024), 16, 60),
        ((64, 64, 64), 16, 15),
        ((64, 512, 49), 16, 8),
        ((8, 256, 128), 8, 15),
        ((64, 16, 16), 64, 16),
    ],
)
def test_the_mean_of_a_sample_is_over_part_of_its_places(
    shape: tuple[int, int, int], samples: int, places: int
) -> None:
    assert picked(shape, None).shape == (samples, places)


@pytest.mark.parametrize("shape", [(256, 512, 1), (64, 16, 1024), (8, 256, 128)])
@pytest.mark.parametrize("rows", [1, 7, 30, 100, 250])
def test_of_all_samples_no_more_rows_come_than_are_wanted(shape: tuple[int, int, int], rows: int) -> None:
    assert rows / 4 < picked(shape, rows).numel() <= rows


def test_all_samples_and_places_come_in_time() -> None:
    x = [picked((40, 64, 50 * 40), None, phase) for phase in range(3000)]
    assert len(torch.cat([some.flatten() for some in x]).unique()) == 50 * 40
    assert {Pick(torch.zeros(256, 512, 1), None, means=True).first(phase) for phase in range(200)} == set(range(46))
