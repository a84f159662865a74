"""Figures of scores, examples, training losses and effect similarities, for the report and for kedro-viz."""

from perturbench.analysis.figures.examples import plot_examples
from perturbench.analysis.figures.scores import plot_ranking, plot_scores
from perturbench.analysis.figures.series import plot_series
from perturbench.analysis.figures.similarities import plot_similarities
from perturbench.analysis.figures.training import plot_training

__all__ = ["plot_examples", "plot_ranking", "plot_scores", "plot_series", "plot_similarities", "plot_training"]
