"""The reference: links lead to the names that users import, and fields of tuples are described once."""

from __future__ import annotations

import importlib
from collections import namedtuple
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PACKAGES = ("perturbench.analysis", "perturbench.data", "perturbench.models", "perturbench.preprocessing.embeddings")
FIELD = type(namedtuple("Pair", ["first"]).first)


def public_name(target: str) -> str | None:
    """Return the public name of what ``perturbench.package.module.name`` names, if it has one."""
    package, name = ".".join(target.split(".")[:2]), target.rpartition(".")[2]
    if package in PACKAGES and name in importlib.import_module(package).__all__:
        return f"{package}.{name}"
    return None


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, child: Any) -> nodes.Node | None:
    """Resolve a reference that leads nowhere."""
    domain = node.get("refdomain")
    if domain != "py" or (name := public_name(node["reftarget"])) is None:
        return None
    python = env.get_domain("py")
    return python.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], name, node, child)


def skip(app: Sphinx, what: str, name: str, member: Any, skipped: bool, options: Any) -> bool | None:
    """Skip fields of tuples, which the docstring of the class describes."""
    return True if isinstance(member, FIELD) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both."""
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
