"""The cache of downloads and converted checkpoints: GLIP_HOME, else ~/.cache/glip.

models/<name>/         model folders of published checkpoints, and of checkpoint files that were given by path
downloads/             unfinished downloads, and BERT's vocabulary
hashes.json            sha256 of every file ever fetched; a file that comes with another one is refused
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from glip.errors import InputError, JobFailed
from glip.fetch import OnDownload, Unreachable, fetch, hash_file
from glip.files import read_json, whole_file


@dataclass(frozen=True)
class Fetching:
    """Whether and how files may be downloaded.

    Attributes:
        offline: download nothing. The environment variable HF_HUB_OFFLINE=1 has the same effect.
        on_download: receives the progress.
    """

    offline: bool = False
    on_download: OnDownload | None = None

    @property
    def is_allowed(self) -> bool:
        """Returns whether the network may be used."""
        return not (self.offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"))


def cache_home() -> Path:
    """Returns the folder of the cache."""
    if home := os.environ.get("GLIP_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glip"


def model_path(name: str) -> Path:
    """Returns the path of the model folder of a checkpoint, whether it exists or not."""
    return cache_home() / "models" / name


def model_paths() -> list[Path]:
    """Returns the paths of all model folders in the cache."""
    models = cache_home() / "models"
    return sorted(path for path in models.glob("[!.]*") if path.is_dir()) if models.is_dir() else []


def folder_bytes(folder: Path) -> int:
    """Returns the size of all files below a folder in bytes; 0 if there is none."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def unfinished_bytes(file_name: str) -> int:
    """Returns how much of a download is in the cache and not converted yet, in bytes."""
    file = cache_home() / "downloads" / file_name
    return sum(path.stat().st_size for path in (file, file.with_name(f"{file_name}.part")) if path.is_file())


def remove_model(name: str, file_name: str | None = None) -> int:
    """Deletes a model folder of the cache, and an unfinished download of it. Returns the number of bytes that are free.

    Args:
        name: of the model folder, as `glip models verify` lists it.
        file_name: of the published file, whose unfinished download is deleted too.

    Raises:
        InputError: the cache holds neither.
        JobFailed: the folder cannot be deleted.
    """
    folder = model_path(name)
    # Only what the cache lists: a name such as `..` must not leave it.
    is_here = folder in model_paths()
    parts = () if file_name is None else (file_name, f"{file_name}.part", f"{file_name}.part.json")
    files = [path for part in parts if (path := cache_home() / "downloads" / part).is_file()]
    if not is_here and not files:
        here = ", ".join(path.name for path in model_paths()) or "no model"
        raise InputError(f"{name!r} is not in the cache {cache_home()}. It holds {here}.")
    freed = sum(path.stat().st_size for path in files) + (folder_bytes(folder) if is_here else 0)
    try:
        with FileLock(folder.with_name(f"{name}.lock")):
            if is_here:
                # Under another name first: a folder that is half deleted must not look like a model.
                leaving = folder.with_name(f".{name}.leaving")
                shutil.rmtree(leaving, ignore_errors=True)
                folder.replace(leaving)
                shutil.rmtree(leaving)
            for path in files:
                path.unlink()
    except OSError as error:
        raise JobFailed(f"Cannot delete {folder}: {error.strerror or error}.") from error
    return freed


def fetched(what: str, url: str, file_name: str, published_hash: str | None, fetching: Fetching) -> tuple[Path, str]:
    """Returns a file of the web and its sha256, from the cache or downloaded now.

    Args:
        what: description of the file for error messages.
        url: address of the file.
        file_name: its name in `downloads/`.
        published_hash: the published beginning of its sha256.
        fetching: whether and how it may be downloaded.

    Raises:
        JobFailed: it is not in the cache and cannot be fetched, or its hash is not the published or the first one.
    """
    file = cache_home() / "downloads" / file_name
    known = _hashes().get(file_name)
    ways_out = (
        "Give a model folder or a checkpoint file instead of a name; or run `glip models pull` on a machine with a "
        f"network and copy {cache_home()} here; or use `glip models random DIR`, whose boxes mean nothing."
    )
    if not fetching.is_allowed:
        if file.is_file() and (digest := hash_file(file)).startswith(known or published_hash or ""):
            return file, digest
        raise JobFailed(f"{what} is not on this machine, and downloads are switched off. {ways_out}")
    try:
        digest = fetch(url, file, published_hash=published_hash, first_hash=known, on_download=fetching.on_download)
    except Unreachable as error:
        raise JobFailed(f"{what} is not on this machine, and {error}. {ways_out}") from error
    if known is None:
        _remember(file_name, digest)
    return file, digest


def _hashes() -> dict[str, str]:
    path = cache_home() / "hashes.json"
    if not path.is_file():
        return {}
    return read_json(path, dict[str, str], "a record of hashes", hint="Delete it to begin a new one.")


def _remember(file_name: str, digest: str) -> None:
    path = cache_home() / "hashes.json"
    with FileLock(path.with_name("hashes.json.lock")):
        text = json.dumps(_hashes() | {file_name: digest}, indent=2) + "\n"
        with whole_file(path) as file:
            file.write(text.encode())
