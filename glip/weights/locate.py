"""Finds a model without reading it, so that a wrong name is refused before torch is loaded."""

from __future__ import annotations

from pathlib import Path

from glip.errors import InputError, JobFailed
from glip.weights.cache import Fetching, cache_home, model_path, ways_out
from glip.weights.zoo import EMBEDDED, ZOO, UnknownCheckpoint


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


def exists(path: Path) -> bool:
    """Returns whether something is at a path; a path that cannot exist or be seen is nothing."""
    try:
        return path.expanduser().exists()
    except (OSError, RuntimeError, ValueError):  # too long, '~nobody', NUL
        return False
