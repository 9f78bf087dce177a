"""What this machine keeps of the web: GLIP_HOME, else ~/.cache/glip.

models/<name>/         model folders of published checkpoints, and of files that were given by path
downloads/             files on their way, and BERT's vocabulary
hashes.json            sha256 of every file ever fetched: the same file must never come differently
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from glip.errors import InputError, JobFailed
from glip.fetch import OnDownload, Unreachable, fetch, hash_file
from glip.files import whole_file


@dataclass(frozen=True)
class Fetching:
    """How to get what is not on this machine.

    Attributes:
        offline: fetch nothing. HF_HUB_OFFLINE=1 says the same.
        on_download: told of the progress.
    """

    offline: bool = False
    on_download: OnDownload | None = None

    @property
    def is_allowed(self) -> bool:
        """Whether the network may be used."""
        return not (self.offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"))


def cache_home() -> Path:
    """Where fetched and converted checkpoints are kept."""
    if home := os.environ.get("GLIP_HOME"):
        return Path(home).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "glip"


def model_path(name: str) -> Path:
    """Where the model folder of a checkpoint is, or will be."""
    return cache_home() / "models" / name


def model_paths() -> list[Path]:
    """Every model folder that is there."""
    models = cache_home() / "models"
    return sorted(path for path in models.glob("[!.]*") if path.is_dir()) if models.is_dir() else []


def fetched(what: str, url: str, file_name: str, published_hash: str | None, fetching: Fetching) -> tuple[Path, str]:
    """A file of the web: the one that is here, or fetched now.

    Args:
        what: the thing, for the message where it cannot be had.
        url: where it is.
        file_name: what it is called in `downloads/`.
        published_hash: how its sha256 begins.
        fetching: whether the network may be used.

    Returns:
        The file and its sha256.

    Raises:
        JobFailed: it is not here and cannot be fetched, or its hash is another than the published or the first one.
    """
    file = cache_home() / "downloads" / file_name
    known = _hashes().get(file_name)
    ways_out = (
        "Ways out: give a model folder or a checkpoint file instead of a name; run `glip models pull` where there is "
        f"a network and copy {cache_home()} here; or `glip models random DIR`, whose boxes mean nothing."
    )
    if not fetching.is_allowed:
        if file.is_file() and (digest := hash_file(file)).startswith(known or published_hash or ""):
            return file, digest
        raise JobFailed(f"{what} is not on this machine, and fetching is switched off. {ways_out}")
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
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged ({error}); delete it to start a new record of hashes.") from error


def _remember(file_name: str, digest: str) -> None:
    path = cache_home() / "hashes.json"
    with FileLock(path.with_name("hashes.json.lock")):
        text = json.dumps(_hashes() | {file_name: digest}, indent=2) + "\n"
        with whole_file(path) as file:
            file.write(text.encode())
