"""Reads checkpoint files without running code in them, and writes them whole or not at all.

A `.pth` file is a pickle, which can hold code. Only tensors and plain Python values are ever built from it here.
Knows nothing of GLIP's tensors.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from glip.errors import InputError
from glip.files import whole_file

# Training programs store counters and logs of these packages beside the weights. `_Inert` replaces them: their code is
# neither needed nor run. Objects of any other package are refused.
_LOG_PACKAGES = ("mmengine", "mmdet", "mmcv", "numpy")
_MAX_PICKLE_BYTES = 256 << 20  # of names and logs; those of a published checkpoint are less than a megabyte
_MAX_SHOWN = 200  # characters of a reason in a message
_LOG_NAMES = ("_codecs.encode", "argparse.Namespace")


class _Inert:
    """Stand-in for an object of a training log: accepts anything and does nothing."""

    def __new__(cls, *_: object, **__: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __setstate__(self, _: object) -> None:
        pass

    def __setitem__(self, _: object, __: object) -> None:
        pass


def read_state_file(path: Path) -> object:
    """Returns the content of a `.pth` or `.safetensors` file: plain values, dicts, lists and tensors.

    Tensors stay on disk until they are used, if the format allows it.

    Raises:
        InputError: the file is missing, damaged, of another kind, or a pickle that holds code.
    """
    try:
        if not path.is_file():
            raise InputError(f"There is no file {path}.")
        if path.suffix == ".safetensors":
            return load_file(path)
        return _load_pickle(path)
    except InputError:
        raise
    except SafetensorError as error:
        raise InputError(f"{path} is not a complete .safetensors file ({error}); fetch or make it again.") from error
    except pickle.UnpicklingError as error:
        raise InputError(_why_refused(path, str(error))) from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from error
    except Exception as error:  # a damaged file makes the readers raise nearly any error
        reason = next(iter(str(error).splitlines()), "")[:_MAX_SHOWN] or type(error).__name__
        raise InputError(f"{path} is not a complete PyTorch file ({reason}); fetch or make it again.") from error


def _load_pickle(path: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # errors about a damaged file are raised here instead
        return _load_quietly(path)


def _load_quietly(path: Path) -> object:
    is_zip = zipfile.is_zipfile(path)
    stand_ins: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = []
    if is_zip:
        _check_entries(path)
        unsafe = torch.serialization.get_unsafe_globals_in_checkpoint(path)
        if foreign := [name for name in unsafe if not _is_log(name)]:
            raise pickle.UnpicklingError(f"GLOBAL {foreign[0]}")
        stand_ins = [(_Inert, name) for name in unsafe]
    with torch.serialization.safe_globals(stand_ins):
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip or None)


def _check_entries(path: Path) -> None:
    """Refuses archives that PyTorch does not write: with compressed files, or with more bytes than the file has.

    Such archives may unpack to many times their size.
    """
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    if packed := next((entry for entry in entries if entry.compress_type != zipfile.ZIP_STORED), None):
        raise InputError(f"{path} is compressed ({packed.filename[:60]!r}), as no PyTorch file is; save it again.")
    total = sum(entry.file_size for entry in entries)
    if total > size:
        raise InputError(f"{path} claims to hold {total} bytes in {size}; it is damaged. Fetch or make it again.")
    pickled = sum(entry.file_size for entry in entries if entry.filename.endswith(".pkl"))
    if pickled > _MAX_PICKLE_BYTES:
        raise InputError(
            f"{path} holds {pickled} bytes beside its tensors; at most {_MAX_PICKLE_BYTES} are read. Save the state "
            f"dict alone."
        )


def _is_log(name: str) -> bool:
    return name.partition(".")[0] in _LOG_PACKAGES or name in _LOG_NAMES


def _why_refused(path: Path, message: str) -> str:
    if found := re.search(r"GLOBAL (\S+)", message):
        return (
            f"{path} is a pickle that holds code ({found[1]}); the code was not run and the file was not read. "
            "Only tensors and plain values are accepted: save the state dict alone, preferably as .safetensors."
        )
    head = path.open("rb").read(64)
    if head.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the weights; run `git lfs pull` in its repository."
    return (
        f"{path} is not a PyTorch checkpoint, or is damaged. Fetch it again; .pth, .pt and .safetensors are accepted."
    )


def write_state_file(path: Path, content: Mapping[str, object]) -> None:
    """Writes a `.pth` (any content) or `.safetensors` file (tensors only), whole or not at all; the suffix decides.

    Raises:
        JobFailed: the file cannot be written, for instance because the disk is full.
    """
    with whole_file(path) as file:
        if path.suffix == ".safetensors":
            save_tensors(Path(file.name), {name: value for name, value in content.items() if isinstance(value, Tensor)})
            return
        try:
            torch.save(content, file)
        except RuntimeError as error:
            raise OSError(str(error)) from error


def save_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Writes a safetensors file; equal tensors give equal bytes."""
    path.touch()
    mode = path.stat().st_mode
    try:
        # Order and metadata are fixed, so that the file depends on the tensors alone.
        save_file({name: tensors[name].contiguous() for name in sorted(tensors)}, path, metadata={"format": "pt"})
    except SafetensorError as error:
        raise OSError(str(error)) from error
    # The package makes files that only their owner can read; a model folder should be readable like any other.
    path.chmod(mode)
