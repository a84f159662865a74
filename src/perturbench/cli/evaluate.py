"""``perturbench evaluate``: score predictions in h5ad files without a project."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from perturbench.errors import PerturbenchError


@click.command()
@click.option(
    "--predictions",
    multiple=True,
    required=True,
    metavar="[NAME=]H5AD",
    help="h5ad with a model's predictions: cells, or one row per perturbation and state. Repeat it for more models. "
    "NAME defaults to the name of the file.",
)
@click.option("--reference", required=True, help="h5ad of the observed cells: perturbed cells and their controls.")
@click.option("--perturbation-key", default="condition", show_default=True, help="Column of obs with perturbations.")
@click.option(
    "--covariate-keys",
    default="cell_type",
    show_default=True,
    help="Columns of obs with covariates, comma-separated; empty: there are none.",
)
@click.option(
    "--control", default="control", show_default=True, help="Name of the controls in the perturbation column."
)
@click.option(
    "--delimiter",
    default="+",
    show_default=True,
    help="Separator between the perturbations of a combination; empty: there are none.",
)
@click.option(
    "--metrics", default="default", show_default=True, help="Name of a profile of metrics, or comma-separated metrics."
)
@click.option(
    "--negative",
    type=click.Choice(["refuse", "clip"]),
    default="refuse",
    show_default=True,
    help="Negative mean expression: refuse it, or clip it to zero.",
)
@click.option(
    "--missing",
    type=click.Choice(["refuse", "report"]),
    default="refuse",
    show_default=True,
    help="Predictions that lack some perturbations of the reference: refuse them, or score and report the rest.",
)
@click.option("--output", type=click.Path(path_type=Path), help="Folder to write scores.parquet and report.html to.")
def evaluate(
    predictions: tuple[str, ...],
    reference: str,
    perturbation_key: str,
    covariate_keys: str,
    control: str,
    delimiter: str,
    metrics: str,
    negative: Any,
    missing: Any,
    output: Path | None,
) -> None:
    """Score predictions in h5ad files against observed cells."""
    from perturbench.analysis.evaluation import evaluate as score_all
    from perturbench.analysis.leaderboard import leaderboard, print_leaderboard
    from perturbench.analysis.metrics.registry import resolve_metrics
    from perturbench.data.sources.raw import read_cells

    try:
        chosen = resolve_metrics([name.strip() for name in metrics.split(",")] if "," in metrics else metrics)
        result = score_all(
            _read_all(predictions),
            read_cells(reference),
            perturbation_key=perturbation_key,
            covariate_keys=[key for key in covariate_keys.split(",") if key],
            control=control,
            delimiter=delimiter or None,
            metrics=[metric.name for metric in chosen],
            negative=negative,
            missing=missing,
        )
        board = leaderboard(result.scores.assign(seed=0), chosen)
    except PerturbenchError as error:
        raise click.ClickException(str(error)) from error
    print_leaderboard(board, f"{reference}")
    if output is not None:
        _write(output, result.scores, board, chosen, reference)


def _read_all(predictions: tuple[str, ...]) -> dict[str, Any]:
    from perturbench.data.sources.raw import read_cells

    cells = {}
    for name, path in map(_named, predictions):
        if name in cells:
            raise PerturbenchError(f"two predictions are called '{name}'; name them: --predictions <name>=<file>.")
        cells[name] = read_cells(path)
    return cells


def _named(item: str) -> tuple[str, str]:
    name, equals, path = item.partition("=")
    return (name, path) if equals and not Path(item).exists() else (Path(item).stem, item)


def _write(output: Path, scores: Any, board: Any, metrics: list[Any], reference: str) -> None:
    from perturbench import __version__
    from perturbench.analysis.figures import plot_ranking, plot_scores
    from perturbench.analysis.inference.uncertainty import paired_tests
    from perturbench.analysis.report import render_page, sections
    from perturbench.analysis.score_table import per_state
    from perturbench.files import atomic_path

    title, models, names = Path(reference).name, list(board["model"]), [metric.name for metric in metrics]
    shown = [
        sections.leaderboard(board, plot_ranking(board, metrics), comparisons=paired_tests(scores)),
        sections.perturbations(plot_scores(scores, metrics, models), names),
        sections.states(per_state(scores), names, models),
        sections.provenance({"perturbench": __version__, "reference": reference}),
    ]
    page = render_page(title, title, shown)
    with atomic_path(output / "scores.parquet") as path:
        scores.to_parquet(path)
    with atomic_path(output / "report.html") as path:
        path.write_text(page, encoding="utf-8")
    click.echo(f"scores: {output / 'scores.parquet'}\nreport: {output / 'report.html'}")
