"""Settings of the documentation site: Markdown pages, and reference pages generated from the docstrings."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

from perturbench import __version__

project = "PerturBench"
release = __version__
html_title = f"PerturBench {release}"

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_click",
    "sphinx_copybutton",
    "from_configuration",
    "reference",
]
exclude_patterns = ["_extensions"]
html_theme = "furo"
html_static_path = ["_static"]
highlight_language = "none"
copybutton_exclude = ".linenos, .gp, .go"

myst_heading_anchors = 3

# The signature has the types; the docstrings say shapes and units.
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = True
napoleon_google_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
# Returns are sentences here, not a type and a description.
napoleon_custom_sections = ["Returns", "Yields"]
