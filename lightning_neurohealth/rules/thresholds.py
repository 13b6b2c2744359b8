"""Checks the numbers that a rule is set to."""

from __future__ import annotations

import math
from dataclasses import MISSING, fields
from numbers import Integral, Real
from typing import Any

BANDS = ("warning", "serious", "critical")


def check_settings(rule: Any) -> None:
    """Refuse what a field of the dataclass ``rule`` cannot be.

    A field whose default is a number takes a number of its kind that is not negative; where a rule has thresholds for
    several severities, they run as those of its defaults do.

    Raises:
        TypeError: A field is of another kind than its default.
        ValueError: It is NaN, negative or, for ``windows``, 0; or thresholds are out of order.
    """
    kind = type(rule).__name__
    for field in fields(rule):
        value, default = getattr(rule, field.name), field.default
        where = f"{kind}({field.name}={value!r})"
        if isinstance(default, bool) or not isinstance(default, (int, float)):
            continue
        whole = isinstance(default, int)
        if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
            raise TypeError(f"{where}: must be {'a whole number' if whole else 'a number'}, as {default!r} is")
        if math.isnan(value):
            raise ValueError(f"{where}: must be a number, as {default!r} is")
        if value < 0:
            raise ValueError(f"{where}: must not be negative")
    if rule.windows < 1:
        raise ValueError(f"{kind}(windows={rule.windows}): must be at least 1")
    _check_order(rule)


def _check_order(rule: Any) -> None:
    bands = [field for name in BANDS for field in fields(rule) if field.name == name]
    values, usual = [getattr(rule, field.name) for field in bands], [field.default for field in bands]
    rising, falling = values == sorted(values), values == sorted(values, reverse=True)
    if any(default is MISSING for default in usual) or usual[:1] == usual[-1:]:
        right, way = rising or falling, ""
    elif usual[0] < usual[-1]:  # type: ignore[operator]
        right, way = rising, "rising "
    else:
        right, way = falling, "falling "
    if not right:
        given = ", ".join(f"{field.name}={value}" for field, value in zip(bands, values, strict=True))
        raise ValueError(f"{type(rule).__name__}({given}): thresholds must be in order, {way}from warning to critical")
