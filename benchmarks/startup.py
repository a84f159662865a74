"""CPU and wall seconds of commands that compute next to nothing, and their ratio to another revision's.

``python benchmarks/startup.py`` times this checkout; ``--baseline REVISION`` also times that revision, in a temporary
worktree, in the same run and taking turns. Each makes the data of the demo first, which takes about a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
MODELS = "control,mean_response"
PREPARE = f"kedro benchmark --tasks=demo --models={MODELS}"
COMMANDS = {
    "evaluation, up to date": "kedro run --pipeline=evaluation --params=task:demo",
    "reporting": "kedro run --pipelines=evaluation,reporting --params=task:demo",
    "scoring a file": (
        "perturbench evaluate --predictions=data/07_model_output/demo/mean_response/seed0.h5ad "
        "--reference=data/03_primary/demo/prepared.h5ad --covariate-keys=cell_type --missing=report --negative=clip"
    ),
    "list of pipelines": "kedro registry list",
    "list of data": "perturbench data list",
    "training the control": "kedro run --pipeline=modeling --params=task:demo,model:control",
}
#: Most CPU seconds of a command; limits are for two cores of a current server.
LIMITS = {"evaluation, up to date": 4.0}


class Checkout(NamedTuple):
    """A folder with the project's files, and the interpreter that runs it."""

    folder: Path
    python: str


def call(checkout, command):
    """Run a command in a checkout; return its CPU and wall seconds, child processes included."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout.folder / "src"),
        "OMP_NUM_THREADS": "1",
        "NUMBA_NUM_THREADS": "1",
    }
    arguments = [checkout.python, "-m", *command.split()]
    before, start = os.times(), time.perf_counter()
    result = subprocess.run(
        arguments, cwd=checkout.folder, env=environment, capture_output=True, text=True, check=False
    )
    wall, after = time.perf_counter() - start, os.times()
    if result.returncode:
        sys.exit(f"{command} failed in {checkout.folder}:\n{result.stdout}{result.stderr}")
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return cpu, wall


@contextlib.contextmanager
def copied():
    """Yield a copy of this checkout's files, with its uncommitted changes and without its data."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        ignored = shutil.ignore_patterns("__pycache__", "local", ".*_cache")
        for part in ("conf", "src"):
            shutil.copytree(ROOT / part, folder / part, ignore=ignored)
        (folder / "conf/local").mkdir()
        shutil.copytree(ROOT / "data/01_raw/ishikawa23", folder / "data/01_raw/ishikawa23")
        for file in ("pyproject.toml", ".telemetry"):
            shutil.copy(ROOT / file, folder / file)
        yield folder


@contextlib.contextmanager
def worktree(revision):
    """Yield a temporary worktree of a revision."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "project"
        git = ["git", "-C", str(ROOT), "worktree"]
        subprocess.run([*git, "add", "--quiet", "--detach", str(folder), revision], check=True)
        try:
            yield folder
        finally:
            subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def table(checkouts, names, repeats):
    """Print the least seconds of each command over the repeats; return the CPU seconds of the first checkout."""
    heads = [f"{label} {what}" for label in checkouts for what in ("CPU s", "wall s")]
    print(
        f"{'':24}" + "".join(f"{head:>18}" for head in heads) + (f"{'ratio of CPU':>18}" if len(checkouts) > 1 else "")
    )
    cpus = {}
    for name in names:
        # Checkouts take turns, so that other work on the machine slows all of them.
        turns = [[call(checkout, COMMANDS[name]) for checkout in checkouts.values()] for _ in range(repeats)]
        least = [tuple(min(turn[index][part] for turn in turns) for part in (0, 1)) for index in range(len(checkouts))]
        line = "".join(f"{seconds:18.2f}" for pair in least for seconds in pair)
        print(f"{name:24}{line}" + (f"{least[1][0] / least[0][0]:18.1f}" if len(least) > 1 else ""), flush=True)
        cpus[name] = least[0][0]
    return cpus


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=f"some of: {', '.join(COMMANDS)}; default: all")
    parser.add_argument("--baseline", metavar="REVISION", help="git revision to compare with")
    parser.add_argument("--baseline-python", default=sys.executable, help="interpreter with that revision's packages")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    if unknown := sorted(set(options.commands) - set(COMMANDS)):
        parser.error(f"unknown commands: {', '.join(unknown)}; choose among: {', '.join(COMMANDS)}")
    with contextlib.ExitStack() as stack:
        checkouts = {"now": Checkout(stack.enter_context(copied()), sys.executable)}
        if options.baseline:
            folder = stack.enter_context(worktree(options.baseline))
            checkouts["baseline"] = Checkout(folder, options.baseline_python)
        for checkout in checkouts.values():
            call(checkout, PREPARE)
        cpus = table(checkouts, options.commands or list(COMMANDS), options.repeats)
    too_slow = [name for name, limit in LIMITS.items() if cpus.get(name, 0) > limit]
    if too_slow:
        sys.exit(f"over the limit: {', '.join(f'{name} ({LIMITS[name]} s of CPU)' for name in too_slow)}")


if __name__ == "__main__":
    main()
