"""The section ``hpo``: the search for hyperparameters."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator

from perturbench.errors import PerturbenchError
from perturbench.parameters import Parameters


class HpoConfig(Parameters):
    """How many trials a search has, where it stores them, and which weighted sum of metrics it minimises."""

    n_trials: int = Field(default=60, ge=1)
    n_startup_trials: int = Field(default=10, ge=0)
    storage: str
    heartbeat: int = Field(default=60, ge=1)
    objective: dict[str, float] = Field(default={"rmse_average": 1.0, "rmse_rank_average": 0.1}, min_length=1)

    @field_validator("storage")
    @classmethod
    def _known_storage(cls, value: str) -> str:
        if not value.startswith(("journal:", "postgresql://")):
            raise PerturbenchError(
                f"storage '{value}' is not known; use journal:<file>, or postgresql://user@host:port/database for "
                "workers on several machines."
            )
        address = urlsplit(value)
        secret = {"password", "sslpassword"} & set(parse_qs(address.query))
        if address.scheme == "postgresql" and (address.password or secret):
            raise PerturbenchError(
                "storage contains a password, which logs and tracking would show; leave it out of the address, and set "
                "the environment variable PGPASSWORD or the file ~/.pgpass."
            )
        return value
