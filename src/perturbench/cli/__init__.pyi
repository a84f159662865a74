from .project import benchmark, cli, run

__all__ = [
    "benchmark",
    "cli",
    "run",
]
