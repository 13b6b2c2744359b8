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
    ACTIVATION_TIMES_GRADIENT = "activation_times_gradient"
    """∂L/∂a · a, summed over space for channels: what silencing the neuron would change, to first order."""
    RIGHT_ACTIVATION = "right_activation"
    """Mean activation over space and time of each sample whose answer was right, ``[samples, neurons, 1]``."""
    WRONG_ACTIVATION = "wrong_activation"
    """Of each sample whose answer was wrong, likewise."""
    WEIGHT = "weight"
    """Weight of the layer's owner as ``[1, neurons, fan-in]``, once a window, and before the first update."""
    OUTGOING_WEIGHT = "outgoing_weight"
    """L2 norm of all weights by which other layers read a neuron directly, ``[1, neurons, 1]``, likewise."""
    BIAS = "bias"
    """Its bias as ``[1, neurons, 1]``, likewise."""
    WEIGHT_GRADIENT = "weight_gradient"
    """Gradient of the weight as ``[1, neurons, fan-in]``, at each measured step."""
    NEURON_GRADIENT = "neuron_gradient"
    """L2 norm of the gradient of a neuron's weights and bias together, ``[1, neurons, 1]``, at each measured step."""
    WEIGHT_UPDATE = "weight_update"
    """Change of the weight by one optimizer step as ``[1, neurons, fan-in]``, at each measured step."""
    SLOPE_PARAMETER = "slope_parameter"
    """Learned parameters of the layer's activation, ``[1, 1, parameters]``, once a window."""
    LEARNED_SLOPE = "learned_slope"
    """Slope of an activation that learns its shape, at even places of [−3, 3], ``[1, neurons, places]``, likewise."""
    LEARNED_SHAPE = "learned_shape"
    """f(z) of such an activation, at more of them, the mean over its slopes, ``[1, places, 1]``, likewise."""
    MIXTURE_ENTROPY = "mixture_entropy"
    """Entropy of the shares of a learned mixture of activations in bits, ``[1, 1, 1]``, likewise."""
    MIXTURE = "mixture"
    """Learned shares of the functions that the layer's activation mixes, ``[1, functions, 1]``, likewise."""
    PARAMETER_GRADIENT = "parameter_gradient"
    """L2 norm of the gradient of each parameter, after unscaling and before clipping, one row a measured step."""
    PARAMETER_GRADIENT_SUM = "parameter_gradient_sum"
    """Sum of the elements of that gradient, likewise; of a complex one, half the sum of their two parts."""
    PARAMETER_GRADIENT_SQUARES = "parameter_gradient_squares"
    """Sum of their squares, likewise."""
    PARAMETER_GRADIENT_MIN = "parameter_gradient_min"
    """The least of them."""
    PARAMETER_GRADIENT_MAX = "parameter_gradient_max"
    """The greatest of them."""
    PARAMETER = "parameter"
    """L2 norm of each parameter, one row a window."""
    PARAMETER_CHANGE = "parameter_change"
    """Size of the change of sampled elements of each parameter since the window before, one row a window."""
    GRADIENT_SAMPLE = "gradient_sample"
    """Gradients of sampled elements of all matrices, one row a measured step, one column an element."""
    UPDATE = "update"
    """‖ΔW‖ / ‖W‖ of each parameter by one optimizer step, from sampled elements, one row a measured step."""
    VALIDATION_LOSS = "validation_loss"
    """Validation loss as the user logs it, one number an evaluation."""
    LOSS = "loss"
    """Training loss, one number a step."""
    GLOBAL_GRADIENT = "global_gradient"
    """L2 norm of all gradients together, one number a measured step."""

    __hash__ = str.__hash__  # an Enum's is a call of Python code, at every look into a dictionary

    @property
    def subject(self) -> Subject:
        """Whom the signal belongs to."""
        return _SUBJECTS.get(self, "layer")


OF_ELEMENTS = (
    *(Signal.PARAMETER_GRADIENT_SUM, Signal.PARAMETER_GRADIENT_SQUARES),
    *(Signal.PARAMETER_GRADIENT_MIN, Signal.PARAMETER_GRADIENT_MAX),
)
"""What is of all elements of each gradient, in the order in which it is computed."""
_SUBJECTS: dict[Signal, Subject] = {
    **dict.fromkeys(OF_ELEMENTS, "parameters"),
    Signal.PARAMETER_GRADIENT: "parameters",
    Signal.PARAMETER: "parameters",
    Signal.PARAMETER_CHANGE: "parameters",
    Signal.GRADIENT_SAMPLE: "parameters",
    Signal.UPDATE: "parameters",
    Signal.LOSS: "run",
    Signal.VALIDATION_LOSS: "run",
    Signal.GLOBAL_GRADIENT: "run",
}


STANDING = {
    Signal.WEIGHT,
    Signal.OUTGOING_WEIGHT,
    Signal.BIAS,
    Signal.SLOPE_PARAMETER,
    Signal.LEARNED_SLOPE,
    Signal.LEARNED_SHAPE,
    Signal.MIXTURE_ENTROPY,
    Signal.MIXTURE,
    Signal.PARAMETER,
}
"""What a network has without seeing data."""
SNAPSHOTS = STANDING | {Signal.PARAMETER_CHANGE}
"""What is as it was last seen, not a sum over steps."""
OF_WEIGHTS = {
    *(Signal.WEIGHT, Signal.OUTGOING_WEIGHT, Signal.BIAS),
    *(Signal.WEIGHT_GRADIENT, Signal.NEURON_GRADIENT, Signal.WEIGHT_UPDATE),
}
"""What is of the weights of each neuron."""
FLOWS = (Signal.ACTIVATION, Signal.PREACTIVATION, Signal.ACTIVATION_GRADIENT)
"""What flows through a layer, row by row."""
