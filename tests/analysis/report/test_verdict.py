"""Results of paired tests in words."""

from tests.analysis.rendered import leaderboard_of


def test_nothing_beats_the_baseline_is_said_plainly():
    page = leaderboard_of({"a": (0.4, 0.6), "b": (0.5, 0.5)})
    assert "No model beats the baseline: none is significantly better than mean_response on any metric" in page


def test_what_beats_the_baseline_is_counted():
    page = leaderboard_of({"a": (0.2, 0.5), "b": (0.5, 0.5)})
    assert "1 of 2 models beat the baseline mean_response on at least one metric." in page
    assert "On cosine_logfc, no model beats it." in page
