"""Weight files: read as data, never as code, loaded with every tensor accounted for; written whole and finite."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import nn

from urfm.core.errors import UrfmError
from urfm.core.files import atomic_path, sha256

Tensors = dict[str, torch.Tensor]


class Checkpoint(NamedTuple):
    """What a file holds: tensors under timm's names, and the upstream names of those left out on purpose."""

    tensors: Tensors
    dropped: list[str]


def check_sha256(path: Path, expected: str | None) -> str:
    """SHA-256 of a weight file; an UrfmError if there is none, or another was `expected`."""
    _require(path)
    found = sha256(path)
    if expected and found != expected:
        raise UrfmError(
            f"{path}: sha256 is {found}, the configuration expects {expected}; "
            "it is another version or an incomplete download: fetch it again, or change `sha256`"
        )
    return found


def write_file(path: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Write a `.safetensors` file; an UrfmError for values that are not finite, which nobody could use."""
    broken = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if broken:
        raise UrfmError(
            f"{path}: {len(broken)} of {len(tensors)} tensors hold values that are not finite ({some(broken)}): "
            "training has diverged, or they are too large for their type; nothing was written. Lower base_lr, or use "
            "precision fp32 or bf16"
        )
    with atomic_path(path, sum(tensor.nbytes for tensor in tensors.values())) as temporary:
        safetensors.torch.save_file(dict(tensors), temporary, metadata={"format": "pt"})


def _require(path: Path) -> None:
    if not path.is_file():
        raise UrfmError(f"{path}: no such file; put the weights there, or correct `file`")


def read_file(path: Path, allowed: tuple[type, ...] = ()) -> Any:
    """The content of a `.safetensors` file, or of anything `torch.save` wrote, on the CPU.

    Pickles are loaded with `weights_only=True`: tensors, plain containers and the classes in `allowed` (those that a
    format is known to carry, and that only hold data) are all that a file can make. Zip archives, torch's form since
    1.6, are memory-mapped, so that of a file of several gigabytes only what is used is read; their checksums are
    verified first. Whatever is wrong with the file is an UrfmError that names it and the reason.
    """
    _require(path)
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        archive = zipfile.is_zipfile(path)
        if archive:
            _check_archive(path)
        with torch.serialization.safe_globals(list(allowed)):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except UrfmError:
        raise
    except Exception as error:  # a damaged file makes torch raise almost anything: RuntimeError, EOFError, KeyError, …
        # Of torch's long advice, which ends in running the file, only what was found.
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(". Please use")[0]
        reason = " ".join(reason.split())[:300]
        raise UrfmError(
            f"{path}: cannot be read as weights: it is damaged, incomplete, or holds more than tensors, which is "
            f"never executed here ({type(error).__name__}: {reason}). Get the file again and compare its sha256; if "
            "you trust whoever made it, save its tensors alone as safetensors"
        ) from error


def _check_archive(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise UrfmError(
                f"{path}: a TorchScript archive, which holds a program and is not opened; take the same weights as "
                "safetensors (for OpenAI's ViT-B-16.pt: open_clip_model.safetensors of "
                "timm/vit_base_patch16_clip_224.openai on Hugging Face)"
            )
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise UrfmError(f"{path}: would unpack to more than its own size, which torch.save never writes; refused")
        if (damaged := archive.testzip()) is not None:
            raise UrfmError(f"{path}: damaged, the checksum of {damaged} in it does not agree; get the file again")


def tensors_in(content: Any, path: Path) -> Tensors:
    """`content` as names with finite tensors, prefixes of wrappers stripped and 16-bit floats made 32-bit."""
    if not isinstance(content, Mapping) or not content:
        raise UrfmError(f"{path}: expected names with tensors; {found(content)}")
    tensors: Tensors = {}
    for name, tensor in content.items():
        if not isinstance(tensor, torch.Tensor) or tensor.layout != torch.strided:
            raise UrfmError(f"{path}: expected a tensor as {name!r}, found {type(tensor).__name__}; {found(content)}")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise UrfmError(f"{path}: {name!r} claims {list(tensor.shape)} values and holds fewer; get the file again")
        if tensor.is_floating_point():
            tensor = tensor.float()
            if not tensor.isfinite().all():
                raise UrfmError(f"{path}: {name!r} holds values that are not finite; get the file again")
        tensors[str(name)] = tensor.contiguous()
    for prefix in ("module.", "model."):
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}
    return tensors


def without(tensors: Tensors, pattern: str) -> Checkpoint:
    """`tensors` without those whose name begins with a match of `pattern`, a regular expression."""
    dropped = {name for name in tensors if re.match(pattern, name)}
    return Checkpoint({name: tensors[name] for name in tensors if name not in dropped}, sorted(dropped))


def found(content: Any) -> str:
    """What a file holds instead of what was expected, for a message."""
    if not isinstance(content, Mapping):
        return f"found {type(content).__name__}"
    return f"found {len(content)} entries: {some([str(name) for name in content], 5)}"


def some(names: list[str], most: int = 8) -> str:
    """The first `most` names, and how many more there are."""
    return ", ".join(names[:most]) + (f", … ({len(names) - most} more)" if len(names) > most else "")


def load_strictly(
    model: nn.Module,
    tensors: Tensors,
    source: str | Path,
    *,
    may_be_new: tuple[str, ...] = (),
    may_be_left: tuple[str, ...] = (),
    assign: bool = False,
) -> None:
    """Load `tensors` into `model`: names and shapes must agree, or an UrfmError says which do not.

    Names that begin with `may_be_new` may be missing (the model keeps its own), those that begin with `may_be_left`
    are not used. With `assign` the model takes the tensors themselves instead of copying their values.
    """
    expected = model.state_dict()
    missing = [name for name in expected if name not in tensors and not name.startswith(may_be_new)]
    unknown = [name for name in tensors if name not in expected and not name.startswith(may_be_left)]
    shapes = [
        f"{name} {list(tensors[name].shape)} instead of {list(expected[name].shape)}"
        for name in expected
        if name in tensors and tensors[name].shape != expected[name].shape
    ]
    problems = {"missing": missing, "not known to the architecture": unknown, "of another shape": shapes}
    if any(problems.values()):
        raise UrfmError(
            f"{source}: does not fit {type(model).__name__}; "
            + "; ".join(f"{len(names)} tensors {what}: {some(names)}" for what, names in problems.items() if names)
            + ". Choose the architecture and format that the file was written for"
        )
    model.load_state_dict({name: tensors.get(name, tensor) for name, tensor in expected.items()}, assign=assign)
