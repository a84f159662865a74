from .preparation import prepare
from .settings import PreprocessingSettings

__all__ = [
    "PreprocessingSettings",
    "prepare",
]
