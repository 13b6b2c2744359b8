"""Interventions: what re-runs or changes a model on the user's word."""

from lightning_neurohealth.interventions.ablated import Ablation, LayerAblation
from lightning_neurohealth.interventions.ablation import ablate

__all__ = ["Ablation", "LayerAblation", "ablate"]
