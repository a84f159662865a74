"""Run processes on a Ray cluster, whose machines all see the project's folder under the same path."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import click

from perturbench.errors import PerturbenchError
from perturbench.grid.processes import Outcome, execute

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from perturbench.grid.processes import Job

_PATIENCE = 15.0


def run_on_ray(jobs: Sequence[Job], address: str, gpus: float = 0) -> Generator[tuple[Job, Outcome]]:
    """Run jobs on a cluster, as many at once as its CPUs and GPUs allow; yield each when it has ended.

    Parameters
    ----------
    jobs
        The jobs to run. A job whose machine is lost gets the exit status 1.
    address
        Address of the cluster: ``auto`` or ``host:port``.
    gpus
        GPUs per job.

    Raises
    ------
    PerturbenchError
        If Ray is not installed or there is no cluster at the address.
    """
    ray = _connect(address)
    if jobs and gpus and not any(node["Alive"] and node["Resources"].get("GPU", 0) >= gpus for node in ray.nodes()):
        click.echo(f"no machine of the Ray cluster has {gpus:g} GPUs; the runs wait until one does.", err=True)
    remote = ray.remote(num_cpus=1, num_gpus=gpus)(execute)
    running = {}
    try:
        running = {remote.remote(job): job for job in jobs}
        while running:
            (ended, *_), _ = ray.wait(list(running))
            job = running.pop(ended)
            try:
                yield job, ray.get(ended)
            except ray.exceptions.RayError as error:
                job.log.parent.mkdir(parents=True, exist_ok=True)
                with job.log.open("a") as log:
                    log.write(f"RayError: {' '.join(str(error).split())}\n")
                yield job, Outcome(1, 0.0)
    finally:
        for reference in running:
            ray.cancel(reference)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=_PATIENCE)
        ray.shutdown()


def _connect(address: str) -> Any:
    try:
        import ray
    except ImportError as error:
        raise PerturbenchError("--address needs Ray: pip install 'perturbench[ray]'.") from error
    try:
        if address != "auto":
            # Test the connection first: Ray itself keeps trying for minutes.
            host, _, port = address.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=_PATIENCE).close()
        ray.init(address, log_to_driver=False, logging_level="ERROR")
    except (OSError, ValueError, RuntimeError) as error:
        raise PerturbenchError(
            f"no Ray cluster answers at '{address}': {error}. Start one with: ray start --head"
        ) from error
    return ray
