"""Finds models and adapters without reading their tensors, so that a wrong name is refused before torch is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from glip.errors import InputError, JobFailed
from glip.weights.cache import Fetching, cache_home, model_path, ways_out
from glip.weights.zoo import EMBEDDED, ZOO, UnknownCheckpoint

ADAPTER_FILE = "adapter.safetensors"


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


def exists(path: Path) -> bool:
    """Returns whether something is at a path; a path that cannot exist or be seen is nothing."""
    try:
        return path.expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, '~nobody', NUL
        return False
