"""Interventions: what re-runs or changes a model on the user's word."""

from lightning_neurohealth.interventions.ablated import Ablation, LayerAblation
from lightning_neurohealth.interventions.ablation import ablate
from lightning_neurohealth.interventions.agreement import Agreement, agreement
from lightning_neurohealth.interventions.compaction import Compaction, compact
from lightning_neurohealth.interventions.cutting import CannotCutError
from lightning_neurohealth.interventions.fitness import Fitness, fitness
from lightning_neurohealth.interventions.initialization import Initialization, initialize
from lightning_neurohealth.interventions.masks import Masks
from lightning_neurohealth.interventions.preflight import Preflight, assert_healthy, check_initialization
from lightning_neurohealth.interventions.pruning import model_pruning, prune_neurons
from lightning_neurohealth.interventions.recycle_dormant import RecycleDormant
from lightning_neurohealth.interventions.recycling import recycle
from lightning_neurohealth.interventions.swapping import swap_activation

__all__ = [
    "Ablation",
    "Agreement",
    "CannotCutError",
    "Compaction",
    "Fitness",
    "Initialization",
    "LayerAblation",
    "Masks",
    "Preflight",
    "RecycleDormant",
    "ablate",
    "agreement",
    "assert_healthy",
    "check_initialization",
    "compact",
    "fitness",
    "initialize",
    "model_pruning",
    "prune_neurons",
    "recycle",
    "swap_activation",
]
