"""A caption for each image, and the places of its noun phrases: what phrase grounding asks.

    captions.csv    file_name,caption[,phrases][,spans]
    captions.jsonl  {"file_name": …, "caption": …, "phrases": […], "spans": [[[0, 7]], …]}
    sidecar         photo.txt beside photo.jpg

Rows may give their phrases ('a cat; two couches' in a csv) or the character ranges of each; for the others noun phrases
are found offline. A phrase is the very characters of the caption, its article included: 'A tabby cat' is what the
models were trained to ground. Knows text and files; knows nothing of pixels, boxes or the model.
"""

from __future__ import annotations

import csv
import io
import logging
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from glip.errors import InputError
from glip.images import ImageFile, RemoteFile
from glip.labeling.noun_phrases import locate
from glip.prompts import Prompt, PromptSet, Span, tokenize

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SIDECAR = "sidecar"
COLUMNS = ("file_name", "caption", "phrases", "spans")

Spans = tuple[tuple[Span, ...], ...]

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caption:
    """What a source says of one image.

    Attributes:
        text: the caption.
        where: file and line, for messages.
        phrases: what to find in the image, as given; () if that is left to us.
        spans: (P) for each phrase its character ranges; () if they are to be found.
    """

    text: str
    where: str
    phrases: tuple[str, ...] = ()
    spans: Spans = ()


@dataclass(frozen=True)
class Captions:
    """What a source says of the images of a job.

    Attributes:
        of: by the image's name.
        missing: names of images without one, with the reason.
        unknown: file names of rows that belong to no image.
    """

    of: Mapping[str, Caption]
    missing: Mapping[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaptionPrompts:
    """What to ask of the images of a job.

    Attributes:
        prompts: by the image's name.
        unasked: names of images of which nothing can be asked, with the reason: no caption, no noun phrase in it,
            more tokens than the text encoder reads.
    """

    prompts: Mapping[str, Prompt]
    unasked: Mapping[str, str]

    def prompt_set(self) -> PromptSet:
        """The prompts as labelling takes them.

        Raises:
            InputError: there are none.
        """
        if not self.prompts:
            name, reason = next(iter(self.unasked.items()), ("", "there are no images"))
            raise InputError(f"Nothing can be asked of any of the {len(self.unasked)} images. {name}: {reason}.")
        return PromptSet.from_captions(self.prompts)


def read_captions(source: str | Path, images: Sequence[ImageFile]) -> Captions:
    """The captions of the images of a job.

    Args:
        source: a .csv or .jsonl file, or `sidecar`.
        images: the listing; rows name images as it does.

    Raises:
        InputError: the file cannot be read or used, or none of its rows belongs to an image. The message names the
            line and what is accepted there.
    """
    if str(source) == SIDECAR:
        return _read_sidecars(images)
    path = Path(source)
    readers = {".csv": _read_csv, ".jsonl": _read_jsonl, ".ndjson": _read_jsonl}
    if path.suffix.lower() not in readers:
        raise InputError(f"--captions {str(source)!r} is neither a .csv file, nor a .jsonl file, nor '{SIDECAR}'.")
    return _match(path, readers[path.suffix.lower()](path), images)


def ask(captions: Captions, tokenizer: Tokenizer, find: Callable[[str], Sequence[Span]]) -> CaptionPrompts:
    """Prompts from captions. What is wrong with a single image's caption is noted with that image.

    Args:
        captions: see `read_captions`.
        tokenizer: the checkpoint's; counts the tokens.
        find: finds the noun phrases of captions that come without; see `glip.labeling.noun_phrases`.
    """
    prompts: dict[str, Prompt] = {}
    unasked = dict(captions.missing)
    for name, caption in captions.of.items():
        spans = caption.spans or tuple((span,) for span in find(caption.text))
        if not spans:
            unasked[name] = f"no phrase to look for was found in its caption {_shortened(caption.text)!r}"
            continue
        try:
            prompt = Prompt.from_caption(caption.text, spans, caption.phrases or None)
            tokenize(prompt, tokenizer)
        except InputError as error:
            unasked[name] = str(error).removesuffix(".")
        else:
            prompts[name] = prompt
    return CaptionPrompts(prompts, unasked)


def parse_spans(text: str) -> Spans:
    """Character ranges as they are typed: for each phrase a list of its (start, end): [[[0,7]],[[12,17],[20,25]]].

    Raises:
        InputError: it is something else.
    """
    try:
        return msgspec.json.decode(text, type=Spans)
    except msgspec.DecodeError as error:
        raise InputError(
            f"{_shortened(text)!r} are no character ranges ({error}). Write one list of [start, end] pairs for each "
            f"phrase, such as [[[0,7]],[[12,17],[20,25]]]."
        ) from error


def _match(path: Path, rows: Iterator[tuple[str, Caption]], images: Sequence[ImageFile]) -> Captions:
    """Rows and images brought together."""
    names = {_comparable(image.name): image.name for image in images}
    found: dict[str, Caption] = {}
    unknown: list[str] = []
    for file_name, caption in rows:
        name = names.get(_comparable(file_name))
        if name is None:
            unknown.append(file_name)
        elif name in found and _content(found[name]) != _content(caption):
            raise InputError(
                f"{caption.where}: {file_name!r} has another caption already, in {found[name].where}. "
                f"Give one caption an image."
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
    # What a spreadsheet or another system makes of a name: its own slashes, accents in one or two characters.
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
            raise InputError(f"{where}: this is no CSV: {error}. Is a quotation mark left open?") from error
        line = reader.line_num + 1
        if not any(cell.strip() for cell in row):
            continue
        if not header:
            header = _header(where, row)
        elif len(row) != len(header):
            raise InputError(
                f"{where}: there are {len(row)} fields, but {len(header)} columns. Put captions that hold the "
                f"separator in quotation marks."
            )
        else:
            yield _csv_row(where, dict(zip(header, row, strict=True)))


def _delimiter(text: str) -> str:
    """Spreadsheets write what their country writes: the header tells."""
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


class _Line(msgspec.Struct, frozen=True):
    """A line of a .jsonl file; other fields are not read."""

    file_name: str
    caption: str
    phrases: tuple[str, ...] = ()
    spans: Spans = ()


def _read_jsonl(path: Path) -> Iterator[tuple[str, Caption]]:
    decoder = msgspec.json.Decoder(_Line)
    for number, text in enumerate(_text_of(path).split("\n"), start=1):
        where = f"{path}, line {number}"
        if not text.strip():
            continue
        try:
            line = decoder.decode(text)
        except msgspec.DecodeError as error:
            raise InputError(
                f'{where}: {error}. A line is {{"file_name": "a.jpg", "caption": "a cat"}}, with "phrases": ["a cat"] '
                f'or "spans": [[[0, 5]]] if you like.'
            ) from error
        yield _row(where, line.file_name, line.caption, line.phrases, line.spans)


def _row(where: str, file_name: str, text: str, phrases: tuple[str, ...], spans: Spans) -> tuple[str, Caption]:
    """A row, checked; phrases without ranges get theirs."""
    if not file_name:
        raise InputError(f"{where}: there is no file name.")
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
            missing[name] = f"there is no {path.name} with its caption beside it"
            continue
        try:
            found[name] = Caption(_text_of(path).strip(), str(path))
        except InputError as error:
            missing[name] = str(error).removesuffix(".")
    if not found:
        raise InputError(f"No image has a caption beside it. {beside[images[0].name]} is looked for.")
    if missing:
        logger.warning("%d images have no caption beside them (first: %r).", len(missing), next(iter(missing)))
    return Captions(found, missing)


def _sidecar(image: ImageFile) -> Path:
    if isinstance(image.path, RemoteFile):
        raise InputError(
            f"--captions sidecar looks for files beside images on this disk; {str(image.path)!r} lies elsewhere. "
            "Give the captions as a .csv or .jsonl file."
        )
    return image.path.with_suffix(".txt")


def _text_of(path: Path) -> str:
    """A text file with its line ends as '\\n'."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}, line {line}: this is no UTF-8 text. Save the file as UTF-8.") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _shortened(text: str) -> str:
    return text if len(text) <= 60 else text[:60] + "…"
