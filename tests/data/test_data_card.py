import json

import numpy as np

from perturbench.data import data_card as module
from perturbench.data.data_card import data_card


def test_card_counts_cells_perturbations_and_states(screen, keys, monkeypatch):
    monkeypatch.setattr(module, "_ROWS", 170)
    card = data_card(screen, keys, {"citation": "Doe 2024"})
    x = screen.X.toarray()
    assert json.loads(json.dumps(card)) == card
    assert card["citation"] == "Doe 2024"
    assert (card["cells"], card["genes"]) == screen.shape
    assert (card["perturbations"], card["singles"], card["combinations"]) == (12, 8, 4)
    assert card["counts per cell (median)"] == np.median(x.sum(axis=1))
    assert card["genes per cell (median)"] == np.median((x > 0).sum(axis=1))
    assert card["density"] == round((x > 0).mean(), 4)
    control = screen.obs["condition"] == "control"
    assert card["control cells"] == control.sum()
    for row in card["states"]:
        state = screen.obs["cell_type"] == row["cell_type"]
        assert (row["cells"], row["controls"]) == (state.sum(), (state & control).sum())
        assert row["perturbations"] == 12


def test_fingerprint_changes_with_the_counts(screen, keys):
    before = data_card(screen, keys, {})["fingerprint"]
    screen.X.data[0] += 1
    assert data_card(screen, keys, {})["fingerprint"] != before
