"""Speed and memory of loading and training, each against plain PyTorch in the same run.

Run ``python benchmarks/training.py`` (all rows but ``fit``) or name some. The rows ``step`` and ``fit`` are of models,
by the names of their YAML files: those that are trained, if none is named. ``--env gpu`` runs on a GPU::

    python benchmarks/training.py loader epoch_256 epoch_4096
    python benchmarks/training.py step --models cpa,sams_vae
    python benchmarks/training.py fit --env gpu --hyperparameters published
    python benchmarks/training.py fit --cells 5000 --genes 1000 --epochs 2 --models latent_additive

Ours and the baseline take turns, so that what else the machine does meets both; seconds are medians.
"""

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import pandas as pd
import scipy.sparse as sp

ROOT = Path(__file__).parents[1]
N_STEPS = 16


def screen(n_cells, n_genes, n_perturbations=100, density=0.1, n_embedding=0):
    """Cells of two states in CSR, and a split of them that trains on all but 1,024."""
    import anndata as ad

    rng = np.random.default_rng(0)
    blocks = []
    for start in range(0, n_cells, 5000):
        mask = rng.random((min(5000, n_cells - start), n_genes), dtype=np.float32) < density
        block = sp.csr_matrix(mask, dtype=np.float32)
        block.data[:] = 4 * rng.random(block.nnz, dtype=np.float32)
        blocks.append(block)
    names = np.array(["control", *(f"P{i}" for i in range(n_perturbations))])
    condition = names[np.where(rng.random(n_cells) < 0.1, 0, rng.integers(0, len(names), n_cells))]
    part = np.full(n_cells, "train")
    part[:512], part[512:1024] = "val", "test"
    obs = pd.DataFrame({"condition": condition, "cell_type": rng.choice(["a", "b"], n_cells)})
    obs.index = obs.index.astype(str)
    embeddings = {"X_scgpt": rng.random((n_cells, n_embedding), dtype=np.float32)}
    return ad.AnnData(sp.vstack(blocks, format="csr"), obs=obs, obsm=embeddings), pd.Series(part, obs.index)


def parameters_of(model, env, **choices):
    """Return the parameters of a run of the model."""
    from kedro.framework.project import configure_project, settings

    configure_project("perturbench")
    arguments = settings.CONFIG_LOADER_ARGS
    # One precision for all models and for the baselines; the published settings ask for several.
    trainer = {"precision": "bf16-mixed" if env == "gpu" else "32-true"}
    runtime = {"model": model, "trainer": trainer, **choices}
    loader = settings.CONFIG_LOADER_CLASS(str(ROOT / "conf"), env, runtime, **arguments)
    return loader["parameters"]


def make_module(cells, split, **options):
    from perturbench.data import Keys, PerturbationDataModule

    return PerturbationDataModule(cells, split, Keys(), **options)


def make_model(parameters, context, **changes):
    """Return a new model; without a warm-up, whose steps are cheaper."""
    import lightning as L

    from perturbench.training.checkpoints import build_model

    if "n_warmup_epochs" in parameters["hparams"]:
        changes["n_warmup_epochs"] = 0
    L.seed_everything(0, verbose=False)
    return build_model(parameters["model_target"], context, parameters["hparams"] | changes)


def device_of(parameters):
    return "cuda" if parameters["trainer"]["accelerator"] in ("gpu", "cuda") else "cpu"


def clock():
    """Return the time at which all work given to the device is done."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def taking_turns(module, model, baseline, parameters, *, each, times, period=1):
    """Train with ``fit``; return the seconds of an epoch or step of ours, and of calls to the baseline.

    Medians over rounds of ``period`` turns, without the first: a model may have steps of several kinds.
    """
    from lightning.pytorch.callbacks import Callback

    from perturbench.training.fitting import fit

    ours, theirs = [], []

    class Turns(Callback):
        def turn(self):
            ours.append(clock() - self.mark)
            start = clock()
            baseline(len(theirs))
            theirs.append(clock() - start)
            self.mark = clock()

        def on_train_start(self, trainer, pl_module):
            self.mark = clock()

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if each == "step":
                self.turn()

        def on_train_epoch_start(self, trainer, pl_module):
            if each == "epoch" and trainer.current_epoch:
                self.turn()

    trainer = {key: parameters["trainer"][key] for key in ("accelerator", "precision")}
    epochs = times + 2 if each == "epoch" else 1  # a turn is taken when the next epoch starts; the first warms up
    fit(model, module, max_epochs=epochs, callbacks=[Turns()], **trainer)
    rounds = len(ours) // period
    return [
        float(np.median(np.reshape(seconds[: rounds * period], (rounds, period)).mean(axis=1)[1:]))
        for seconds in (ours, theirs)
    ]


def loader(options):
    """Shuffled training batches with matched controls, against a gather of as many cells from dense tensors."""
    import anndata  # noqa: F401
    import lightning  # noqa: F401  its memory is not the loader's
    import psutil
    import torch

    libraries = psutil.Process().memory_info().rss
    module = make_module(*screen(50_000, 4000), batch_size=4096)
    batches = module.train_dataloader()
    n_cells, csr = len(module.rows["train"]), module.cells.x
    before, peak, ours, theirs = None, 0, [], []
    for epoch in range(6):
        batches.sampler.set_epoch(epoch)
        start = time.perf_counter()
        for batch in batches:
            peak = max(peak, psutil.Process().memory_info().rss)
            before = batch  # as a loop that still holds a batch while the next is made
        ours.append(time.perf_counter() - start)
    del before, batch
    dense = torch.from_numpy(csr.toarray())
    for _ in range(6):
        start = time.perf_counter()
        for chosen in torch.randperm(n_cells).split(4096):
            _ = dense[chosen], dense[chosen.flip(0)]
        theirs.append(time.perf_counter() - start)
    size = csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes
    seconds, baseline = np.median(ours), np.median(theirs)
    memory = f"the CSR matrix + {(peak - size) / 2**20:.0f} MiB resident, {libraries / 2**20:.0f} of it the libraries"
    yield "loader", seconds, baseline, 1.1, f"{n_cells / seconds:,.0f} cells/s; {memory}"


def epoch(options, batch_size):
    """Time an epoch of latent additive, validation and checkpoint included, against a bare loop without either."""
    import torch
    from torch.nn import functional as F

    parameters = parameters_of("latent_additive", options.env)
    device = device_of(parameters)
    module = make_module(*screen(50_000, 4000), batch_size=batch_size)
    model, net = (make_model(parameters, module.context, encoder_width=512) for _ in range(2))
    cells = module.observed("train")[:]
    parts = [part.to(device) for part in (cells.gene_expression, cells.controls, cells.perturbations)]
    net.to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-8, fused=True)

    def bare(_):
        for chosen in torch.randperm(len(parts[0]), device=device).split(batch_size):
            x, control, hot = (part[chosen] for part in parts)
            with torch.autocast(device, torch.bfloat16, enabled="bf16" in parameters["trainer"]["precision"]):
                latent = net.cell_encoder(control) + net.perturbation_encoder(hot)
                loss = F.mse_loss(F.softplus(net.decoder(latent)), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    seconds, baseline = taking_turns(module, model, bare, parameters, each="epoch", times=3)
    yield f"epoch_{batch_size}", seconds, baseline, 1.1, f"{len(parts[0]) / seconds:,.0f} cells/s"


def trained_models(options):
    """Yield the names and parameters of the models asked for; closed-form ones have no steps."""
    from importlib import import_module

    for name in options.models or sorted(path.stem for path in (ROOT / "conf/base/parameters/models").glob("*.yml")):
        parameters = parameters_of(name, options.env)
        module, _, target = parameters["model_target"].rpartition(".")
        if not getattr(import_module(module), target).closed_form:
            yield name, parameters


def step(options):
    """Time a step through the trainer, against forward, backward and optimizer of the same model on the same batch."""
    from torch.utils.data import DataLoader

    from perturbench.data.loading.indices import BatchIndex

    cells, split = screen(options.cells, options.genes, n_embedding=512)
    for name, parameters in trained_models(options):
        size = options.batch_size or 256
        module = make_module(cells, split, batch_size=size, embedding_key=parameters["data"]["embedding_key"])
        dataset = module.observed("train")
        batch = dataset[np.arange(size)]
        batch = module.transfer_batch_to_device(batch, device_of(parameters), 0)
        dataset._batch = lambda positions, seed, batch=batch: batch
        batches = DataLoader(dataset, None, sampler=[BatchIndex(np.zeros(1), 0)] * N_STEPS, collate_fn=lambda one: one)
        module.train_dataloader = lambda batches=batches: batches
        model, twin = (make_model(parameters, module.context) for _ in range(2))
        bare, period = by_hand(twin.to(device_of(parameters)), batch, parameters["trainer"]["precision"])
        seconds, baseline = taking_turns(module, model, bare, parameters, each="step", times=N_STEPS, period=period)
        yield f"step {name}", seconds, baseline, 1.2, f"{size / seconds:,.0f} cells/s"


def by_hand(model, batch, precision):
    """Return a function that trains the model with its own losses, without the trainer, and how many it has."""
    import torch

    from perturbench.models.loss_terms import named_terms

    configured = model.configure_optimizers()
    configured = configured if isinstance(configured, tuple) else (configured,)
    optimizers = [entry["optimizer"] for entry in configured]
    # A model that steps its optimizers itself has two losses, of which it chooses by the batch.
    losses = [model.loss]
    if len(optimizers) > 1:
        losses = [model.generator_loss] + [model.adversary_loss] * (model.adv_steps - 1)

    def one_step(index):
        which = index % len(losses)
        with torch.autocast(batch.perturbations.device.type, torch.bfloat16, enabled="bf16" in precision):
            loss = named_terms(losses[which](batch))["loss"]
        optimizer = optimizers[min(which, 1)]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return one_step, len(losses)


def published_parameters(options):
    """Yield the names and parameters of the models asked for, with the hyperparameters that the options choose."""
    from perturbench.errors import PerturbenchError

    for name, _ in trained_models(options):
        if name == "gears":  # needs genes that its annotation has
            continue
        try:
            yield name, parameters_of(name, options.env, task=options.task, hyperparameters=options.hyperparameters)
        except PerturbenchError as error:
            print(f"{name:24} left out: {error}")


def whole_fit(options):
    """Print what a training costs: epochs with validation and saving, steps alone, and a search of 60 trials.

    "Steps alone" are forward, backward and optimizer on one batch that stays on the device, prepared like those of the
    training (CUDA graphs, compiled), times the batches of an epoch. Closed-form models and GEARS are left out.
    """
    columns = ("epoch s", "steps s", "share", "cells/s", "TFLOP/s", "peak GB", "start s", "60 x 150 epochs")
    cells, split = screen(options.cells, options.genes, options.perturbations, n_embedding=512)
    print(
        f"{options.cells} cells x {options.genes} genes, {options.perturbations} perturbations, {device_name(options)}"
    )
    print(f"{'model':24} {'batch':>6} {'parameters':>10} " + " ".join(f"{column:>9}" for column in columns))
    for name, parameters in published_parameters(options):
        trainer = {key: parameters["trainer"][key] for key in ("accelerator", "precision", "compile")}
        if options.compile is not None:
            trainer["compile"] = {"true": True, "false": False}.get(options.compile, options.compile)
        module = make_module(
            cells,
            split,
            batch_size=options.batch_size or parameters["trainer"]["batch_size"],
            embedding_key=parameters["data"]["embedding_key"],
            preload_to_device=parameters["trainer"]["preload_to_device"],
        )
        model = make_model(parameters, module.context)
        seconds, start, peak = timed_epochs(model, module, trainer, options.epochs)
        steps, flops = timed_steps(make_model(parameters, module.context), module, trainer)
        n_steps = -(-len(module.rows["train"]) // module.batch_size)
        figures = (
            f"{seconds:9.3f} {n_steps * steps:9.3f} {n_steps * steps / seconds:9.0%} "
            f"{len(module.rows['train']) / seconds:9,.0f} {n_steps * flops / seconds / 1e12:9.1f} {peak:9.1f} "
            f"{start:9.1f} {60 * (150 * seconds + start) / 3600:13.2f} h"
        )
        size = sum(weight.numel() for weight in model.parameters()) / 1e6
        print(f"{name:24} {module.batch_size:6d} {size:8.1f} M {figures}", flush=True)
    return ()


def device_name(options):
    import torch

    on_gpu = torch.cuda.is_available() and device_of(parameters_of("linear_additive", options.env)) == "cuda"
    return torch.cuda.get_device_name() if on_gpu else f"CPU with {torch.get_num_threads()} threads"


def timed_epochs(model, module, trainer, n_epochs):
    """Train; return the median seconds of later epochs, the seconds that starting took, and peak memory in GB."""
    import torch
    from lightning.pytorch.callbacks import Callback

    from perturbench.training import fit

    marks = []

    class Clock(Callback):
        def on_train_start(self, trainer, pl_module):
            trainer.early_stopping_callback.patience = trainer.max_epochs

        def on_train_epoch_start(self, trainer, pl_module):
            marks.append(clock())

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    begin = clock()
    fit(model, module, max_epochs=n_epochs + 1, min_epochs=1, callbacks=[Clock()], **trainer)
    whole = clock() - begin
    epochs = np.diff(marks)
    peak = torch.cuda.max_memory_allocated() / 1e9 if torch.cuda.is_available() else float("nan")
    later = float(np.median(epochs[len(epochs) // 2 :]))
    return later, whole - later * (n_epochs + 1), peak


def timed_steps(model, module, trainer):
    """Return the seconds of a step on a batch that stays on the device, and its floating point operations."""
    from torch.utils.flop_counter import FlopCounterMode

    from perturbench.training import fit

    seconds, flops = [], []

    class Repeat(Exception):
        pass

    def training_step(batch, batch_idx):
        step = type(model).training_step
        if batch_idx == 0:
            with FlopCounterMode(display=False) as counter:
                step(model, batch, 0)
            flops.append(counter.get_total_flops())
            return
        for index in range(1, 6):
            step(model, batch, index)
        n_steps = max(4, 4 * getattr(model, "adv_steps", 1))
        for _ in range(5):
            start = clock()
            for index in range(n_steps):
                step(model, batch, index)
            seconds.append((clock() - start) / n_steps)
        raise Repeat

    model.step_by_itself()
    model.training_step = training_step
    try:
        fit(model, module, max_epochs=1, **trainer)
    except Repeat:
        pass
    return float(np.median(seconds)), flops[0]


ROWS = {
    "loader": loader,
    "epoch_256": lambda options: epoch(options, 256),
    "epoch_4096": lambda options: epoch(options, 4096),
    "step": step,
    "fit": whole_fit,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--env", help="an environment of conf/, for example gpu")
    parser.add_argument("--models", type=lambda names: names.split(","), help="for step and fit")
    parser.add_argument("--cells", type=int, default=91_000, help="for step and fit")
    parser.add_argument("--genes", type=int, default=5000, help="for step and fit")
    parser.add_argument("--perturbations", type=int, default=236, help="for fit")
    parser.add_argument("--batch-size", type=int, help="for step (default 256) and fit (default: the model's)")
    parser.add_argument("--epochs", type=int, default=8, help="for fit")
    parser.add_argument("--task", default="norman19", help="for fit: whose hyperparameters and batch size")
    parser.add_argument("--hyperparameters", default="defaults", choices=("defaults", "published"), help="for fit")
    parser.add_argument("--compile", choices=("auto", "true", "false"), help="for fit, in place of the configured one")
    options = parser.parse_args()
    if unknown := set(options.rows) - set(ROWS):
        parser.error(f"unknown rows: {', '.join(unknown)}; there are: {', '.join(ROWS)}")
    logging.getLogger("perturbench").setLevel(logging.WARNING)
    print(f"{'work':28} {'seconds':>9} {'baseline':>9} {'ratio':>6} {'limit':>6}")
    for row in options.rows or [row for row in ROWS if row != "fit"]:
        for name, seconds, baseline, limit, note in ROWS[row](options):
            print(
                f"{name:28} {seconds:9.4f} {baseline:9.4f} {seconds / baseline:6.2f} {limit:6.2f}  {note}", flush=True
            )


if __name__ == "__main__":
    main()
