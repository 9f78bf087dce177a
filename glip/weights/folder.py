"""Reads and writes model folders, which hold all that prediction needs, without a network connection.

    config.json            the architecture
    model.safetensors      the tensors, in native names
    prompt.safetensors     the result of prompt tuning, if there is one
    tokenizer.json         the word pieces, with vocab.txt and tokenizer_config.json for other programs
    source.json            the origin of the weights, and the hash of every file above

Equal weights give equal files, byte by byte, whatever layout they came in; only source.json differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor

from glip.errors import InputError
from glip.fetch import hash_file
from glip.files import read_json, whole_folder
from glip.model.config import GLIPConfig, config_from_dict, config_to_dict
from glip.weights.convert import State, check_prompt, check_shapes
from glip.weights.locate import MODEL_FILE, check_target
from glip.weights.state_file import save_tensors
from glip.weights.tokenizer import TOKENIZER_FILES, load_tokenizer, save_tokenizer

FORMAT = 1
PROMPT_FILE = "prompt.safetensors"
_RECORDED = ("config.json", MODEL_FILE, PROMPT_FILE, *TOKENIZER_FILES)  # the files whose hashes source.json holds
_NEEDED = ("config.json", MODEL_FILE, "tokenizer.json")
# safetensors' names of the number formats that weights may have; all are converted to float32.
_DTYPES = ("F32", "F16", "BF16", "F64")
_MAX_CONFIG_BYTES = 16 << 20
_WORD_EMBEDDINGS = "text_encoder.bert.embeddings.word_embeddings.weight"


class _FileRecord(msgspec.Struct, frozen=True):
    sha256: str
    size: int | None = None
    mtime_ns: int | None = None


class _Source(msgspec.Struct, frozen=True):
    origin: dict[str, Any] = {}
    files: dict[str, _FileRecord] = {}


@dataclass(frozen=True)
class ModelFolder:
    """A checked model folder, made by `load_model_folder`. Tensors are read on demand.

    Attributes:
        path: the folder.
        name: the checkpoint's name in the zoo, or the folder's own.
        config: the architecture.
        source: content of source.json, checked; empty if there is none.
    """

    path: Path
    name: str
    config: GLIPConfig
    source: Mapping[str, Any]

    @cached_property
    def sha256(self) -> str:
        """Returns the sha256 of model.safetensors.

        Raises:
            InputError: the file was changed after it was written.
        """
        file = self.path / MODEL_FILE
        record = self.source.get("files", {}).get(MODEL_FILE, {})
        try:
            status = file.stat()
        except OSError as error:
            raise _unreadable(file, error) from error
        # Reading a gigabyte takes seconds, so a file of the same size and time counts as unchanged; `verify` reads all.
        if (status.st_size, status.st_mtime_ns) == (record.get("size"), record.get("mtime_ns")):
            return str(record["sha256"])
        found = _hash(file)
        if found != record.get("sha256", found):
            raise InputError(
                f"{file} has changed: its sha256 begins with {found[:8]}, that in source.json with "
                f"{record['sha256'][:8]}. Make the folder again, or delete source.json if the change is intended."
            )
        return found

    @cached_property
    def identity(self) -> str:
        """Returns a hash of all weights: `sha256`, or with a tuned prompt a hash of both files."""
        file = self.path / PROMPT_FILE
        return hashlib.sha256((self.sha256 + _hash(file)).encode()).hexdigest() if file.is_file() else self.sha256

    def state_dict(self) -> State:
        """Returns the tensors by name, as `build_glip` takes them; other number formats are converted to float32."""
        return {name: value.float() for name, value in _read(self.path / MODEL_FILE).items()}

    def prompt(self) -> Tensor | None:
        """Returns the (T, D) result of prompt tuning; None if the checkpoint has none."""
        file = self.path / PROMPT_FILE
        return _read(file)["prompt"].float() if file.is_file() else None

    def tokenizer(self) -> Tokenizer:
        """Returns the tokenizer, which neither pads nor truncates."""
        return load_tokenizer(self.path)


def load_model_folder(path: Path, name: str | None = None) -> ModelFolder:
    """Opens a model folder and checks that its files, configuration, names, shapes and vocabulary fit together.

    Raises:
        InputError: they do not; the message names the first problem.
    """
    try:
        if not path.is_dir():
            raise InputError(f"There is no folder {path}.")
        missing = [file for file in _NEEDED if not (path / file).is_file()]
        inside = sorted(file.name for file in path.iterdir() if file.suffix in (".pth", ".pt"))
    except OSError as error:
        raise _unreadable(path, error) from error
    if missing:
        hint = f"Give the file {inside[0]} itself" if inside else "Make one with `glip models convert`"
        raise InputError(f"{path} is not a complete model folder; missing: {', '.join(missing)}. {hint}.")
    config = _read_config(path / "config.json")
    try:
        shapes = _shapes(path / MODEL_FILE)
        check_shapes(shapes, config)
        if (path / PROMPT_FILE).is_file():
            check_prompt(_shapes(path / PROMPT_FILE).get("prompt", ()), config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    check_vocabulary(load_tokenizer(path).get_vocab_size(), shapes[_WORD_EMBEDDINGS][0])
    return ModelFolder(path, name or path.resolve().name, config, msgspec.to_builtins(_read_source(path)))


def save_model_folder(
    out: Path,
    config: GLIPConfig,
    state: State,
    vocabulary: Sequence[str],
    *,
    origin: Mapping[str, Any],
    prompt: Tensor | None = None,
    half: bool = False,
    overwrite: bool = False,
) -> ModelFolder:
    """Writes a model folder, whole or not at all.

    Args:
        out: the folder to make, with its parents.
        config: the architecture.
        state: native names to tensors.
        vocabulary: word pieces in the order of their ids.
        origin: origin of the weights, as JSON, for source.json.
        prompt: (T, D) result of prompt tuning.
        half: whether to store float16, with half the size and three correct digits.
        overwrite: whether to replace a model folder at `out`.

    Raises:
        InputError: `out` exists, or vocabulary and weights do not fit.
        JobFailed: it could not be written.
    """
    check_target(out, overwrite=overwrite)
    check_vocabulary(len(vocabulary), state[_WORD_EMBEDDINGS].shape[0])
    if prompt is not None:
        check_prompt(tuple(prompt.shape), config)
    with whole_folder(out) as part:
        _write_json(part / "config.json", {"format": FORMAT, "model": config_to_dict(config)})
        save_tensors(part / MODEL_FILE, {name: value.half() for name, value in state.items()} if half else state)
        if prompt is not None:
            save_tensors(part / PROMPT_FILE, {"prompt": prompt})
        save_tokenizer(part, vocabulary)
        _write_json(part / "source.json", {"origin": origin, "files": _records(part)})
    return load_model_folder(out)


def verify_model_folder(path: Path) -> list[str]:
    """Reads every byte of a model folder and compares it with the hashes in source.json.

    Returns:
        The problems, a sentence each; empty if there are none.
    """
    records = _read_source(path).files
    if not records:
        return [f"{path} has no record (source.json) to compare with"]
    problems = []
    for name, record in records.items():
        file = path / name
        if name not in _RECORDED:
            problems.append(f"{path / 'source.json'} names {name[:60]!r}, which is no file of a model folder")
        elif not file.is_file():
            problems.append(f"{file} is missing")
        elif (found := _hash(file)) != record.sha256:
            problems.append(f"{file} has changed: sha256 {found[:12]}… instead of {record.sha256[:12]}…")
    return problems


def check_vocabulary(pieces: int, rows: int) -> None:
    """Refuses a vocabulary of another size than the word embeddings.

    Raises:
        InputError: the sizes differ.
    """
    if pieces != rows:
        raise InputError(
            f"The vocabulary has {pieces} word pieces, but the weights have {rows} word embeddings. The published "
            "checkpoints need the vocabulary of bert-base-uncased (30522 pieces); give it as `tokenizer`."
        )


def _records(folder: Path) -> dict[str, dict[str, Any]]:
    names = [name for name in _RECORDED if (folder / name).is_file()]
    status = {name: (folder / name).stat() for name in names}
    return {
        name: {"sha256": hash_file(folder / name), "size": status[name].st_size, "mtime_ns": status[name].st_mtime_ns}
        for name in names
    }


def _shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of a .safetensors file from its header, and checks its length and number formats."""
    try:
        with safe_open(path, framework="pt") as file:
            parts = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            dtypes = {key: part.get_dtype() for key, part in parts.items()}
            shapes = {key: tuple(part.get_shape()) for key, part in parts.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path.name} is cut off or damaged ({error}); make the folder again.") from error
    if other := next((key for key, dtype in dtypes.items() if dtype not in _DTYPES), None):
        raise InputError(
            f"Tensor {other[:60]} of {path.name} has the number format {dtypes[other]}; weights are "
            f"{', '.join(_DTYPES)}. Convert the checkpoint again."
        )
    return shapes


def _read(path: Path) -> State:
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is cut off or damaged ({error}); make the folder again.") from error


def _read_config(path: Path) -> GLIPConfig:
    content = read_json(
        path,
        dict[str, Any],
        "the configuration of a model folder",
        hint="Make the folder again.",
        max_bytes=_MAX_CONFIG_BYTES,
    )
    if content.get("format") != FORMAT or not isinstance(content.get("model"), Mapping):
        found = repr(content.get("format"))[:60]
        raise InputError(f"{path} has the format {found}; this program reads {FORMAT}. Convert again.")
    try:
        return config_from_dict(content["model"])
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _read_source(folder: Path) -> _Source:
    path = folder / "source.json"
    if not path.is_file():
        return _Source()
    hint = "Make the folder again, or delete this file: the model works without."
    return read_json(path, _Source, "the origin of a model", hint=hint, repair=hint, max_bytes=_MAX_CONFIG_BYTES)


def _hash(path: Path) -> str:
    try:
        return hash_file(path)
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"Cannot read {path}: {error.strerror or error}.")


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
