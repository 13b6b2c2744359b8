"""Healthy runs of which little is seen."""

from __future__ import annotations

from tests.rules.architectures import mlp
from tests.rules.trained import Lit, Trained, accuracy, adam, fit, network, sgd, train


@network
def one_row_at_a_time() -> Trained:
    """Batches of one row; three steps of a window are measured."""
    net = mlp(depth=1)
    reports = train(net, optimizer=sgd(net, 0.02), batch=1, steps=600, window=60, every=20)
    assert accuracy(net) > 0.6
    return Trained(reports)


@network
def seldom_measured() -> Trained:
    """One step in fifty is measured, in windows of thirty."""
    net = mlp()
    reports = fit(Lit(net, lambda net: adam(net, 1e-3)), every=50, window=30, epochs=8)
    assert accuracy(net) > 0.8
    return Trained(reports)


@network
def short() -> Trained:
    """Twelve steps: too few to tell."""
    net = mlp()
    return Trained(fit(Lit(net, lambda net: adam(net, 1e-3)), every=1, window=4, epochs=1, batch=150))
