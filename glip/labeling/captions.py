"""Reads a caption for each image, with the character ranges of its phrases: the prompts of phrase grounding.

    captions.csv    file_name,caption[,phrases][,spans]
    captions.jsonl  {"file_name": …, "caption": …, "phrases": […], "spans": [[[0, 7]], …]}
    sidecar         photo.txt beside photo.jpg

Rows may give their phrases ('a cat; two couches' in a csv) or the character ranges of each; in the others, noun phrases
are found offline. A phrase is the exact text of the caption, its article included: the models were trained to ground
'A tabby cat'. Knows text and files; knows nothing of pixels, boxes or the model.
"""

from __future__ import annotations

import csv
import io
import logging
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from glip.errors import InputError
from glip.files import decode_json
from glip.images import ImageFile, RemoteFile
from glip.labeling.noun_phrases import locate
from glip.prompts import Prompt, Span

SIDECAR = "sidecar"
# A longer caption has many times the tokens that a model reads; finding phrases in it takes quadratic time.
MAX_CAPTION = 10_000  # characters
COLUMNS = ("file_name", "caption", "phrases", "spans")

Spans = tuple[tuple[Span, ...], ...]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caption:
    """The caption of one image in a source.

    Attributes:
        text: the caption.
        where: file and line, for messages.
        phrases: what to find in the image, as given; () for all noun phrases.
        spans: (P) for each phrase its character ranges; () if they must be found.
    """

    text: str
    where: str
    phrases: tuple[str, ...] = ()
    spans: Spans = ()


@dataclass(frozen=True)
class Captions:
    """The captions of the images of a job.

    Attributes:
        of: captions by the name of the image.
        missing: names of images without a caption, with the reason.
        unknown: file names of rows that belong to no image.
    """

    of: Mapping[str, Caption]
    missing: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


def read_captions(source: str | Path, images: Sequence[ImageFile]) -> Captions:
    """Returns the captions of the images of a job.

    Args:
        source: a .csv or .jsonl file, or `sidecar`.
        images: of the job; rows name images as they do.

    Raises:
        InputError: the file cannot be read or used, or none of its rows belongs to an image. The message names the
            line and what is accepted there.
    """
    if str(source) == SIDECAR:
        return _read_sidecars(images)
    path = Path(source)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}
    if path.suffix.lower() not in readers:
        raise InputError(f"The captions are {str(source)!r}; accepted are a .csv file, a .jsonl file and '{SIDECAR}'.")
    return _match(path, readers[path.suffix.lower()](path), images)


def parse_spans(text: str) -> Spans:
    """Returns character ranges from text: for each phrase a list of [start, end] pairs: [[[0,7]],[[12,17],[20,25]]].

    Raises:
        InputError: the text has another form.
    """
    hint = "Write one list of [start, end] pairs for each phrase, such as [[[0,7]],[[12,17],[20,25]]]."
    return decode_json(text, Spans, repr(shorten(text)), "a list of character ranges", hint=hint, repair=hint)


def _match(path: Path, rows: Iterator[tuple[str, Caption]], images: Sequence[ImageFile]) -> Captions:
    """Assigns the rows of a file to images."""
    names = {_comparable(image.name): image.name for image in images}
    found: dict[str, Caption] = {}
    unknown: list[str] = []
    for file_name, caption in rows:
        name = names.get(_comparable(file_name))
        if name is None:
            unknown.append(file_name)
        elif name in found and _content(found[name]) != _content(caption):
            raise InputError(
                f"{caption.where}: {file_name!r} already has another caption, in {found[name].where}. "
                f"Give one caption per image."
            )
        else:
            found.setdefault(name, caption)
    if not found:
        raise InputError(
            f"No row of {path} belongs to an image. It names {unknown[0]!r}, the images are called "
            f"{images[0].name!r}: names are relative to the folder that is labelled."
            if unknown
            else f"There is no caption in {path}."
        )
    missing = {p.name: f"there is no caption for it in {path}" for p in images if p.name not in found}
    if unknown:
        logger.warning("%d rows of %s belong to no image (first: %r).", len(unknown), path, unknown[0])
    if missing:
        logger.warning("%d images have no caption in %s (first: %r).", len(missing), path, next(iter(missing)))
    return Captions(found, missing, tuple(unknown))


def _comparable(file_name: str) -> str:
    # Spreadsheets and other systems change names: backslashes, accents as one or two characters.
    return unicodedata.normalize("NFC", file_name.replace("\\", "/").removeprefix("./"))


def _content(caption: Caption) -> tuple[object, ...]:
    return caption.text, caption.phrases, caption.spans


def _read_csv(path: Path) -> Iterator[tuple[str, Caption]]:
    text = _text_of(path)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text), strict=True)
    header: list[str] = []
    line = 1
    while True:
        where = f"{path}, line {line}"
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{where}: this is not CSV: {error}. Is a quotation mark left open?") from error
        line = reader.line_num + 1
        if not any(cell.strip() for cell in row):
            continue
        if not header:
            header = _header(where, row)
        elif len(row) != len(header):
            raise InputError(
                f"{where}: there are {len(row)} fields, but {len(header)} columns. Put captions that contain the "
                f"separator in quotation marks."
            )
        else:
            yield _csv_row(where, dict(zip(header, row, strict=True)))


def _delimiter(text: str) -> str:
    """Returns the separator of the header; spreadsheets use the one of their country."""
    header = text.partition("\n")[0]
    return max(",;\t", key=header.count)


def _header(where: str, row: Sequence[str]) -> list[str]:
    header = [name.strip().lower() for name in row]
    for needed in COLUMNS[:2]:
        if header.count(needed) != 1:
            raise InputError(
                f"{where}: the header needs one column {needed!r}; it has {', '.join(header)}. "
                f"Accepted are {', '.join(COLUMNS)}; others are not read."
            )
    return header


def _csv_row(where: str, row: Mapping[str, str]) -> tuple[str, Caption]:
    phrases = tuple(phrase for part in row.get("phrases", "").split(";") if (phrase := part.strip()))
    cell = row.get("spans", "").strip()
    try:
        spans = parse_spans(cell) if cell else ()
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return _row(where, row["file_name"].strip(), row["caption"], phrases, spans)


class _CaptionRow(msgspec.Struct, frozen=True):
    """A line of a .jsonl file; other fields are ignored."""

    file_name: str
    caption: str
    phrases: tuple[str, ...] = ()
    spans: Spans = ()


_CAPTION_ROW = (
    'A line is {"file_name": "a.jpg", "caption": "a cat"}, with "phrases": ["a cat"] or "spans": [[[0, 5]]] as options.'
)


def _read_jsonl(path: Path) -> Iterator[tuple[str, Caption]]:
    for number, text in enumerate(_text_of(path).split("\n"), start=1):
        where = f"{path}, line {number}"
        if not text.strip():
            continue
        line = decode_json(text, _CaptionRow, where, "a caption", hint=_CAPTION_ROW, repair=_CAPTION_ROW)
        yield _row(where, line.file_name, line.caption, line.phrases, line.spans)


def _row(where: str, file_name: str, text: str, phrases: tuple[str, ...], spans: Spans) -> tuple[str, Caption]:
    """Returns a checked row; phrases without ranges get theirs."""
    if not file_name:
        raise InputError(f"{where}: the file name is empty. Give the path of the image, such as a.jpg.")
    if len(text) > MAX_CAPTION:  # only this image is skipped, see `image_prompts`
        return file_name, Caption(text, where)
    try:
        if phrases and not spans:
            spans = tuple((span,) for span in locate(text, phrases))
        if spans:
            Prompt.from_caption(text, spans, phrases or None)
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return file_name, Caption(text, where, phrases, spans)


def _read_sidecars(images: Sequence[ImageFile]) -> Captions:
    found: dict[str, Caption] = {}
    missing: dict[str, str] = {}
    beside = {image.name: _sidecar(image) for image in images}
    for name, path in beside.items():
        if not path.is_file():
            missing[name] = f"there is no caption file {path.name} beside it"
            continue
        try:
            found[name] = Caption(_text_of(path).strip(), str(path))
        except InputError as error:
            missing[name] = str(error).removesuffix(".")
    if not found:
        raise InputError(f"No image has a caption file beside it, such as {beside[images[0].name]}.")
    if missing:
        logger.warning("%d images have no caption file beside them (first: %r).", len(missing), next(iter(missing)))
    return Captions(found, missing)


def _sidecar(image: ImageFile) -> Path:
    if isinstance(image.path, RemoteFile):
        raise InputError(
            f"'{SIDECAR}' captions are files beside images on this disk, but {str(image.path)!r} is on the network. "
            "Give the captions as a .csv or .jsonl file."
        )
    return image.path.with_suffix(".txt")


def _text_of(path: Path) -> str:
    """Returns the text of a file with '\\n' as line ends."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: this is not UTF-8 text. Save the file as UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def shorten(text: str) -> str:
    """Returns a text for a message, cut after 60 characters."""
    return text if len(text) <= 60 else text[:60] + "…"
