"""Opens models by name, folder or file, and converts checkpoints between layouts."""

from __future__ import annotations

import hashlib
import logging
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

from glip.errors import InputError, JobFailed
from glip.fetch import OnDownload, hash_file
from glip.weights.cache import Fetching, fetched, forget, is_folder, locked_for, model_path, model_paths
from glip.weights.convert import Conversion, expected_shapes, from_native, some, to_native, unwrap
from glip.weights.folder import ModelFolder, load_model_folder, save_model_folder, verify_model_folder
from glip.weights.locate import check_conversion, check_here, local_path
from glip.weights.state_file import read_state_file, write_state_file
from glip.weights.tensor_names import Layout
from glip.weights.tokenizer import MAX_VOCABULARY_BYTES, read_vocabulary
from glip.weights.zoo import (
    BERT_VOCABULARY,
    EMBEDDED,
    EMBEDDED_FOLDER,
    ZOO,
    Checkpoint,
    UnknownCheckpoint,
    architecture_name,
    find,
)

_SPARE_BYTES = 256 << 20  # for names, logs and constants beside the weights

logger = logging.getLogger(__name__)


def open_model(
    name_or_path: str | Path,
    *,
    tokenizer: Path | None = None,
    offline: bool = False,
    on_download: OnDownload | None = None,
) -> ModelFolder:
    """Opens a model; downloads and converts it if necessary.

    Args:
        name_or_path: a name of `glip models list` (downloaded and converted on first use), a model folder, or a
            checkpoint file of any layout (converted on first use). Write `./` before a folder named like a checkpoint.
        tokenizer: vocabulary of a checkpoint file, see `read_vocabulary`; None: one beside the file, else BERT's.
        offline: download nothing.
        on_download: receives the progress.

    Raises:
        InputError: there is no such model, or it is damaged.
        JobFailed: it could not be fetched.
    """
    fetching = Fetching(offline, on_download)
    if str(name_or_path) == EMBEDDED:
        return load_model_folder(EMBEDDED_FOLDER, EMBEDDED)
    if str(name_or_path) in ZOO:
        return _pull(ZOO[str(name_or_path)], fetching)
    try:
        path = Path(name_or_path).expanduser()
        is_file = path.is_file()
    except (OSError, RuntimeError) as error:  # a name that is too long, a folder that may not be entered, '~nobody'
        raise UnknownCheckpoint(str(name_or_path)) from error
    if is_folder(path):
        return load_model_folder(path)
    if is_file:
        return _converted(path, tokenizer, fetching)
    raise UnknownCheckpoint(str(name_or_path))


def pull(name: str, *, offline: bool = False, on_download: OnDownload | None = None) -> ModelFolder:
    """Downloads and converts a published checkpoint, unless it is in the cache, and opens it.

    Raises:
        UnknownCheckpoint: no checkpoint has that name.
        JobFailed: it could not be fetched, or is not the published file.
    """
    if name == EMBEDDED:
        return open_model(name)
    return _pull(find(name), Fetching(offline, on_download))


def _pull(row: Checkpoint, fetching: Fetching) -> ModelFolder:
    folder = model_path(row.name)
    if not is_folder(folder):  # else nothing is written, so that a cache may be read-only
        _fetch_and_convert(row, folder, fetching)
    try:
        return load_model_folder(folder, row.name)
    except InputError as error:
        raise InputError(f"{error} It is in the cache: delete {folder} to fetch it again.") from error


def _fetch_and_convert(row: Checkpoint, folder: Path, fetching: Fetching) -> None:
    with locked_for(folder):
        if not is_folder(folder):  # another process may have made it
            what = f"The checkpoint {row.name} ({row.file_name})"
            file, digest = fetched(what, row.url, row.file_name, row.hash_head, fetching, _max_bytes(row))
            try:
                conversion, notes = read_checkpoint(file)
            except InputError as error:
                forget(file)
                raise JobFailed(f"{row.url} holds no checkpoint, and was removed: {error}") from error
            if (conversion.layout, conversion.config) != (row.layout, row.config):
                found = f"{architecture_name(conversion.config)} in the layout {conversion.layout}"
                raise JobFailed(f"{row.url} holds {found}, but {row.architecture} in {row.layout} was published.")
            origin = _origin(conversion, notes, row.file_name, digest) | {"checkpoint": row.name, "url": row.url}
            _save(folder, conversion, _vocabulary(None, None, fetching), origin)
            # The folder holds its content, and hashes.json its hash, should it be downloaded again.
            del conversion
            file.unlink()


def _max_bytes(row: Checkpoint) -> int:
    """Returns the most bytes that a published file can have; a longer download is another file, or has no end."""
    weights = 4 * sum(math.prod(shape) for shape in expected_shapes(row.config).values())
    # The original's files may also hold averages and the optimiser's two values for each weight.
    return _SPARE_BYTES + (5 if row.layout == "microsoft" else 1) * weights


def _converted(path: Path, tokenizer: Path | None, fetching: Fetching) -> ModelFolder:
    """Converts a checkpoint file to a model folder in the cache, once for every version of the file."""
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    identity = f"{path.resolve()}|{status.st_size}|{status.st_mtime_ns}|{tokenizer and tokenizer.resolve()}"
    folder = model_path(f"{path.stem}-{hashlib.sha256(identity.encode()).hexdigest()[:12]}")
    if not is_folder(folder):
        with locked_for(folder):
            if not is_folder(folder):
                logger.info("Converting %s, once, into %s.", path, folder)
                convert_checkpoint(path, folder, tokenizer=tokenizer, fetching=fetching)
    return load_model_folder(folder, path.stem)


def read_checkpoint(path: Path, *, ema: bool = False) -> tuple[Conversion, list[str]]:
    """Reads a model folder or a checkpoint file of any layout.

    Returns:
        The checkpoint in native names, and sentences about what was not taken.

    Raises:
        InputError: it is not a complete GLIP checkpoint.
    """
    if path.is_dir():
        return _from_folder(load_model_folder(path)), []
    content = read_state_file(path)
    try:
        state, notes = unwrap(content, ema=ema)
        return to_native(state), notes
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def convert_checkpoint(
    source: Path,
    out: Path,
    *,
    to: Layout = "native",
    tokenizer: Path | None = None,
    ema: bool = False,
    half: bool = False,
    conf: float | None = None,
    imgsz: int | None = None,
    overwrite: bool = False,
    fetching: Fetching | None = None,
) -> dict[str, Any]:
    """Writes a checkpoint in another layout.

    Args:
        source: a model folder, or a checkpoint file of any layout.
        out: a folder for `native`, else a `.pth` or `.safetensors` file.
        to: the layout to write.
        tokenizer: vocabulary of a native folder, see `read_vocabulary`; None: that of the source, one beside it, or
            BERT's, which is downloaded.
        ema: whether to take the averaged weights of a training checkpoint.
        half: whether to store a native folder in float16, with half the size and three correct digits.
        conf: default score threshold of a native folder; None: the source's.
        imgsz: short side of its network input, in pixels; None: the source's.
        overwrite: whether to replace what is at `out`.
        fetching: whether and how the vocabulary may be downloaded.

    Returns:
        A report as JSON: `describe` of the source, and the names of tensors that had to be made.

    Raises:
        InputError: the source cannot be read, or `out` exists or is of the wrong kind.
        JobFailed: the result could not be written, or no vocabulary could be fetched.
    """
    check_conversion(source, out, to=to, half=half, conf=conf, imgsz=imgsz, overwrite=overwrite)
    conversion, notes = read_checkpoint(source, ema=ema)
    if conf is not None:
        conversion = replace(conversion, config=replace(conversion.config, conf=conf))
    if imgsz is not None:
        conversion = replace(conversion, config=replace(conversion.config, imgsz=imgsz))
    made: tuple[str, ...] = ()
    if to == "native":
        beside = source if source.is_dir() else source.resolve().parent
        if source.is_dir():
            origin = load_model_folder(source).source.get("origin", {})
        else:
            origin = _origin(conversion, notes, source.name, hash_file(source)) | {"ema": ema}
        words = _vocabulary(tokenizer, beside, fetching or Fetching())
        _save(out, conversion, words, origin, half=half, overwrite=overwrite)
    else:
        state, made = from_native(conversion, to)
        # The original's files hold the weights under "model", with "module." before each name; mmdet's hold them bare.
        wrapped = {"model": {f"module.{name}": value for name, value in state.items()}}
        write_state_file(out, wrapped if to == "microsoft" and out.suffix != ".safetensors" else state)
    return describe(conversion, notes) | {"to": to, "out": str(out), "made": list(made)}


def inspect_checkpoint(name_or_path: str | Path, *, ema: bool = False) -> dict[str, Any]:
    """Describes a model folder or checkpoint file, as JSON; `problem` says why it is unusable, or is None.

    Args:
        name_or_path: a path, or the name of a checkpoint that is on this machine.
        ema: describe the averaged weights of a training checkpoint.

    Raises:
        InputError: it cannot be read, or is not on this machine.
    """
    path = check_here(name_or_path)
    if path.is_dir():
        folder = load_model_folder(path)
        facts = {"sha256": folder.sha256, "origin": folder.source.get("origin")}
        return describe(_from_folder(folder), []) | facts
    content = read_state_file(path)
    try:
        state, notes = unwrap(content, ema=ema)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    facts = {"sha256": hash_file(path), "origin": None}
    try:
        return describe(to_native(state), notes) | facts
    except InputError as error:
        counts = {"tensors": len(state), "parameters": sum(value.numel() for value in state.values())}
        return counts | {"notes": notes, "names": some(state, limit=8), "problem": str(error)} | facts


def describe(conversion: Conversion, notes: list[str]) -> dict[str, Any]:
    """Returns a description of a checkpoint, as JSON."""
    return {
        "layout": conversion.layout,
        "architecture": architecture_name(conversion.config),
        "tensors": len(conversion.state),
        "parameters": sum(value.numel() for value in conversion.state.values()),
        "dtypes": sorted({str(value.dtype).removeprefix("torch.") for value in conversion.state.values()}),
        "prompt": None if conversion.prompt is None else list(conversion.prompt.shape),
        "constants": list(conversion.constants),
        "unused": list(conversion.unused),
        "notes": notes,
        "problem": None,
    }


def verify(name_or_path: str | None = None) -> dict[str, list[str]]:
    """Reads every byte of one model folder, or of all in the cache, and compares it with its recorded hashes.

    Returns:
        Folder to its problems, a sentence each; an empty list if there are none.

    Raises:
        InputError: there is no such model folder on this machine.
    """
    if name_or_path is None:
        folders = model_paths()
    else:
        folders = [local_path(name_or_path)]
        if folders[0].is_file():
            raise InputError(
                f"{folders[0]} is a file, and only model folders hold hashes to compare with. "
                "Use `glip models inspect` for a file."
            )
        if not folders[0].is_dir():
            raise InputError(
                f"There is no model folder {folders[0]} on this machine to verify. `glip models pull` downloads one."
            )
    return {str(folder): verify_model_folder(folder) for folder in folders}


def _from_folder(folder: ModelFolder) -> Conversion:
    return Conversion(folder.config, folder.state_dict(), "native", folder.prompt())


def _save(
    out: Path,
    conversion: Conversion,
    vocabulary: list[str],
    origin: dict[str, Any],
    *,
    half: bool = False,
    overwrite: bool = False,
) -> None:
    save_model_folder(
        out,
        conversion.config,
        conversion.state,
        vocabulary,
        origin=origin,
        prompt=conversion.prompt,
        half=half,
        overwrite=overwrite,
    )


def _origin(conversion: Conversion, notes: list[str], file_name: str, digest: str) -> dict[str, Any]:
    return {
        "file": file_name,
        "sha256": digest,
        "layout": conversion.layout,
        "constants": list(conversion.constants),
        "unused": list(conversion.unused),
        "notes": notes,
    }


def _vocabulary(given: Path | None, beside: Path | None, fetching: Fetching) -> list[str]:
    """Returns the word pieces: those given, those in or beside the source, else BERT's from the cache or the hub."""
    if given is not None:
        return read_vocabulary(given.expanduser())
    for folder in () if beside is None else (beside, beside / "bert-base-uncased"):
        if any((folder / name).is_file() for name in ("vocab.txt", "tokenizer.json")):
            return read_vocabulary(folder)
    bert = BERT_VOCABULARY
    what = "BERT's vocabulary (a vocab.txt beside the file, or `tokenizer`, can replace it)"
    file, _ = fetched(what, bert.url, bert.file_name, bert.sha256, fetching, MAX_VOCABULARY_BYTES)
    return read_vocabulary(file)
