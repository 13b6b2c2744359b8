"""What is seen of a layer, of the parameters and of the run while a model trains."""

from __future__ import annotations

from enum import Enum
from typing import Literal

Subject = Literal["layer", "parameters", "run"]


class Signal(str, Enum):
    """One kind of tensor that a tap delivers.

    A signal of a layer arrives as ``[outer, neurons, inner]``, a view in which rows are outer × inner. A signal of the
    parameters arrives as one row a step with one column a parameter; a signal of the run as one number a step.
    """

    ACTIVATION = "activation"
    PREACTIVATION = "preactivation"
    ACTIVATION_GRADIENT = "activation_gradient"
    PARAMETER_GRADIENT = "parameter_gradient"
    """L2 norm of the gradient of each parameter, after unscaling and before clipping, one row a measured step."""
    PARAMETER = "parameter"
    """L2 norm of each parameter, one row a window."""
    PARAMETER_CHANGE = "parameter_change"
    """Size of the change of sampled elements of each parameter since the window before, one row a window."""
    LOSS = "loss"
    """Training loss, one number a step."""
    GLOBAL_GRADIENT = "global_gradient"
    """L2 norm of all gradients together, one number a measured step."""

    @property
    def subject(self) -> Subject:
        """Whom the signal belongs to."""
        if self in (Signal.PARAMETER_GRADIENT, Signal.PARAMETER, Signal.PARAMETER_CHANGE):
            return "parameters"
        return "run" if self in (Signal.LOSS, Signal.GLOBAL_GRADIENT) else "layer"
