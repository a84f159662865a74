import pytest

from perturbench.errors import PerturbenchError, listing, require_choice, without_secrets


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


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("postgresql://me:SE@C/RET@host/db", "postgresql://me:***@host/db"),
        ("postgresql://:pw@host/db", "postgresql://:***@host/db"),
        ("at 'mysql://me:123@host' x@y", "at 'mysql://me:***@host' x@y"),
        ("https://token@github.com/x", "https://***@github.com/x"),
        ("postgresql://h/db?sslpassword=s&sslmode=require", "postgresql://h/db?sslpassword=***&sslmode=require"),
        ("https://a/b?api_key=s#f", "https://a/b?api_key=***#f"),
        ("https://a/b?X-Amz-Signature=s&x=1&TOKEN=t", "https://a/b?X-Amz-Signature=***&x=1&TOKEN=***"),
    ],
)
def test_secrets_of_addresses_are_masked(text, masked):
    assert without_secrets(text) == masked
    assert str(PerturbenchError(f"storage '{text}' is not known")) == f"storage '{masked}' is not known"


@pytest.mark.parametrize(
    "text",
    [
        "postgresql://me@host:5432/db",
        "https://host:8080/a@b",
        "see 'https://h:80' x@y",
        "perturbation_key=condition",
        "",
    ],
)
def test_text_without_secrets_is_unchanged(text):
    assert without_secrets(text) == text
