"""Tables of the report."""

from tests.analysis.scored import make_scores

from perturbench.analysis.report.tables import by_state
from perturbench.analysis.score_table import per_state


def test_states_are_columns_and_better_is_darker():
    scores = make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)}, seeds=(0, 1))
    table = by_state(per_state(scores), "rmse_average", ["b", "a"])
    assert table["columns"] == ["s1 (n=10)", "s2 (n=10)"], "seeds are no perturbations"
    (first, cells), (second, others) = table["rows"]
    assert (first, second) == ("b", "a")
    assert [cell["strength"] for cell in cells] == [0, 0]
    assert [cell["strength"] for cell in others] == [1, 1]
    assert cells[0]["text"] == "0.346"
    higher = by_state(per_state(scores), "cosine_logfc", ["a", "b"])
    assert higher["rows"][0][1][0]["strength"] == 1


def test_many_states_go_down_the_page():
    scores = make_scores({"a": (0.2, 0.8), "b": (0.3, 0.7)}, states=[f"s{i}" for i in range(12)])
    table = by_state(per_state(scores), "rmse_average", ["a", "b"])
    assert table["corner"] == "state"
    assert table["columns"] == ["a", "b"]
    assert len(table["rows"]) == 12
