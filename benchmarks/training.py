"""Speed and memory of loading and training, each against a plain PyTorch loop in the same run.

Run ``python benchmarks/training.py`` (all rows) or name some: ``python benchmarks/training.py loader epoch_256``. The
rows ``step`` and ``fit`` take models by the names of their YAML files, all that are trained if none is named::

    python benchmarks/training.py step --models latent_additive,decoder_only
    python benchmarks/training.py step fit --device cuda --precision bf16-mixed --epochs 100
    python benchmarks/training.py fit --cells 5000 --genes 1000 --epochs 2

Ours and the baseline take turns, so that what else the machine does meets both; seconds are medians.
"""

import argparse
import gc
import logging
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import scipy.sparse as sp

MODELS = Path(__file__).parents[1] / "conf/base/parameters/models"
PAPER_BATCH = 4096


def screen(n_cells, n_genes, n_perturbations=100, density=0.1, seed=0):
    """Cells of two states in CSR, and a split of them that trains on all but 1,024."""
    import anndata as ad

    rng = np.random.default_rng(seed)
    blocks = []
    for start in range(0, n_cells, 5000):
        mask = rng.random((min(5000, n_cells - start), n_genes), dtype=np.float32) < density
        block = sp.csr_matrix(mask, dtype=np.float32)
        block.data[:] = rng.random(block.nnz, dtype=np.float32) * 4
        blocks.append(block)
    names = np.array(["control", *(f"P{i}" for i in range(n_perturbations))])
    condition = names[np.where(rng.random(n_cells) < 0.1, 0, rng.integers(0, len(names), n_cells))]
    part = np.full(n_cells, "train")
    part[:512], part[512:1024] = "val", "test"
    obs = pd.DataFrame(
        {"condition": condition, "cell_type": rng.choice(["a", "b"], n_cells)}, np.arange(n_cells).astype(str)
    )
    return ad.AnnData(sp.vstack(blocks, format="csr"), obs=obs), pd.Series(part, obs.index)


def make_module(n_cells, n_genes, **options):
    from perturbench.data import Keys, PerturbationDataModule

    return PerturbationDataModule(*screen(n_cells, n_genes), Keys(), **options)


def make_model(name, context, **changes):
    """Return a new model with the defaults of its YAML file; of a trained model without warm-up."""
    import lightning as L
    import yaml

    from perturbench.models.training import build_model

    entry = yaml.safe_load((MODELS / f"{name}.yml").read_text())["models"][name]
    if "n_warmup_epochs" in entry["defaults"]:
        changes["n_warmup_epochs"] = 0
    L.seed_everything(0, verbose=False)
    return build_model(entry["target"], context, entry["defaults"] | changes)


def clock(device):
    """Return the time at which all work given to the device is done."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return time.perf_counter()


def taking_turns(module, model, baseline, device, *, each, times, epochs=1, **options):
    """Train with ``fit``; return the median seconds of an epoch or step of ours, and of calls to the baseline."""
    from lightning.pytorch.callbacks import Callback

    from perturbench.models.training import fit

    ours, theirs = [], []

    class Turns(Callback):
        def turn(self):
            if len(ours) <= times:
                ours.append(clock(device) - self.mark)
                start = clock(device)
                baseline()
                theirs.append(clock(device) - start)
            self.mark = clock(device)

        def on_train_start(self, trainer, pl_module):
            self.mark = clock(device)

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if each == "step":
                self.turn()

        def on_train_epoch_start(self, trainer, pl_module):
            if each == "epoch" and trainer.current_epoch:
                self.turn()

        def on_fit_end(self, trainer, pl_module):
            if each == "epoch":
                self.turn()

    accelerator = "gpu" if device == "cuda" else device
    fit(model, module, max_epochs=epochs, accelerator=accelerator, callbacks=[Turns()], **options)
    return np.median(ours[1:]), np.median(theirs[1:])


def loader(options):
    """Shuffled training batches with matched controls, against a gather of the same cells from dense tensors."""
    import psutil
    import torch

    process = psutil.Process()
    libraries = process.memory_info().rss
    module = make_module(50_000, 4000, batch_size=PAPER_BATCH)
    batches = module.train_dataloader()
    n_cells, csr, peak, ours, theirs = len(module.rows["train"]), module.cells.x, 0, [], []
    gc.collect()
    for epoch in range(6):
        batches.sampler.set_epoch(epoch)
        start = time.perf_counter()
        for _batch in batches:
            peak = max(peak, process.memory_info().rss)
        ours.append(time.perf_counter() - start)
    dense, controls = torch.from_numpy(csr.toarray()), torch.from_numpy(module.observed("train")._match(module.rows["train"], 0))
    for _ in range(6):
        start = time.perf_counter()
        for chosen in torch.randperm(n_cells).split(PAPER_BATCH):
            _batch = dense[chosen], dense[controls[chosen]]
        theirs.append(time.perf_counter() - start)
    size = (csr.data.nbytes + csr.indices.nbytes + csr.indptr.nbytes) / 2**20
    memory = f"{(peak - libraries) / 2**20:.0f} MiB resident, libraries not counted, of which CSR {size:.0f}"
    seconds, baseline = np.median(ours[1:]), np.median(theirs[1:])
    yield "loader", seconds, baseline, 1.1, f"{n_cells / seconds:,.0f} cells/s; {memory}"


def epoch(options, batch_size):
    """An epoch of latent additive, validation and checkpoint included, against a bare loop without either."""
    import torch
    from torch.nn import functional as F

    module = make_module(50_000, 4000, batch_size=batch_size)
    model, net = (make_model("latent_additive", module.context, encoder_width=512) for _ in range(2))
    data = module.observed("train")
    cells = data[:]
    observed, controls, perturbations = cells.gene_expression, cells.controls, cells.perturbations
    net.to(options.device).train()
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, weight_decay=1e-8, fused=True)

    def bare():
        for chosen in torch.randperm(len(observed)).split(batch_size):
            x, control, hot = (part[chosen].to(options.device) for part in (observed, controls, perturbations))
            loss = F.mse_loss(F.softplus(net.decoder(net.cell_encoder(control) + net.perturbation_encoder(hot))), x)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    turns = {"each": "epoch", "times": options.epochs, "epochs": options.epochs + 1}
    seconds, baseline = taking_turns(module, model, bare, options.device, **turns)
    yield f"epoch_{batch_size}", seconds, baseline, 1.1, f"{len(observed) / seconds:,.0f} cells/s"


ROWS = {
    "loader": loader,
    "epoch_256": lambda options: epoch(options, 256),
    "epoch_4096": lambda options: epoch(options, 4096),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    logging.getLogger("lightning").setLevel(logging.ERROR)
    for row in options.rows or ROWS:
        for name, seconds, baseline, limit, note in ROWS[row](options):
            print(f"{name:24} {seconds:9.4f} {baseline:9.4f} {seconds / baseline:6.2f} {limit:6.2f}  {note}", flush=True)


if __name__ == "__main__":
    main()
