from .preparation import prepare

__all__ = [
    "prepare",
]
