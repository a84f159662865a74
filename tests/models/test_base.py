import numpy as np


def test_trainer_test_takes_metrics_of_cells(screen, keys):
    import lightning as L

    from perturbench.data import PerturbationDataModule
    from perturbench.data.splits import SplitRules, split_cells
    from perturbench.models import Control
    from perturbench.preprocessing.preparation import prepare
    from perturbench.training import fit

    cells = prepare(screen, keys)
    module = PerturbationDataModule(cells, split_cells(cells.obs, keys, "transfer", SplitRules(), 0), keys)
    model = Control(module.context)
    fit(model, module, accelerator="cpu")
    model.test_metrics = ["rmse_average", "energy_pca"]
    L.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False).test(model, module, verbose=False)
    energy = model.test_scores.query("metric == 'energy_pca'")["value"]
    assert np.isfinite(energy).all() and len(energy) == len(module.pairs("test"))
