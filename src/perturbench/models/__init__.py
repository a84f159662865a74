"""Models of perturbation responses: the base class, and one file per model."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "base": ["PerturbationModel"],
        "closed_form": ["ClosedFormModel"],
        "control": ["Control"],
        "decoder_only": ["DecoderOnly"],
        "latent_additive": ["LatentAdditive"],
        "linear_additive": ["LinearAdditive"],
        "mean_response": ["MeanResponse"],
        "training": ["build_model", "fit", "load_model", "predict", "predict_wanted"],
    },
)
