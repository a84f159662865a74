"""``CheckpointDataset``: Lightning checkpoints in the catalog."""

from __future__ import annotations

from typing import Any

from kedro_datasets._typing import JSONPreview

from perturbench.datasets.local_file import LocalFileDataset


class CheckpointDataset(LocalFileDataset):
    """Load and save a Lightning checkpoint, a dict of plain values and tensors.

    Loaded with ``weights_only=True``: a checkpoint from elsewhere cannot run code.
    """

    def _read(self, path: str) -> dict[str, Any]:
        import torch

        return torch.load(path, weights_only=True, map_location="cpu", **self._load_args)

    def _write(self, data: dict[str, Any], path: str) -> None:
        import torch

        torch.save(data, path, **self._save_args)

    def preview(self) -> JSONPreview:
        """Return the model, provenance, epoch and size of the checkpoint, without its weights."""
        import json

        checkpoint = self.load()
        facts = {
            "model": checkpoint.get("perturbench_model", {}).get("target"),
            "made by": checkpoint.get("perturbench"),
            "epoch": checkpoint.get("epoch"),
            "parameters": sum(tensor.numel() for tensor in checkpoint.get("state_dict", {}).values()),
        }
        return JSONPreview(json.dumps(facts, default=str))
