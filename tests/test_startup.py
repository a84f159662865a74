"""The garbage collector is paused during imports only."""

import gc

import pytest

from perturbench.startup import finish_imports, paused_collector


def test_the_collector_is_paused_until_imports_are_finished():
    with paused_collector():
        assert not gc.isenabled()
        finish_imports(["json"])
        assert gc.isenabled() and gc.get_freeze_count()
    assert gc.isenabled() and not gc.get_freeze_count()


def test_it_resumes_after_an_error():
    with pytest.raises(ValueError), paused_collector():
        raise ValueError
    assert gc.isenabled()


def test_outside_of_a_command_nothing_changes():
    finish_imports(["no.such.module"])
    assert gc.isenabled() and not gc.get_freeze_count()
