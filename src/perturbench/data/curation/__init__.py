"""From a source's file to the standard form that every later step relies on."""

import lazy_loader

# Lazy: checking the steps of a task must not cost an import of anndata.
__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "curate": ["curate_file"],
        "layouts": ["Layout", "choose_layout", "known_layouts"],
        "schema": ["check_curated"],
        "standard": ["STANDARD", "standardise"],
        "steps": ["Annotation", "find_step", "run_steps"],
    },
)
