"""The cache of downloads and converted checkpoints: GLIP_HOME, else ~/.cache/glip.

models/<name>/         model folders of published checkpoints, and of checkpoint files that were given by path
downloads/             unfinished downloads, and BERT's vocabulary
hashes.json            sha256 of every file ever fetched; a file that comes with another one is refused
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from glip.errors import InputError, JobFailed
from glip.fetch import OnDownload, Unreachable, fetch, hash_file
from glip.files import read_json, whole_file

_SET_HOME = "Set the environment variable GLIP_HOME to a folder that can be written."


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
    """Returns the folder of the cache.

    Raises:
        InputError: this user has no home folder, and GLIP_HOME names no other.
    """
    try:
        if home := os.environ.get("GLIP_HOME"):
            return Path(home).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glip"
    except RuntimeError as error:
        raise InputError(f"There is no home folder for the cache of models ({error}). {_SET_HOME}") from error


def is_folder(path: Path) -> bool:
    """Returns whether a path is a folder that this user may see; a path too long to exist is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


@contextmanager
def locked_for(path: Path) -> Iterator[None]:
    """Holds the lock of a file or folder of the cache for the length of the block; makes the folder around it.

    Raises:
        JobFailed: the cache cannot be written.
    """
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise JobFailed(f"Cannot write into the cache {path.parent}: {reason}. {_SET_HOME}") from error
    try:
        yield
    finally:
        lock.release()


def model_path(name: str) -> Path:
    """Returns the path of the model folder of a checkpoint, whether it exists or not."""
    return cache_home() / "models" / name


def model_paths() -> list[Path]:
    """Returns the paths of all model folders in the cache."""
    models = cache_home() / "models"
    return sorted(path for path in models.glob("[!.]*") if is_folder(path)) if is_folder(models) else []


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
        with locked_for(folder):
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


def fetched(
    what: str, url: str, file_name: str, published_hash: str | None, fetching: Fetching, max_bytes: int
) -> tuple[Path, str]:
    """Returns a file of the web and its sha256, from the cache or downloaded now.

    Args:
        what: description of the file for error messages.
        url: address of the file.
        file_name: its name in `downloads/`.
        published_hash: the published beginning of its sha256.
        fetching: whether and how it may be downloaded.
        max_bytes: a larger file is refused.

    Raises:
        JobFailed: it is not in the cache and cannot be fetched, or its hash is not the published or the first one.
    """
    file = cache_home() / "downloads" / file_name
    known = _hashes().get(file_name)
    if not fetching.is_allowed:
        with suppress(OSError):
            if file.is_file() and (digest := hash_file(file)).startswith(known or published_hash or ""):
                return file, digest
        raise JobFailed(f"{what} is not on this machine, and downloads are switched off. {ways_out()}")
    try:
        digest = fetch(
            url,
            file,
            published_hash=published_hash,
            first_hash=known,
            on_download=fetching.on_download,
            max_bytes=max_bytes,
        )
    except Unreachable as error:
        raise JobFailed(f"{what} is not on this machine, and {error}. {ways_out()}") from error
    if known is None:
        _remember(file_name, digest)
    return file, digest


def forget(file: Path) -> None:
    """Removes a download that turned out to hold something else, and its recorded hash."""
    with locked_for(cache_home() / "hashes.json"):
        _write_hashes({name: digest for name, digest in _hashes().items() if name != file.name})
    file.unlink(missing_ok=True)


def ways_out() -> str:
    """Returns what works without the file that cannot be fetched."""
    return (
        "`model` nano works now, offline: it ships with glip and knows drawn scenes of emoji-like things and shapes, "
        "not photographs. For a published model, run `glip models pull NAME` on a machine with a network and copy "
        f"{cache_home()} here, or give a model folder or a checkpoint file."
    )


def _hashes() -> dict[str, str]:
    path = cache_home() / "hashes.json"
    try:
        if not path.is_file():
            return {}
    except OSError:
        return {}  # fetching then says why the cache cannot be used
    return read_json(path, dict[str, str], "a record of hashes", hint="Delete it to begin a new one.")


def _remember(file_name: str, digest: str) -> None:
    with locked_for(cache_home() / "hashes.json"):
        _write_hashes(_hashes() | {file_name: digest})


def _write_hashes(hashes: dict[str, str]) -> None:
    with whole_file(cache_home() / "hashes.json") as file:
        file.write((json.dumps(hashes, indent=2) + "\n").encode())
