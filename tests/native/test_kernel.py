"""The kernel in C gives what torch gives, for every statistic that it knows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import lightning_neurohealth.statistics
from lightning_neurohealth.counting.changes import Change
from lightning_neurohealth.counting.products import product_of
from lightning_neurohealth.discovery import concrete_classes
from lightning_neurohealth.folding import Pick, fold, thin
from lightning_neurohealth.native import Brought, Kernel, Lengths, Plan, Spaced, Sum, Targets, What, kernel
from lightning_neurohealth.statistics import Statistic
from lightning_neurohealth.statistics.base import EMPTY
from lightning_neurohealth.statistics.histogram import OCTAVES
from lightning_neurohealth.statistics.moments import Moments
from lightning_neurohealth.statistics.pass_counts import PassCounts
from lightning_neurohealth.statistics.slopes import Slopes
from lightning_neurohealth.statistics.spatial_magnitude import SpatialMagnitude
from tests.measures.harness import layer

KNOWN = [
    cls
    for cls in sorted(concrete_classes(lightning_neurohealth.statistics, Statistic), key=lambda cls: cls.__name__)
    if cls.native_sums is not Statistic.native_sums and cls(layer(3, nn.Tanh())).native_sums()
]
STEP = 7


def compiled() -> Kernel:
    found = kernel()
    if found is None:
        pytest.skip("needs a C compiler")
    return found


def in_c(statistic: Statistic, x: Tensor, most: int | None, whole: bool, phase: int = 0) -> dict[str, Tensor]:
    """What the kernel adds to the states for ``x``, ``[outer, neurons, inner]``."""
    out = {
        name: torch.full((getattr(statistic, name).numel(),), EMPTY[kind], dtype=torch.float64)
        for name, kind in statistic.kinds.items()
    }
    pick = Pick(x, most, whole)
    targets = Targets([(s, out[name]) for name, s in statistic.native_sums().items()])
    compiled().add(Plan(pick.shape, pick.strides, x.dtype, targets), x, pick.offset(phase), 1.0, STEP)
    return {name: brought.view(getattr(statistic, name).shape) for name, brought in out.items()}


def in_torch(statistic: Statistic, rows: Tensor) -> dict[str, Tensor]:
    partials = statistic.partials(rows, STEP)
    return {
        name: torch.as_tensor(partials.get(name, EMPTY[kind])).double().expand(getattr(statistic, name).shape)
        for name, kind in statistic.kinds.items()
    }


def assert_same(cls: type[Statistic], x: Tensor, axis: int, most: int | None = None, whole: bool = False) -> None:
    folded = fold(x, axis)
    statistic = cls(layer(folded.shape[1], nn.Tanh()))
    rows = folded if whole else thin(folded, most, 3)
    rtol = 1e-6 if issubclass(cls, Slopes) and x.dtype != torch.float64 else 1e-11
    for (name, actual), expected in zip(
        in_c(statistic, folded, most, whole, phase=3).items(), in_torch(statistic, rows).values(), strict=True
    ):
        torch.testing.assert_close(
            actual, expected, rtol=rtol, atol=1e-9, equal_nan=True, msg=lambda text, name=name: f"{name}: {text}"
        )


def some(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * 3
    x.view(-1)[::7] = 0.0
    return x.to(dtype)


LAYOUTS = {
    "neurons last": lambda x: (x, -1),
    "channels before space": lambda x: (x.unflatten(0, (2, -1)).movedim(2, 1).contiguous(), 1),
    "channels last": lambda x: (x.unflatten(0, (2, -1)).movedim(2, 1), 1),
    "every other row": lambda x: (torch.cat([x, x])[::2], -1),
    "transposed": lambda x: (x.T.contiguous().T, -1),
}


@pytest.mark.parametrize("cls", KNOWN)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_sum_is_that_of_torch(cls: type[Statistic], dtype: torch.dtype, layout: str) -> None:
    for rows, neurons in ((6, 3), (200, 33), (2, 70)):
        assert_same(cls, *LAYOUTS[layout](some(rows, neurons, dtype=dtype)), whole=True)


@pytest.mark.parametrize("cls", KNOWN)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_it_takes_the_rows_that_thin_takes(cls: type[Statistic], layout: str) -> None:
    if cls is SpatialMagnitude:
        pytest.skip("it is of whole samples, which are never thinned")
    assert_same(cls, *LAYOUTS[layout](some(4096, 40)))  # more than are measured
    assert_same(cls, *LAYOUTS[layout](some(64, 40)), most=10)


@pytest.mark.parametrize("cls", KNOWN)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_counts_as_in_torch(cls: type[Statistic], bad: float) -> None:
    x = some(130, 35)
    x[2, 1], x[120, 34] = bad, bad
    assert_same(cls, x, -1, whole=True)


@pytest.mark.parametrize("cls", KNOWN)
@settings(max_examples=30)
@given(rows=st.integers(1, 260), neurons=st.integers(1, 70), inner=st.integers(1, 5), seed=st.integers(0, 99))
def test_any_shape_will_do(cls: type[Statistic], rows: int, neurons: int, inner: int, seed: int) -> None:
    x = torch.randn(rows, neurons, inner, generator=torch.Generator().manual_seed(seed))
    assert_same(cls, x.relu() if seed % 2 else x, 1, whole=True)


@pytest.mark.parametrize("activation", [nn.Sigmoid(), nn.SiLU(), nn.GELU(), nn.GELU("tanh"), nn.ReLU()], ids=str)
def test_slopes_are_those_of_autograd(activation: nn.Module) -> None:
    z = torch.linspace(-60, 60, 4001).view(-1, 1, 1)
    statistic = Slopes(layer(1, activation))
    assert statistic.native_sums()
    exact = z.double().requires_grad_()
    (slope,) = torch.autograd.grad(activation(exact).sum(), exact)
    actual = in_c(statistic, z, None, True)["sums"]
    torch.testing.assert_close(actual, slope.abs().sum().view(1), rtol=1e-12, atol=0)


def test_sums_are_added_to_what_is_there_and_multiplied_with_the_scale() -> None:
    x, sums = some(9, 5), torch.ones(5, dtype=torch.float64)
    plan = Plan((9, 1, 1, 5), (5, 0, 0, 1), x.dtype, Targets([(Sum(What.SUM), sums)]))
    for _ in range(2):
        compiled().add(plan, x, 0, 0.25, STEP)
    torch.testing.assert_close(sums, 1 + 2 * 0.25 * x.double().sum(0))


def test_sizes_are_of_all_neurons_together() -> None:
    x, squares, magnitudes = some(9, 50), torch.zeros(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    sums = [(Sum(What.SIZE_OF_SQUARES), squares), (Sum(What.SIZE_OF_MAGNITUDES), magnitudes)]
    compiled().add(Plan((9, 1, 1, 50), (50, 0, 0, 1), x.dtype, Targets(sums)), x, 0, 1.0, STEP)
    torch.testing.assert_close(squares, torch.tensor([x.double().square().sum(), 450]).double())
    torch.testing.assert_close(magnitudes, torch.tensor([x.double().abs().sum(), 450]).double())


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_are_copied_one_behind_another(dtype: torch.dtype, layout: str) -> None:
    folded = fold(*LAYOUTS[layout](some(200, 70, dtype=dtype)))
    pick = Pick(folded, 20)
    copy = torch.full((21, 70), -1.0, dtype=torch.promote_types(dtype, torch.float32))
    rows = thin(folded, 20, 3).squeeze(2)
    plan = Plan(pick.shape, pick.strides, dtype, Targets([]))
    compiled().add(plan, folded, pick.offset(3), 0.5, STEP, copy.data_ptr())
    torch.testing.assert_close(copy[: len(rows)], rows.to(copy.dtype) * 0.5, rtol=0, atol=0)
    assert (copy[len(rows) :] == -1).all()


@pytest.mark.parametrize("chosen", [[], [3], [5, 0, 5], list(range(0, 200, 2))], ids=len)
def test_some_rows_are_chosen(chosen: list[int]) -> None:
    x, statistic = some(200, 70), Moments(layer(70))
    out = {name: torch.zeros(getattr(statistic, name).numel(), dtype=torch.float64) for name in statistic.kinds}
    targets = Targets([(s, out[name]) for name, s in statistic.native_sums().items()])
    plan, rows = Plan((200, 1, 1, 70), (70, 0, 0, 1), x.dtype, targets), torch.tensor(chosen).long()
    compiled().add_sums(plan.reference, x.data_ptr(), None, rows.data_ptr(), len(rows), None, 1.0, STEP)
    if chosen:
        for name, expected in in_torch(statistic, x[chosen].unsqueeze(2)).items():
            torch.testing.assert_close(out[name].view(expected.shape), expected, rtol=1e-11, atol=1e-9)
    else:
        assert out["rows"].item() == 0
        assert not out["sums"].any()


def products(x: Tensor, y: Tensor, cls: type[Statistic], scale: float = 1.0, phase: int = 0) -> dict[str, Tensor]:
    """What the kernel adds to the states for the products of two tensors ``[samples, lines, neurons, places]``."""
    statistic = cls(layer(x.shape[2]))
    out = {
        name: torch.full((getattr(statistic, name).numel(),), EMPTY[kind], dtype=torch.float64)
        for name, kind in statistic.kinds.items()
    }
    targets = Targets([(s, out[name]) for name, s in statistic.native_sums().items()])
    product = product_of(x, y, targets, None, whole=True)
    samples, offsets = product.some(phase)
    compiled().add_products(product.plan, x, y, offsets, samples, scale, STEP)
    return {name: brought.view(getattr(statistic, name).shape) for name, brought in out.items()}


def assert_products(x: Tensor, y: Tensor) -> None:
    for cls in (SpatialMagnitude, Moments, PassCounts):
        rows = (x.double() * y.double()).sum(3).flatten(0, 1).unsqueeze(2) * 0.5
        expected = in_torch(cls(layer(x.shape[2])), rows)
        for (name, actual), wanted in zip(products(x, y, cls, 0.5).items(), expected.values(), strict=True):
            torch.testing.assert_close(
                actual, wanted, rtol=1e-11, atol=1e-9, equal_nan=True, msg=lambda text, n=name: f"{n}: {text}"
            )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(6, 1, 3, 1), (200, 1, 33, 1), (3, 4, 70, 1), (5, 1, 40, 37), (2, 3, 9, 8)])
def test_two_tensors_are_multiplied_and_summed_over_places(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    x, y = some(*shape, dtype=dtype), some(*shape, dtype=dtype).flip(0)
    turned = [t.transpose(2, 3).contiguous().transpose(2, 3) for t in (x, y)]
    assert_products(x, y)
    assert_products(turned[0], turned[1])
    assert_products(x, turned[1])
    assert_products(turned[0], y)
    assert_products(x, torch.full((1,), 0.25, dtype=dtype).expand(shape))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_products_that_are_no_numbers(bad: float) -> None:
    x, y = some(5, 1, 40, 37), some(5, 1, 40, 37)
    x[3, 0, 1, 2], x[4, 0, 39, 36] = bad, bad
    assert_products(x, y)
    assert_products(y, x)


@settings(max_examples=30)
@given(samples=st.integers(1, 120), lines=st.integers(1, 3), neurons=st.integers(1, 70), places=st.integers(1, 20))
def test_products_of_any_shape(samples: int, lines: int, neurons: int, places: int) -> None:
    x, y = torch.randn(2, samples, lines, neurons, places, generator=torch.Generator().manual_seed(0)).unbind()
    assert_products(x, y)


@pytest.mark.parametrize(
    "edges", [torch.linspace(-1.7, 2.9, 65).double()[1:-1], torch.linspace(0, 1, 65).double()[1:-1]], ids=len
)
def test_an_edge_of_even_bins_belongs_to_the_bin_under_it(edges: Tensor) -> None:
    nextafter = torch.nextafter
    x = torch.cat([edges, nextafter(edges, edges - 1), nextafter(edges, edges + 1), some(500, dtype=torch.float64)])
    assert_bins(x, Sum(What.HISTOGRAM, float(edges[0]), float(edges[1] - edges[0]), edges=tuple(edges.tolist())), edges)


@pytest.mark.parametrize("left_out", [0, 33, 40])
def test_an_edge_of_half_octaves_does_too(left_out: int) -> None:
    edges = torch.tensor(OCTAVES[left_out:], dtype=torch.float64)
    odd = torch.tensor([0.0, -0.0, 5e-324, -5e-324, 1e-310, 1e300, -1e300], dtype=torch.float64)
    every = torch.tensor(OCTAVES, dtype=torch.float64)
    inside, outside = torch.nextafter(every, every * 0), torch.nextafter(every, every * 2)
    x = torch.cat([every, inside, outside, odd, some(500, dtype=torch.float64)])
    assert_bins(x, Sum(What.HISTOGRAM, math.nan, left_out, edges=tuple(edges.tolist())), edges)


def assert_bins(x: Tensor, histogram: Sum, edges: Tensor) -> None:
    ends = torch.tensor([math.nan, math.inf, -math.inf], dtype=torch.float64)
    x = torch.cat([x, ends])
    counts = torch.zeros(3, len(edges) + 1, dtype=torch.float64)
    plan = Plan((len(x), 1, 1, 3), (1, 0, 0, 0), x.dtype, Targets([(histogram, counts)]))  # three neurons alike
    compiled().add(plan, x, 0, 1.0, STEP)
    expected = torch.bucketize(x[~x.isnan()], edges).bincount(minlength=len(edges) + 1)
    for of_neuron in counts:
        assert of_neuron.tolist() == expected.tolist()


def test_more_rows_than_fit_on_the_stack() -> None:
    x, live = torch.zeros(100_000, 2), torch.zeros(1, dtype=torch.float64)
    x[::1000, 1] = 1.0
    plan = Plan((100_000, 1, 1, 2), (2, 0, 0, 1), x.dtype, Targets([(Sum(What.LIVE), live)]))
    compiled().add(plan, x, 0, 1.0, STEP)
    assert live.item() == 100


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 40, 7), (3, 33, 5), (2, 70, 400)])
def test_changes_since_a_copy(shape: tuple[int, int, int], dtype: torch.dtype) -> None:
    before, after = some(*shape).to(dtype), some(*shape).to(dtype)
    neurons = shape[1]
    sums, squares = torch.zeros(neurons, dtype=torch.float64), torch.zeros(neurons, dtype=torch.float64)
    change = Change(before, Targets([(Sum(What.SUM), sums), (Sum(What.SQUARE), squares)]))
    for phase in (0, 5):
        change.keep(compiled(), before, phase)
        change.add(compiled(), after, STEP)
    moved = torch.cat([(thin(after, None, phase).double() - thin(before, None, phase).double()) for phase in (0, 5)])
    torch.testing.assert_close(sums, moved.sum((0, 2)))
    torch.testing.assert_close(squares, moved.square().sum((0, 2)))


def test_too_many_sums_are_refused() -> None:
    with pytest.raises(ValueError, match="49 sums: one plan has 48 at most"):
        Targets([(Sum(What.SUM), torch.zeros(1))] * 49)
    with pytest.raises(ValueError, match="129 bins: a histogram has 128 at most"):
        Targets([(Sum(What.HISTOGRAM, edges=tuple(map(float, range(128)))), torch.zeros(129))])


def test_nothing_is_written_beside_what_there_is() -> None:
    three, five = torch.zeros(3), torch.zeros(5)
    with pytest.raises(ValueError, match="sums of 3 and 5 neurons"):
        Targets([(Sum(What.SUM), three), (Sum(What.SQUARE), five)])
    with pytest.raises(ValueError, match="sums of 2 and 3 neurons"):
        Targets([(Sum(What.SUM), three), (Sum(What.HISTOGRAM, edges=(0.0,)), five)])
    with pytest.raises(ValueError, match="tensors of 4 neurons: the sums are of 5"):
        Plan((9, 1, 1, 4), (4, 0, 0, 1), torch.float32, Targets([(Sum(What.SUM), five)]))


def test_samples_are_gathered_and_compared() -> None:
    tensors = [some(50, 3), some(1), some(0), some(7, 9)]
    counts, strides = [30, 1, 0, 63], [5, 1, 1, 1]
    spaced = Spaced(counts, strides)
    before = compiled().gather(spaced, [t.data_ptr() for t in tensors])
    torch.testing.assert_close(
        before, torch.cat([t.view(-1)[::s] for t, s in zip(tensors, strides, strict=True)]).double()
    )
    after = before + torch.arange(len(before))
    changes, sizes, ratios = compiled().changes(spaced, before, after)
    torch.testing.assert_close(ratios, torch.where(sizes > 0, changes / sizes, math.nan), equal_nan=True)
    torch.testing.assert_close(changes, torch.stack([part.norm() for part in (after - before).split(counts)]))
    torch.testing.assert_close(sizes, torch.stack([part.norm() for part in before.split(counts)]))


def test_elements_are_summed_and_their_ends_found() -> None:
    tensors = [some(50, 3), some(1), some(0), some(77, 9), torch.tensor([1.0, math.nan, 2.0]), torch.tensor([math.inf])]
    sums, squares, least, most = compiled().elements(tensors)
    for i, x in enumerate(t.double() for t in tensors):
        torch.testing.assert_close(sums[i], x.sum(), equal_nan=True)
        torch.testing.assert_close(squares[i], x.square().sum(), equal_nan=True)
        torch.testing.assert_close(least[i], x.min() if x.numel() else x.sum(), equal_nan=True)
        torch.testing.assert_close(most[i], x.max() if x.numel() else x.sum(), equal_nan=True)


def test_squares_of_rows_come_along_with_elements() -> None:
    weight, bias, other, filters = some(5, 37), some(5), some(3, 3), some(4, 2, 3, 3)
    tensors = [weight, bias, other, filters]
    squares = torch.full((9,), -1.0, dtype=torch.float64)
    found = compiled().elements(tensors, [5, 0, 0, 4], squares)
    torch.testing.assert_close(found, compiled().elements(tensors))
    expected = [weight.double().square().sum(1), filters.double().square().sum((1, 2, 3))]
    torch.testing.assert_close(squares, torch.cat(expected))
    out = torch.empty(9, dtype=torch.float64)
    compiled().lengths(Lengths([4, 5], [5, 0], [-1, 1]), squares, tensors, out)
    torch.testing.assert_close(out, torch.cat([expected[1], expected[0] + bias.double().square()]).sqrt())


def test_norms() -> None:
    tensors = [some(50, 3), some(1), some(0), some(77, 9), torch.tensor([1.0, math.nan, 2.0]), some(33, 4)]
    large = [t for t in tensors if t.numel() > 100]
    squares = torch.stack([t.square().sum() for t in large])
    for chosen in (tensors, tensors[:4]):
        found = compiled().norms(chosen, 100, squares)
        expected = torch.stack([t.double().norm() for t in chosen])
        torch.testing.assert_close(found[:-1], expected, rtol=1e-6, atol=0.0, equal_nan=True)
        torch.testing.assert_close(found[-1], expected.norm(), rtol=1e-6, atol=0.0, equal_nan=True)
    torch.testing.assert_close(compiled().norms([], 100, None), torch.zeros(1, dtype=torch.float64))


def test_a_step_is_sampled_in_one_call() -> None:
    spaced = Spaced([30, 1, 0, 63], [5, 1, 1, 1])
    before, now, gradients = ([some(50, 3), some(1), some(0), some(7, 9)] for _ in range(3))
    at = [[t.data_ptr() for t in tensors] for tensors in (before, now, gradients)]
    first = compiled().gather(spaced, at[0])
    after, of_gradients, changes = compiled().step(spaced, at[1], at[2], first)
    assert torch.equal(after, compiled().gather(spaced, at[1]))
    assert torch.equal(of_gradients, compiled().gather(spaced, at[2]))
    torch.testing.assert_close(changes, compiled().changes(spaced, first, after), rtol=0.0, atol=0.0, equal_nan=True)


def test_a_step_is_added_to_all_states() -> None:
    states = [some(9).double(), some(9).double(), some(5).double(), some(70).double()]
    steps = [torch.randn_like(state) for state in states]
    steps[1][3] = steps[2][1] = states[1][4] = math.nan
    forgotten = torch.ones(3, dtype=torch.float64)
    expected = [
        states[0] * 0.5 + steps[0],
        torch.minimum(states[1], steps[1]),
        torch.maximum(states[2], steps[2]),
        states[3] + steps[3],
    ]
    kinds = ("sum", "min", "max", "sum")
    brought = Brought([*zip(kinds, states, steps, strict=True), ("sum", None, forgotten)])
    brought.fade(0, 0.5)
    compiled().merge(brought)
    for kind, state, step, right in zip(kinds, states, steps, expected, strict=True):
        torch.testing.assert_close(state, right, equal_nan=True)
        assert (step == {"sum": 0.0, "min": math.inf, "max": -math.inf}[kind]).all()
    assert not forgotten.any()
