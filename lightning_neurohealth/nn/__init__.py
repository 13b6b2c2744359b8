"""Activation functions that learn their shape, and a block that keeps a layer healthy."""

from lightning_neurohealth.nn.adaptive_activation import AdaptiveActivation
from lightning_neurohealth.nn.functions import FUNCTIONS
from lightning_neurohealth.nn.shape_learning_activation import ShapeLearningActivation
from lightning_neurohealth.nn.shapes import draw_shapes, shapes
from lightning_neurohealth.nn.stable_block import StableBlock

__all__ = ["FUNCTIONS", "AdaptiveActivation", "ShapeLearningActivation", "StableBlock", "draw_shapes", "shapes"]
