"""Group means, counts and cells of the observed and the predicted side of an evaluation."""

from perturbench.analysis.profiles.base import Profiles
from perturbench.analysis.profiles.cells import Cells, SampledCells
from perturbench.analysis.profiles.prediction import Missing, Negative, Prediction
from perturbench.analysis.profiles.reference import Reference

__all__ = ["Cells", "Missing", "Negative", "Prediction", "Profiles", "Reference", "SampledCells"]
