"""Typed parameters: defaults stand once, and mistakes name the field and what is allowed."""

import pytest
from pydantic import ConfigDict, Field

from perturbench.errors import PerturbenchError
from perturbench.parameters import Parameters


class Inner(Parameters):
    depth: int = Field(1, ge=1)


class Outer(Parameters):
    name: str
    fraction: float = Field(0.5, gt=0, lt=1)
    inner: Inner = Inner()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a", "fractoin": 0.3}, "^unknown parameters: fractoin; choose among: name, fraction, inner$"),
        ({"name": "a", "fraction": 2}, "^fraction is 2: input should be less than 1$"),
        ({"fraction": 0.3}, "^name is not set; it has no default$"),
        ({"name": "a", "inner": {"depth": 0}}, "^inner: depth is 0: input should be greater than or equal to 1$"),
        ({"name": 1, "fraction": "x"}, "^name is 1: input should be a valid string; fraction is 'x': "),
    ],
)
@pytest.mark.parametrize("make", [lambda values: Outer(**values), Outer.model_validate])
def test_mistakes_name_the_field_and_what_is_allowed(make, values, message):
    with pytest.raises(PerturbenchError, match=message):
        make(values)


def test_parameters_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Inner().depth = 3


def test_override_changes_and_checks_some_fields():
    assert Outer.override(None, {"name": "a"}) == Outer(name="a")
    settings = Outer(name="a", inner={"depth": 2})
    assert Outer.override(settings, {}) is settings
    assert Outer.override(settings, {"fraction": 0.3}) == Outer(name="a", fraction=0.3, inner=Inner(depth=2))
    with pytest.raises(PerturbenchError, match="fraction is 1"):
        Outer.override(settings, {"fraction": 1})


def test_override_keeps_the_fields_of_a_subclass():
    class Extended(Outer):
        extra: int = 1

    settings = Outer.override(Extended(name="a", extra=5), {"fraction": 0.3})
    assert (settings.extra, settings.fraction) == (5, 0.3)


def test_a_title_says_where_the_values_come_from():
    class Titled(Inner):
        model_config = ConfigDict(title="depth.yml")

    with pytest.raises(PerturbenchError, match=r"^depth\.yml: depth is 0: "):
        Titled(depth=0)
