"""Reading weight files from outside: data only, never code, and every tensor accounted for."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from urfm.errors import UrfmError
from urfm.files import sha256


def check_sha256(path: Path, expected: str | None) -> str:
    """SHA-256 of a weight file; an UrfmError if another was `expected`."""
    found = sha256(path)
    if expected is not None and found != expected:
        raise UrfmError(
            f"{path}: sha256 is {found}, the configuration expects {expected}; "
            "it is another version or an incomplete download: fetch it again, or change `sha256`"
        )
    return found


def read_weights(path: Path) -> dict[str, Any]:
    """Content of a safetensors or PyTorch file, on the CPU. Pickles that hold anything but data are refused."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if _is_torchscript(path):
            raise UrfmError(
                f"{path}: a TorchScript archive, which holds a program and is not opened; take the same weights as "
                "safetensors (for OpenAI's ViT-B-16.pt: open_clip_model.safetensors of "
                "timm/vit_base_patch16_clip_224.openai on Hugging Face)"
            )
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UrfmError:
        raise
    except (SafetensorError, OSError, Exception) as error:  # a damaged pickle can raise nearly anything
        raise UrfmError(
            f"{path}: not a readable weight file ({type(error).__name__}: {str(error).splitlines()[0][:200]}); "
            "fetch it again; a file that needs pickled objects is refused, convert it to safetensors"
        ) from error
    if not isinstance(content, dict):
        raise UrfmError(f"{path}: holds a {type(content).__name__}, a dictionary of tensors is needed")
    return content


def _is_torchscript(path: Path) -> bool:
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def load_strictly(model: nn.Module, weights: dict[str, Tensor], path: Path) -> None:
    """Load `weights` into `model`; names and shapes must agree exactly, or an UrfmError says which do not."""
    own = model.state_dict()
    missing = sorted(own.keys() - weights.keys())
    unexpected = sorted(weights.keys() - own.keys())
    shapes = [
        f"{name} is {tuple(weights[name].shape)}, needed {tuple(own[name].shape)}"
        for name in sorted(own.keys() & weights.keys())
        if weights[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names)} {label} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for label, names in (("missing", missing), ("not expected", unexpected), ("of another shape", shapes))
        if names
    ]
    if problems:
        raise UrfmError(f"{path}: its tensors do not fit {type(model).__name__}: {'; '.join(problems)}")
    model.load_state_dict(weights, strict=True)
