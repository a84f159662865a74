"""Nodes are thin: they unpack typed parameters, call the library, and return."""

import ast
from pathlib import Path

import pytest

import perturbench.pipelines

LONGEST = 25
FILES = sorted(Path(perturbench.pipelines.__file__).parent.glob("*/nodes.py"))


def lines_of_code(function: ast.FunctionDef, text: list[str]) -> int:
    """Return the lines of a function's body, without its docstring, comments and empty lines."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    lines = text[body[0].lineno - 1 : body[-1].end_lineno] if body else []
    return sum(bool(line.strip()) and not line.strip().startswith("#") for line in lines)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_no_function_of_a_node_is_long(path):
    text = path.read_text()
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    lengths = {function.name: lines_of_code(function, text.splitlines()) for function in functions}
    assert functions
    assert {name: length for name, length in lengths.items() if length > LONGEST} == {}


def test_lines_are_counted():
    text = 'def f():\n    """Doc."""\n    # why\n    a = 1\n\n    return (\n        a\n    )\n'
    assert lines_of_code(ast.parse(text).body[0], text.splitlines()) == 4
