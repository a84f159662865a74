"""Run optimizer steps as CUDA graphs, which launch all kernels of a step at once instead of one by one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

import torch

from perturbench.models.loss_terms import LossTerms, named_terms, stack_terms

if TYPE_CHECKING:
    from collections.abc import Callable

    import lightning as L

    from perturbench.data.types import Batch
    from perturbench.models.base import PerturbationModel
    from perturbench.models.loss_terms import Losses

logger = logging.getLogger(__name__)
Compile = Literal["auto"] | bool
#: Number of steps that run before one is captured, because libraries allocate their workspaces in the first ones.
N_EAGER = 3
#: Largest number of captured graphs; each holds the memory of its step.
_MOST_GRAPHS = 8


def prepare_steps(model: PerturbationModel, trainer: L.Trainer, compile: Compile) -> None:
    """Choose how the model's steps run: as CUDA graphs, compiled, or kernel by kernel.

    Parameters
    ----------
    model
        The model. Only one that steps its optimizers itself changes, see :meth:`PerturbationModel.minimise`.
    trainer
        Trainer whose device and precision decide whether CUDA graphs are possible.
    compile
        ``True`` compiles the loss with ``torch.compile``, on any device. ``auto`` does not: compiling takes longer than
        it saves in most trainings. Both use CUDA graphs on a single CUDA device, for models that allow it. ``False``
        runs kernel by kernel.
    """
    model.take_step = None
    if model.automatic_optimization or compile is False:
        return
    on_cuda = trainer.strategy.root_device.type == "cuda"
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    graphs = on_cuda and trainer.world_size == 1 and _allows_cuda_graphs(model) and not scaled
    if graphs or compile is True:
        model.take_step = PreparedSteps(model, compiled=compile is True, graphs=graphs)


def _allows_cuda_graphs(model: PerturbationModel) -> bool:
    """Return whether the class itself allows graphs: a subclass may change the loss, so it does not inherit this."""
    return bool(vars(type(model)).get("allows_cuda_graphs", False))


class PreparedSteps:
    """Forward and backward of a model's losses, compiled, or captured as CUDA graphs, or both.

    One graph is captured for each optimizer, loss and shape of the batch, after a few steps. A loss that cannot be
    compiled, or a step that cannot be captured, runs without, after a warning.
    """

    def __init__(self, model: PerturbationModel, *, compiled: bool, graphs: bool) -> None:
        self._model, self._compiled, self._graphs = model, compiled, graphs
        self._losses: dict[Any, Callable[[Batch], Losses] | None] = {}
        self._n_steps: dict[Any, int] = {}
        self._captured: dict[Any, _Graph] = {}

    def __call__(self, optimizer: Any, loss: Callable[[Batch], Losses], batch: Batch) -> LossTerms:
        """Compute the gradients of a loss, and return its terms."""
        batch = batch._replace(ids=None, gene_names=None)  # text does not go into a graph
        key = (id(optimizer), getattr(loss, "__func__", loss), tuple(one.shape for one in _tensors_of(batch)))
        if key in self._captured:
            return self._captured[key].replay(batch)
        self._n_steps[key] = self._n_steps.get(key, 0) + 1
        if self._graphs and self._n_steps[key] > N_EAGER and len(self._captured) < _MOST_GRAPHS:
            try:
                self._captured[key] = _Graph(self._model, optimizer, self._prepared(loss), batch)
                return self._captured[key].replay(batch)
            except RuntimeError as error:
                self._graphs = False
                logger.warning(
                    "steps of %s cannot be captured as CUDA graphs and run kernel by kernel: %s",
                    type(self._model).__name__,
                    str(error).splitlines()[0],
                )
        return self._step(optimizer, loss, batch)

    def _step(self, optimizer: Any, loss: Callable[[Batch], Losses], batch: Batch) -> LossTerms:
        prepared = self._prepared(loss)
        if prepared is loss:
            return self._model.compute_gradients(optimizer, loss, batch)
        devices = [batch.perturbations.device] if batch.perturbations.is_cuda else []
        states = torch.get_rng_state(), [torch.cuda.get_rng_state(device) for device in devices]
        try:
            return self._model.compute_gradients(optimizer, prepared, batch)
        except Exception as error:  # noqa: BLE001  a compiler may raise anything, and the loss itself may be fine
            torch.set_rng_state(states[0])  # the attempt may have drawn random numbers
            for device, state in zip(devices, states[1], strict=True):
                torch.cuda.set_rng_state(state, device)
            step = self._model.compute_gradients(optimizer, loss, batch)
            self._losses[getattr(loss, "__func__", loss)] = None
            logger.warning("%s cannot be compiled and runs uncompiled: %s", _name_of(loss), str(error).splitlines()[0])
            return step

    def _prepared(self, loss: Callable[[Batch], Losses]) -> Callable[[Batch], Losses]:
        """Return the loss, compiled if requested and possible; each loss is compiled once."""
        function = getattr(loss, "__func__", loss)
        if function not in self._losses:
            self._losses[function] = torch.compile(loss, dynamic=False) if self._compiled else None
        return self._losses[function] or loss


def _name_of(loss: Callable[[Batch], Losses]) -> str:
    owner, name = getattr(loss, "__self__", None), getattr(loss, "__name__", "the loss")
    return name if owner is None else f"{type(owner).__name__}.{name}"


class _Graph:
    """Forward and backward of one loss on batches of one shape."""

    def __init__(self, model: PerturbationModel, optimizer: Any, loss: Callable[[Batch], Losses], batch: Batch) -> None:
        self._batch = _map_tensors(batch, torch.clone)
        parameters = [weight for group in optimizer.param_groups for weight in group["params"]]
        for weight in parameters:
            weight.grad = None
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            terms = named_terms(loss(self._batch))
            terms["loss"].backward()
            self._terms = stack_terms(terms)
        self._gradients = [(weight, weight.grad) for weight in parameters if weight.grad is not None]

    def replay(self, batch: Batch) -> LossTerms:
        """Compute the gradients of a batch, which replace those of the weights."""
        for held, given in zip(_tensors_of(self._batch), _tensors_of(batch), strict=True):
            held.copy_(given)
        self._graph.replay()
        for weight, gradient in self._gradients:
            weight.grad = gradient
        return self._terms


def _tensors_of(batch: Batch) -> list[torch.Tensor]:
    """Return all tensors of a batch."""
    parts = [*(part for part in batch if not isinstance(part, dict)), *batch.covariates.values()]
    return [part for part in parts if isinstance(part, torch.Tensor)]


def _map_tensors(batch: Batch, function: Callable[[torch.Tensor], torch.Tensor]) -> Batch:
    """Return a batch with a function applied to all its tensors."""
    changed: dict[str, Any] = {
        name: function(part) for name, part in batch._asdict().items() if isinstance(part, torch.Tensor)
    }
    return batch._replace(**changed, covariates={key: function(part) for key, part in batch.covariates.items()})
