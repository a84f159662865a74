"""Reading of a checkpoint folder in the layout that the authors of scGPT publish."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from perturbench.errors import PerturbenchError, listing
from perturbench.preprocessing.embeddings.network import ScGPTEncoder

#: Vocabulary, hyperparameters and weights.
FILES = ("vocab.json", "args.json", "best_model.pt")
CLS = "<cls>"
_ARGUMENTS = ("embsize", "nheads", "d_hid", "nlayers")
# Names of attention weights in published checkpoints (through a wrapper, and with FlashAttention), and in torch.
_FLASH_NAMES = {"self_attn._impl.": "self_attn.", "self_attn.Wqkv.": "self_attn.in_proj_"}


@dataclass(frozen=True)
class ScGPTCheckpoint:
    """A published scGPT model.

    Attributes
    ----------
    vocabulary
        Token of each gene symbol and special token.
    pad_token, pad_value
        Token and value that fill up short cells.
    network
        The encoder, in evaluation mode.
    """

    vocabulary: dict[str, int]
    pad_token: int
    pad_value: float
    network: ScGPTEncoder

    @property
    def cls_token(self) -> int:
        """The token whose output is the embedding of the cell."""
        return self.vocabulary[CLS]


def checkpoint_files(folder: str | Path) -> list[Path]:
    """Return the three files of a checkpoint folder.

    Raises
    ------
    PerturbenchError
        If a file is missing.
    """
    paths = [Path(folder) / name for name in FILES]
    if missing := [path.name for path in paths if not path.is_file()]:
        raise PerturbenchError(
            f"scGPT checkpoint folder '{folder}' lacks {listing(missing)}; it needs {listing(FILES)}. Download them "
            "into this folder from 'Pretrained scGPT Model Zoo' at https://github.com/bowang-lab/scGPT (the authors "
            "recommend whole-human, scGPT_human), or set embedding.checkpoint to another folder."
        )
    return paths


def read_checkpoint(folder: str | Path) -> ScGPTCheckpoint:
    """Read a checkpoint folder: ``vocab.json``, ``args.json``, ``best_model.pt``.

    ``vocab.json`` maps gene symbols and special tokens to token numbers. ``args.json`` holds the arguments of the
    training; ``embsize``, ``nheads``, ``d_hid``, ``nlayers``, ``pad_token`` and ``pad_value`` are read.
    ``best_model.pt`` is a state dict; ``encoder``, ``value_encoder`` and ``transformer_encoder`` are read. The query,
    key and value weights are called ``self_attn.Wqkv`` in checkpoints trained with FlashAttention and
    ``self_attn.in_proj`` in others; both hold the same numbers. Source: ``scgpt/tasks/cell_emb.py`` and
    ``load_pretrained`` of ``scgpt/utils/util.py`` in https://github.com/bowang-lab/scGPT.

    Raises
    ------
    PerturbenchError
        If a file is missing or cannot be read, or the files do not fit together.
    """
    vocab_file, args_file, weights_file = checkpoint_files(folder)
    vocabulary, arguments = _read_json(vocab_file), _read_json(args_file)
    _check_arguments(arguments, args_file)
    _check_vocabulary(vocabulary, arguments["pad_token"], vocab_file)
    return ScGPTCheckpoint(
        vocabulary=vocabulary,
        pad_token=vocabulary[arguments["pad_token"]],
        pad_value=float(arguments["pad_value"]),
        network=_read_network(weights_file, arguments, 1 + max(vocabulary.values())),
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise PerturbenchError(f"'{path}' cannot be read as JSON: {error}.") from error
    if not isinstance(content, dict) or not content:
        raise PerturbenchError(f"'{path}' must hold a JSON object with entries, as in the published checkpoints.")
    return content


def _check_arguments(arguments: dict[str, Any], path: Path) -> None:
    if missing := [name for name in (*_ARGUMENTS, "pad_token", "pad_value") if name not in arguments]:
        raise PerturbenchError(f"'{path}' lacks {listing(missing)}, which describe the scGPT network.")
    numbers = {name: arguments[name] for name in _ARGUMENTS}
    if any(not isinstance(number, int) or number < 1 for number in numbers.values()):
        raise PerturbenchError(f"'{path}': {numbers} must be whole numbers of at least 1.")
    if numbers["embsize"] % numbers["nheads"]:
        raise PerturbenchError(
            f"'{path}': embsize {numbers['embsize']} must be a multiple of nheads {numbers['nheads']}."
        )
    if not isinstance(arguments["pad_value"], int | float):
        raise PerturbenchError(f"'{path}': pad_value '{arguments['pad_value']}' must be a number.")


def _check_vocabulary(vocabulary: dict[str, Any], pad_token: str, path: Path) -> None:
    if missing := [name for name in (CLS, pad_token) if name not in vocabulary]:
        raise PerturbenchError(f"'{path}' lacks the special tokens {listing(missing)}.")
    if bad := [name for name, number in vocabulary.items() if not isinstance(number, int) or number < 0]:
        raise PerturbenchError(
            f"'{path}' must give each gene a whole number of at least 0; it does not for {listing(bad)}."
        )


def _read_network(path: Path, arguments: dict[str, Any], n_tokens: int) -> ScGPTEncoder:
    """Return the network in evaluation mode, with the weights of the file."""
    try:
        weights = torch.load(path, weights_only=True, map_location="cpu")
        published = {_torch_name(name): tensor for name, tensor in weights.items()}
    except (pickle.UnpicklingError, RuntimeError, EOFError, AttributeError) as error:
        raise PerturbenchError(
            f"'{path}' cannot be read as a state dict of PyTorch ({type(error).__name__})."
        ) from error
    network = ScGPTEncoder(n_tokens, *(arguments[name] for name in _ARGUMENTS))
    expected = network.state_dict()
    if missing := [name for name in expected if name not in published]:
        raise PerturbenchError(f"'{path}' lacks {len(missing)} of {len(expected)} parameters: {listing(missing, 3)}.")
    wrong_shapes = [
        f"{name} {tuple(published[name].shape)}, expected {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if published[name].shape != tensor.shape
    ]
    if wrong_shapes:
        raise PerturbenchError(
            f"'{path}' does not fit vocab.json and args.json in the same folder: {listing(wrong_shapes, 3)}."
        )
    network.load_state_dict({name: published[name] for name in expected})
    return network.eval().requires_grad_(False)


def _torch_name(name: str) -> str:
    for published, torch_name in _FLASH_NAMES.items():
        name = name.replace(published, torch_name)
    return name
