"""Record what made a file: stamps, and the fingerprints of data, parameters and source code in them."""

from perturbench.provenance.code import fingerprint_code, modules_behind
from perturbench.provenance.fingerprints import (
    fingerprint_adata,
    fingerprint_array,
    fingerprint_file,
    fingerprint_frame,
    fingerprint_parameters,
)
from perturbench.provenance.stamp import KEY, Stamp

__all__ = [
    "KEY",
    "Stamp",
    "fingerprint_adata",
    "fingerprint_array",
    "fingerprint_code",
    "fingerprint_file",
    "fingerprint_frame",
    "fingerprint_parameters",
    "modules_behind",
]
