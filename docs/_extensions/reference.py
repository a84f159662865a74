"""Reference pages: links lead to the names that users import, and fields of named tuples are described only once."""

from __future__ import annotations

import importlib
from collections import namedtuple
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docutils import nodes
    from sphinx.addnodes import pending_xref
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

#: Rooms with a public face, the longest names first.
PACKAGES = (
    "perturbench.preprocessing.embeddings",
    "perturbench.data.curation",
    "perturbench.data.splits",
    "perturbench.analysis",
    "perturbench.data",
    "perturbench.models",
    "perturbench.preprocessing",
    "perturbench.training",
)
FIELD = type(namedtuple("Pair", ["first"]).first)


def public_name(target: str) -> str | None:
    """Return the name that users import for ``perturbench.package.module.name``, if there is one."""
    name = target.rpartition(".")[2]
    for package in PACKAGES:
        if target.startswith(f"{package}.") and name in importlib.import_module(package).__all__:
            return f"{package}.{name}"
    return None


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, child: Any) -> nodes.Node | None:
    """Resolve a reference to a private module by the public name of its target."""
    domain = node.get("refdomain")
    if domain != "py" or (name := public_name(node["reftarget"])) is None:
        return None
    python = env.get_domain("py")
    return python.resolve_xref(env, node["refdoc"], app.builder, node["reftype"], name, node, child)


def skip(app: Sphinx, what: str, name: str, member: Any, skipped: bool, options: Any) -> bool | None:
    """Skip the fields of named tuples: the docstring of the class describes them."""
    return True if isinstance(member, FIELD) else None


def setup(app: Sphinx) -> dict[str, bool]:
    """Register both functions with Sphinx."""
    app.connect("autodoc-skip-member", skip)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
