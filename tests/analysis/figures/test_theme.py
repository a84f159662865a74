"""Names that fit an axis."""

from tests.analysis.scored import METRICS, make_board, make_scores

from perturbench.analysis import figures
from perturbench.analysis.figures.theme import shorten


def test_long_names_that_look_alike_stay_apart():
    names = ["a_rather_long_name_of_one_model_here_1", "a_rather_long_name_of_two_model_here_1"]
    assert shorten(names[0]) == shorten(names[1])
    board = make_board(make_scores(dict.fromkeys(names, (0.2, 0.8))))
    assert len(set(figures.plot_ranking(board, METRICS).data[0].y)) == 2
