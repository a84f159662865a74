"""The precision of a training on the machine that it runs on."""

import pytest
import torch

from perturbench.training.trainer import training_precision


@pytest.mark.parametrize(
    ("precision", "accelerator", "cuda", "expected"),
    [
        ("auto", "cpu", True, "32-true"),
        ("auto", "auto", False, "32-true"),
        ("auto", "auto", True, "bf16-mixed"),
        ("auto", "gpu", True, "bf16-mixed"),
        ("16-mixed", "gpu", True, "16-mixed"),
        ("16-mixed", "auto", False, "32-true"),
        ("32-true", "gpu", True, "32-true"),
        ("bf16-mixed", "cpu", False, "bf16-mixed"),
    ],
)
def test_precision(monkeypatch, precision, accelerator, cuda, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    assert training_precision(precision, accelerator) == expected
