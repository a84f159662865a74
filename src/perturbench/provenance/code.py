"""Find the source files that a result depends on, by reading import statements; nothing is imported."""

from __future__ import annotations

import ast
import hashlib
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

PACKAGE = "perturbench"
_SOURCE = Path(__file__).parents[1]


class _Import(NamedTuple):
    """One import statement: ``from <module> import <names>``, or ``import <module>`` without names."""

    module: str
    level: int
    names: tuple[str, ...]


def modules_behind(roots: Iterable[str], within: Iterable[str], source: Path | None = None) -> dict[str, Path]:
    """Return the files of modules, and of everything that they import from some packages, directly or indirectly.

    Imports for type checkers only are left out, because they cannot change a result. A name that a package re-exports
    counts as an import of the module that defines it.

    Parameters
    ----------
    roots
        Dotted names of the modules to start from. A module without a file is left out.
    within
        Packages whose modules are followed, for example ``perturbench.models``. If a root is outside
        this package, its top-level package is followed too; if that is a single file, so are the files next to it.
    source
        Folder of this package's source code; by default that of the running package.

    Returns
    -------
    Files by the dotted names of their modules.
    """
    source, roots = source or _SOURCE, list(roots)
    followed = {*within, *(name for top in {root.partition(".")[0] for root in roots} for name in _neighbours(top))}
    tops = {name.partition(".")[0] for name in followed}
    found: dict[str, Path] = {}
    left = roots
    while left:
        name = left.pop()
        path = None if name in found else _file_of(name, source)
        if path is not None:
            found[name] = path
            left += [other for other in _imports_of(name, path, source, tops) if _is_inside(other, followed)]
    return found


def fingerprint_code(modules: Mapping[str, Path]) -> str:
    """Return the fingerprint of the names and contents of modules, as :func:`modules_behind` returns them."""
    digest = hashlib.blake2b(digest_size=8)
    for name, path in sorted(modules.items()):
        digest.update(f"{name}\0".encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _is_inside(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _neighbours(top: str) -> set[str]:
    """Return the top-level names to follow for a package or file of the user; none for this package itself."""
    place = None if top == PACKAGE else _top_level(top)
    if place is None:
        return set()
    if place.is_dir() or {"site-packages", "dist-packages"} & set(place.parts):
        return {top}
    return {path.stem for path in place.parent.glob("*.py")}


def _top_level(name: str) -> Path | None:
    """Return the folder of a top-level package, or the file of a top-level module."""
    try:
        spec = find_spec(name)  # a name without dots is found without importing anything
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if spec.submodule_search_locations:
        return Path(next(iter(spec.submodule_search_locations)))
    return Path(spec.origin) if spec.has_location and spec.origin else None


def _file_of(name: str, source: Path) -> Path | None:
    top, *rest = name.split(".")
    place = source if top == PACKAGE else _top_level(top)
    if place is None or (place.is_file() and rest):
        return None
    if place.is_file():
        return place
    base = place.joinpath(*rest)
    candidates = [base / "__init__.py"] + ([base.with_name(f"{base.name}.py")] if rest else [])
    return next((path for path in candidates if path.is_file()), None)


def _imports_of(name: str, path: Path, source: Path, tops: Collection[str]) -> Iterator[str]:
    """Yield the modules of the packages ``tops`` that a module imports; for a package, also those of its stub."""
    for file in _faces(path) if path.name == "__init__.py" else [path]:
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for statement in _statements(file):
            module = _absolute(statement, package)
            if module.partition(".")[0] not in tops:
                continue
            if not statement.names:
                yield module
            for item in statement.names:
                yield _definer(module, item, source)


def _definer(module: str, item: str, source: Path) -> str:
    """Return the module that ``from <module> import <item>`` takes the item from."""
    if _file_of(f"{module}.{item}", source):
        return f"{module}.{item}"
    path = _file_of(module, source)
    if path is None or path.name != "__init__.py":
        return module
    for file in _faces(path):
        for statement in _statements(file):
            if item in statement.names:
                return _definer(_absolute(statement, module), item, source)
    return module


def _faces(path: Path) -> list[Path]:
    """Return the files with the re-exports of a package: its ``__init__.py`` and, if it imports lazily, its stub."""
    return [file for file in (path.with_suffix(".pyi"), path) if file.is_file()]


def _absolute(statement: _Import, package: str) -> str:
    if not statement.level:
        return statement.module
    base = package.split(".")[: len(package.split(".")) - statement.level + 1]
    return ".".join([*base, *([statement.module] if statement.module else [])])


def _statements(path: Path) -> tuple[_Import, ...]:
    state = path.stat()
    return _parse(path, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _parse(path: Path, changed: int, size: int) -> tuple[_Import, ...]:
    try:
        return tuple(_walk(ast.parse(path.read_bytes())))
    except SyntaxError:
        return ()


def _walk(node: ast.AST) -> Iterator[_Import]:
    """Yield import statements, also those in functions, but not those for type checkers."""
    if isinstance(node, ast.Import):
        yield from (_Import(alias.name, 0, ()) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        yield _Import(node.module or "", node.level, tuple(alias.name for alias in node.names))
    elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        for statement in node.orelse:
            yield from _walk(statement)
    elif isinstance(node, (ast.stmt, ast.mod, ast.excepthandler, ast.match_case)):  # expressions import nothing
        for child in ast.iter_child_nodes(node):
            yield from _walk(child)
