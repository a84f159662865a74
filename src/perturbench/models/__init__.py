"""Models of perturbation responses: the base class, and one file per model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "additive": ["Additive"],
        "base": ["PerturbationModel"],
        "biolord": ["BioLord"],
        "closed_form": ["ClosedFormModel"],
        "control": ["Control"],
        "cpa": ["CPA"],
        "decoder_only": ["DecoderOnly"],
        "latent_additive": ["LatentAdditive"],
        "linear_additive": ["LinearAdditive"],
        "mean_response": ["MeanResponse"],
        "perturbation_mean": ["PerturbationMean"],
        "ridge": ["Ridge"],
        "sams_vae": ["SAMSVAE"],
        "training": ["build_model", "fit", "load_model", "predict", "predict_wanted"],
    },
)
