"""Healthy runs whose losses, rates and gradients tempt a rule on the whole run to speak."""

from __future__ import annotations

from tests.rules.tempting_losses import (
    contrastive,
    heavy_tails,
    hinge_that_reaches_zero,
    log_likelihood,
    noisy_validation,
    policy_gradient,
    sure_and_right,
    validated,
    value_learning,
    wrong_labels,
)
from tests.rules.tempting_rates import (
    large_rate_behind_norms,
    quick_adam,
    signs_of_gradients,
    slow_start,
    slow_warm_up,
    steps_down,
    warm_up_and_cosine,
)
from tests.rules.tempting_starts import (
    adapter_on_a_converged_network,
    at_its_floor,
    fine_tuned_gently,
    fine_tuned_more_gently,
    small_everywhere,
    small_head,
    word_vectors,
    zero_start,
)
from tests.rules.tempting_windows import one_row_at_a_time, seldom_measured, short

HEALTHY = [
    warm_up_and_cosine,
    slow_warm_up,
    steps_down,
    wrong_labels,
    fine_tuned_gently,
    fine_tuned_more_gently,
    at_its_floor,
    log_likelihood,
    hinge_that_reaches_zero,
    policy_gradient,
    value_learning,
    one_row_at_a_time,
    seldom_measured,
    short,
    small_head,
    small_everywhere,
    zero_start,
    adapter_on_a_converged_network,
    word_vectors,
    contrastive,
    signs_of_gradients,
    quick_adam,
    large_rate_behind_norms,
    slow_start,
    validated,
    sure_and_right,
    noisy_validation,
    heavy_tails,
]
