"""Finds models and adapters without reading their tensors, so that a wrong name is refused before torch is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from glip.errors import InputError, JobFailed
from glip.weights.cache import Fetching, cache_home, model_path, ways_out
from glip.weights.tensor_names import Layout
from glip.weights.zoo import EMBEDDED, EMBEDDED_FOLDER, ZOO, UnknownCheckpoint

MODEL_FILE, ADAPTER_FILE = "model.safetensors", "adapter.safetensors"
STATE_SUFFIXES = (".pth", ".pt", ".bin", ".ckpt", ".safetensors")


def check_model(name_or_path: str | Path, *, offline: bool = False, adapter: Path | None = None) -> None:
    """Refuses a model or an adapter that is not there.

    Args:
        name_or_path: as for `open_model`.
        offline: whether downloads are switched off.
        adapter: an adapter file; None for none.

    Raises:
        UnknownCheckpoint: neither a checkpoint nor a path has this name.
        InputError: the adapter is missing.
        JobFailed: the checkpoint is not on this machine and may not be downloaded.
    """
    name = str(name_or_path)
    if adapter is not None and not exists(adapter):
        raise InputError(f"Cannot read the adapter {adapter}: there is no such file.")
    if name in ZOO:
        row = ZOO[name]
        here = exists(model_path(name)) or exists(cache_home() / "downloads" / row.file_name)
        if not here and not Fetching(offline).is_allowed:
            what = f"The checkpoint {name} ({row.file_name})"
            raise JobFailed(f"{what} is not on this machine, and downloads are switched off. {ways_out()}")
    elif name != EMBEDDED and not exists(Path(name)):
        raise UnknownCheckpoint(name)


def find_adapter(path: Path) -> Path:
    """Returns an adapter file: the path itself, or the best one below a run folder of `glip finetune`.

    The best has the highest AP on its validation images; several data sets or modes in one folder are not told apart.

    Raises:
        InputError: there is no adapter.
    """
    path = path.expanduser()
    if path.is_dir():
        found = sorted(path.rglob(ADAPTER_FILE))
        if not found:
            raise InputError(
                f"{path} holds no {ADAPTER_FILE}. Give an adapter, or an output folder of `glip finetune`."
            )
        return max(found, key=lambda file: _validation_of(file.parent))
    if not exists(path):
        raise InputError(f"Cannot read the adapter {path}: there is no such file or folder.")
    return path


def model_of_adapter(adapter: Path) -> str:
    """Returns the model that an adapter was tuned on, as `open_model` takes it.

    Raises:
        InputError: the file is no adapter, or names a model that is not on this machine.
    """
    try:
        with safe_open(adapter, framework="numpy") as file:
            meta = json.loads((file.metadata() or {}).get("glip", "null"))
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise InputError(f"The adapter {adapter} cannot be read ({error}); tune again or fetch it again.") from error
    name = meta.get("base_name") if isinstance(meta, dict) else None
    if not isinstance(name, str):
        raise InputError(f"{adapter} is not an adapter: it names no base model. `glip finetune` makes adapters.")
    used = _result_of(adapter.parent).get("model")  # as given to the tuning: a path, if it was one
    for candidate in (name, used):
        if isinstance(candidate, str) and (candidate in ZOO or candidate == EMBEDDED or exists(Path(candidate))):
            return candidate
    raise InputError(f"The adapter {adapter} was tuned on the model {name!r}, which is not here. Give it with `model`.")


def _validation_of(folder: Path) -> float:
    value = _result_of(folder).get("validation")
    return float(value) if isinstance(value, int | float) else -1.0


def _result_of(folder: Path) -> dict[str, Any]:
    """Returns the result of a tuning run; {} if there is none to read."""
    try:
        content = json.loads((folder / "metrics.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def local_path(name_or_path: str | Path) -> Path:
    """Returns the folder of a checkpoint that `glip models list` names, or the path itself. Nothing may be there.

    Write `./` before a folder that is named like a checkpoint.
    """
    name = str(name_or_path)
    if name == EMBEDDED:
        return EMBEDDED_FOLDER
    return model_path(name) if name in ZOO else Path(name_or_path).expanduser()


def check_here(name_or_path: str | Path) -> Path:
    """Returns the path of a checkpoint that is on this machine.

    Raises:
        InputError: it is not.
    """
    path = local_path(name_or_path)
    if str(name_or_path) in ZOO and not exists(path):
        raise InputError(
            f"{name_or_path} is not on this machine (no folder {path}). `glip models pull {name_or_path}` downloads it."
        )
    if not exists(path):
        raise UnknownCheckpoint(str(name_or_path))
    return path


def check_conversion(
    source: Path, out: Path, *, to: Layout, half: bool, conf: float | None, imgsz: int | None, overwrite: bool
) -> None:
    """Refuses a conversion that cannot be done, without reading the source; see `convert_checkpoint`.

    Raises:
        InputError: the source is missing, the target may not be written, or a value does not fit the layout.
    """
    if not exists(source):
        raise UnknownCheckpoint(str(source))
    if (out.suffix in STATE_SUFFIXES) == (to == "native"):
        wanted = "a folder" if to == "native" else "a file that ends with .pth or .safetensors"
        raise InputError(f"{out} cannot hold the layout {to}; `out` must be {wanted}.")
    if half and to != "native":
        raise InputError(f"half is for model folders; the layout {to} is always float32. Leave out one of them.")
    for name, value in (("conf", conf), ("imgsz", imgsz)):
        if value is not None and to != "native":
            raise InputError(f"{name} is for model folders; the layout {to} cannot hold it. Leave out one of them.")
    if conf is not None and not 0 <= conf <= 1:
        raise InputError(f"conf is {conf}; it must lie between 0 and 1.")
    if imgsz is not None and not 32 <= imgsz <= 4096:
        raise InputError(f"imgsz is {imgsz}; it must lie between 32 and 4096 pixels.")
    check_target(out, overwrite=overwrite)


def check_target(out: Path, *, overwrite: bool) -> None:
    """Refuses an output path that exists. `overwrite` allows a file or a model folder, never another folder.

    Raises:
        InputError: the path may not be written.
    """
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not overwrite:
        raise InputError(f"{out} exists; choose another `out`, or allow to replace it (`overwrite`).")
    if out.is_dir() and not (out / MODEL_FILE).is_file():
        raise InputError(f"{out} is a folder with other content and is not replaced. Choose another `out`.")


def exists(path: Path) -> bool:
    """Returns whether something is at a path; a path that cannot exist or be seen is nothing."""
    try:
        return path.expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, '~nobody', NUL
        return False
