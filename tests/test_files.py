import subprocess
import sys

import pytest

from perturbench.files import atomic_path


def test_old_file_stays_until_the_new_one_is_complete(tmp_path):
    target = tmp_path / "deep/x.txt"
    with atomic_path(target) as partial:
        partial.write_text("one")
        assert not target.exists()
    with pytest.raises(KeyboardInterrupt), atomic_path(target) as partial:
        partial.write_text("tw")
        raise KeyboardInterrupt
    assert target.read_text() == "one"
    assert [path.name for path in target.parent.iterdir()] == ["x.txt"]


def test_two_processes_do_not_touch_each_others_temporary_file(tmp_path):
    code = f"""
import sys
from perturbench.files import atomic_path
with atomic_path({str(tmp_path / "x")!r}) as partial:
    partial.write_text("other")
    print("open", flush=True)
    sys.stdin.readline()
"""
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "open\n"
    with atomic_path(tmp_path / "x") as partial:
        partial.write_text("mine")
    assert (tmp_path / "x").read_text() == "mine"
    other.communicate("\n")
    assert (tmp_path / "x").read_text() == "other"


def test_temporary_file_of_a_killed_process_is_removed(tmp_path):
    finished = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    left = tmp_path / f".x.{finished.stdout.strip()}.partial"
    left.write_text("half")
    with atomic_path(tmp_path / "x") as partial:
        partial.write_text("whole")
    assert not left.exists()
