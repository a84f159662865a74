"""The house: every file is in a room, every room has a floor, and imports only go down."""

import ast
from functools import cache
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src/perturbench"

#: Every room from the ground up. A room may import from the rooms above it in this list; rooms of one line are
#: neighbours that know nothing of each other. A file belongs to the longest name that it starts with.
ROOMS = (
    ("errors", "files", "startup", "provenance/code", "provenance/fingerprints"),
    ("provenance/stamp",),
    ("provenance",),
    ("parameters",),
    # The library: no Kedro, no MLflow.
    ("data",),
    ("data/sources", "data/splits", "data/curation", "data/loading"),
    ("preprocessing/embeddings",),
    ("analysis/score_table",),
    ("preprocessing", "analysis/profiles"),
    ("analysis/metrics",),
    ("analysis/inference",),
    ("analysis",),
    ("analysis/figures",),
    ("analysis/report", "analysis/benchmarks"),
    ("models/nn",),
    ("models",),
    ("models/gears",),
    ("training",),
    ("tuning",),
    # Kedro.
    ("datasets", "config"),
    ("pipelines",),
    # Wiring.
    ("grid",),
    ("hooks", "pipeline_registry"),
    ("cli", "settings"),
    ("__main__",),
)
FLOOR = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}
LIBRARY = ROOMS[: ROOMS.index(("datasets", "config"))]
#: The faces of rooms may name what is above them: they import lazily, for users and not for other rooms.
FILES = sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def room_of(module: str) -> str:
    """Return the room of ``perturbench.<module>``."""
    parts = module.split(".")
    names = ["/".join(parts[:length]) for length in range(len(parts), 0, -1)]
    return next(name for name in names if name in FLOOR)


@cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Return every module that a file imports, in functions and for type checkers too."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if _is_module(name) else str(node.module) for name in names]
    return tuple(found)


def _is_module(name: str) -> bool:
    base = SOURCE.parent / Path(*name.split("."))
    return base.is_dir() or base.with_suffix(".py").is_file()


def own_imports(path: Path) -> list[str]:
    names = (
        name.removeprefix("perturbench").lstrip(".") for name in imports_of(path) if name.startswith("perturbench")
    )
    return [name for name in names if name not in ("", "__version__")]


def name_of(path: Path) -> str:
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_only_go_down(path):
    room = room_of(name_of(path))
    for name in own_imports(path):
        other = room_of(name)
        assert other == room or FLOOR[other] < FLOOR[room], f"{name_of(path)} ({room}) imports {name} ({other})"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_the_library_knows_no_kedro_and_no_mlflow(path):
    if any(room_of(name_of(path)) in rooms for rooms in LIBRARY):
        assert not {"kedro", "kedro_datasets", "mlflow", "kedro_mlflow"} & {
            name.split(".")[0] for name in imports_of(path)
        }


def test_no_circles():
    graph = {name_of(path): set(own_imports(path)) for path in FILES}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert name not in trail, " -> ".join((*trail, name))
        for other in sorted(graph.pop(name, ())):
            if other in graph or other in trail:
                visit(other, (*trail, name))

    while graph:
        visit(min(graph), ())


def test_every_room_of_the_table_is_there():
    assert {room_of(name_of(path)) for path in FILES} == set(FLOOR)
