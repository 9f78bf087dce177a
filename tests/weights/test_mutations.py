"""Files of models, changed one field at a time: they are read, or refused in one sentence."""

from __future__ import annotations

import json
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from glip.errors import InputError, JobFailed
from glip.weights.adapter import load_adapter, save_adapter
from glip.weights.checkpoint import open_model
from glip.weights.folder import load_model_folder, verify_model_folder
from glip.weights.state_file import read_state_file
from glip.weights.zoo import EMBEDDED_FOLDER
from tests.tiny import tiny_model
from tests.weights.test_adapter import prompt_adapter

# Numbers of the wrong kind or size, and structures where a number stands.
ODD: list[Any] = [0, -1, 10**9, 10**30, 2.5, 1e308, True, False, None, "7", "", [], [1] * 1000, {}, {"a": 1}]


def fields_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a JSON structure; of long lists and objects only the first few."""
    found = [path] if path else []
    inner = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ())
    for key, part in inner[:30]:
        found += fields_of(part, (*path, key))
    return found


def with_value(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(content))
    place = copy
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return copy


def read_or_refuse(read: Callable[[], object]) -> bool:
    """Whether it is read; anything but the sentence fails the test."""
    try:
        read()
    except InputError as error:
        assert len(str(error)) < 2000
        return False
    return True


@pytest.fixture
def nano(tmp_path: Path) -> Path:
    """A copy of the embedded model whose weights are a link."""
    folder = tmp_path / "nano"
    folder.mkdir()
    for path in EMBEDDED_FOLDER.iterdir():
        if path.suffix == ".safetensors":
            (folder / path.name).symlink_to(path)
        elif path.is_file():
            shutil.copy(path, folder / path.name)
    return folder


@pytest.mark.parametrize("name", ["config.json", "source.json"])
def test_every_field_of_a_folder_may_hold_nonsense(nano: Path, name: str) -> None:
    content = json.loads((nano / name).read_text(encoding="utf-8"))
    refused = 0
    if name == "source.json":
        (nano / "model.safetensors").unlink()  # hashing it each time would take long, and it may be missing
    for path in fields_of(content):
        for value in ODD:
            (nano / name).write_text(json.dumps(with_value(content, path, value)), encoding="utf-8")
            if name == "config.json":
                refused += not read_or_refuse(lambda: load_model_folder(nano))
            else:
                refused += not read_or_refuse(lambda: verify_model_folder(nano))
    assert refused > 20


def test_every_field_of_a_tokenizer_may_hold_nonsense(nano: Path) -> None:
    content = json.loads((nano / "tokenizer.json").read_text(encoding="utf-8"))
    bombs = [
        {"type": "Sequence", "normalizers": [{"type": "Replace", "pattern": {"String": "e"}, "content": "e" * 10}] * 9},
        {"type": "Precompiled", "precompiled_charsmap": "////"},
        {"type": "Replace", "pattern": {"Regex": "(a+)+$"}, "content": ""},
    ]
    for part in ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens"):
        for value in (*ODD, *bombs):
            (nano / "tokenizer.json").write_text(json.dumps(content | {part: value}), encoding="utf-8")
            assert read_or_refuse(lambda: load_model_folder(nano)) <= (part == "added_tokens" and value == [])
    for path in (("model", "vocab"), ("model", "unk_token"), ("added_tokens", 0, "id"), ("added_tokens", 0, "content")):
        for value in ODD:
            (nano / "tokenizer.json").write_text(json.dumps(with_value(content, path, value)), encoding="utf-8")
            read_or_refuse(lambda: load_model_folder(nano))


@pytest.mark.parametrize(
    ("dtype", "accepted"), [(torch.bfloat16, True), (torch.float64, True), (torch.float16, True), (torch.int8, False)]
)
def test_weights_of_other_formats_are_converted_or_refused(nano: Path, dtype: torch.dtype, accepted: bool) -> None:
    folder = load_model_folder(EMBEDDED_FOLDER)
    state = folder.state_dict() | {"head.box.bias": folder.state_dict()["head.box.bias"].to(dtype)}
    (nano / "source.json").unlink()
    (nano / "model.safetensors").unlink()
    save_file(state, nano / "model.safetensors")
    if accepted:
        assert load_model_folder(nano).state_dict()["head.box.bias"].dtype == torch.float32
    else:
        with pytest.raises(InputError, match=r"head\.box\.bias.*I8"):
            load_model_folder(nano)


def test_every_field_of_an_adapter_may_hold_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_adapter(path, prompt_adapter())
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    meta = json.loads(header["__metadata__"]["glip"])
    texts = [json.dumps(with_value(meta, place, value)) for place in fields_of(meta) for value in ODD]
    mutated = [header | {"__metadata__": {"glip": text}} for text in texts]
    mutated += [with_value(header, place, value) for place in fields_of(header) for value in ODD]
    read = 0
    for one in mutated:
        text = json.dumps(one).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])
        read += read_or_refuse(lambda: load_adapter(path))
    assert 0 < read < len(mutated)
    for size in (0, 2**20, 2**63):
        path.write_bytes(struct.pack("<Q", size) + content[8:])
        assert not read_or_refuse(lambda: load_adapter(path))


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(0, 48),
        torch.zeros(4, 48),
        torch.full((256, 48), float("nan")),
        torch.ones(256, 48, dtype=torch.int32),
    ],
)
def test_a_prompt_of_other_rows_or_values_is_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    save_adapter(tmp_path / "a", replace(prompt_adapter(), tensors={"prompt_offset": tensor}))
    with pytest.raises(InputError, match="prompt_offset"):
        load_adapter(tmp_path / "a").put_on(tiny_model())


# Among them one that stores beyond any memo, one that pops from nothing, unknown codes, archives without content.
PICKLES = [
    b"",
    b".",
    b"\x80\x02r\xff\xff\xff\x7f.",
    b"0.",
    b"(" * 100,
    b"\xff",
    b"ustarustarustar",
    b"PK\x03\x04" + b"\0" * 30,
]


@pytest.mark.parametrize("content", PICKLES)
def test_malformed_pickles_are_refused(tmp_path: Path, content: bytes) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    plain.write_bytes(content)
    torch.save({"a": torch.zeros(3)}, tmp_path / "good.pth")
    with zipfile.ZipFile(tmp_path / "good.pth") as good, zipfile.ZipFile(packed, "w") as out:
        for name in good.namelist():
            out.writestr(name, content if name.endswith("data.pkl") else good.read(name))
    for path in (plain, packed):
        assert not read_or_refuse(lambda file=path: read_state_file(file))  # type: ignore[misc]


def test_archives_that_unpack_to_more_than_their_size_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("archive/data.pkl", b"\0" * 10_000_000)
    with pytest.raises(InputError, match=r"data\.pkl"):
        read_state_file(tmp_path / "bomb.pth")


def test_a_cache_that_cannot_be_made_is_named_with_its_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    monkeypatch.setenv("GLIP_HOME", str(tmp_path / "file" / "home"))
    for model in ("glip-t", str(tmp_path / "x.pth")):
        with pytest.raises(JobFailed, match="GLIP_HOME"):
            open_model(model, offline=True)
    assert open_model("nano").name == "nano"
