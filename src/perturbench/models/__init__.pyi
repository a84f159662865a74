from .additive import Additive
from .base import PerturbationModel
from .biolord import BioLord
from .closed_form import ClosedFormModel
from .control import Control
from .cpa import CPA
from .decoder_only import DecoderOnly
from .gears.model import Gears
from .latent_additive import LatentAdditive
from .linear_additive import LinearAdditive
from .mean_response import MeanResponse
from .perturbation_mean import PerturbationMean
from .ridge import Ridge
from .sams_vae import SAMSVAE

__all__ = [
    "CPA",
    "SAMSVAE",
    "Additive",
    "BioLord",
    "ClosedFormModel",
    "Control",
    "DecoderOnly",
    "Gears",
    "LatentAdditive",
    "LinearAdditive",
    "MeanResponse",
    "PerturbationMean",
    "PerturbationModel",
    "Ridge",
]
