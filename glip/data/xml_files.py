"""Reads XML annotation files in bounded memory: without entities or document types, and of bounded size."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

import defusedxml.ElementTree as SafeET
from defusedxml import DefusedXmlException

from glip.errors import InputError
from glip.files import read_content

MAX_BYTES = 32_000_000  # of the annotations of one image


def read_xml(path: Path, what: str) -> ET.Element:
    """Returns the root of an XML file.

    Args:
        path: the file.
        what: what it should be, for the message: "an annotation file of Pascal VOC".

    Raises:
        InputError: the file cannot be read, is too large, is not XML, or declares entities.
    """
    content = read_content(path, what, MAX_BYTES)
    try:
        root: ET.Element = SafeET.fromstring(content, forbid_dtd=True)
    except DefusedXmlException as error:
        raise InputError(
            f"{path} declares a document type or entities, which annotation files do not need and which can be used "
            f"to fill the memory: {error}. Remove the declaration."
        ) from error
    except (ET.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path} is not {what}: {error}.") from error
    return root


def number(text: str | None, what: str, path: Path) -> float:
    """Returns the finite number that a text is.

    Raises:
        InputError: it is none; the message names the file, what it is, and the text.
    """
    try:
        value = float((text or "")[:40])
    except ValueError:
        value = float("nan")
    if not abs(value) <= 1e9:
        found = "missing" if text is None else repr(text[:40])
        raise InputError(f"{path}: {what} is {found}; it must be a number of pixels.")
    return value
