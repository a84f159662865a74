import pytest

from perturbench.errors import PerturbenchError, listing, require_choice


@pytest.mark.parametrize(
    ("names", "text"),
    [([], "none"), (["a"], "a"), ("abc", "a, b, c"), (range(12), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9 and 2 more")],
)
def test_listing_names_the_first_and_counts_the_others(names, text):
    assert listing(names) == text


def test_unknown_choice_names_the_choices():
    require_choice("part", "val", ("train", "val"))
    with pytest.raises(PerturbenchError, match="unknown part 'dev'; choose one of: train, val"):
        require_choice("part", "dev", ("val", "train"))
