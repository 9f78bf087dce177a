"""Image formats by suffix: those that are read, those that need a plug-in, and those that are not read.

A file of the last kind in a folder is an image that a person expects to be labelled, so it is counted and named.
Knows names and first bytes of files. Opens no image.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from importlib import import_module
from importlib.util import find_spec

from glip.left_out import LeftOut, first_examples

# fmt: off
# Always read by Pillow.
IMAGE_SUFFIXES = frozenset((
    ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif",
    ".jp2", ".j2k", ".jpf", ".jpx", ".j2c", ".jpc", ".ppm", ".pgm", ".pbm", ".pnm", ".qoi",
))
HEIF_SUFFIXES = frozenset((".heic", ".heif", ".hif", ".heics", ".heifs"))
RAW_SUFFIXES = frozenset((
    ".dng", ".cr2", ".cr3", ".crw", ".nef", ".nrw", ".arw", ".srf", ".sr2", ".raf", ".orf", ".rw2", ".rwl", ".pef",
    ".srw", ".3fr", ".fff", ".iiq", ".mos", ".mrw", ".x3f", ".erf", ".kdc", ".dcr", ".mef", ".gpr", ".raw",
))
_OTHER_SUFFIXES = frozenset((
    ".psd", ".psb", ".xcf", ".kra", ".tga", ".dds", ".pcx", ".sgi", ".ras", ".xbm", ".xpm", ".ico", ".icns",
    ".svg", ".svgz", ".pdf", ".eps", ".ai", ".wmf", ".emf", ".djvu", ".exr", ".hdr", ".pfm", ".jxl", ".jxr", ".wdp",
    ".hdp", ".jls", ".bpg", ".flif", ".dcm", ".dicom", ".fits", ".czi", ".nd2", ".lif", ".svs", ".ndpi", ".mrxs",
    ".pam", ".dib",
))
# fmt: on
_HEIF_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
INSTALL_HEIF = "pip install 'glip[heic]'"


def suffix_of(name: str) -> str:
    """Returns the suffix of a file's name in lower case, with its dot; "" if it has none."""
    base = name[max(name.rfind("/"), name.rfind("\\")) + 1 :]
    dot = base.rfind(".")
    return base[dot:].lower() if dot >= 0 else ""


def is_image(name: str) -> bool:
    """Returns whether a file of this name is read as an image."""
    return suffix_of(name) in readable_suffixes()


def is_unread_image(name: str) -> bool:
    """Returns whether a file of this name is an image of a format that is not read."""
    suffix = suffix_of(name)
    return suffix in _known_unread() and suffix not in readable_suffixes()


@cache
def readable_suffixes() -> frozenset[str]:
    """Returns the suffixes of images that are read here: some formats need a plug-in of Pillow."""
    from PIL import features

    suffixes = IMAGE_SUFFIXES if features.check("avif") or _has("pillow_avif") else IMAGE_SUFFIXES - {".avif"}
    return suffixes | HEIF_SUFFIXES if has_heif() else suffixes


@cache
def _known_unread() -> frozenset[str]:
    return HEIF_SUFFIXES | RAW_SUFFIXES | _OTHER_SUFFIXES | {".avif"}


def has_heif() -> bool:
    """Returns whether Pillow's plug-in for HEIC is installed."""
    return _has("pillow_heif")


def _has(module: str) -> bool:
    return find_spec(module) is not None


def is_heif(start: bytes) -> bool:
    """Returns whether a file that begins with these 12 bytes or more is a HEIC image."""
    return start[4:8] == b"ftyp" and start[8:12] in _HEIF_BRANDS


@cache
def register_plugins() -> None:
    """Makes Pillow read HEIC, and AVIF where Pillow itself does not, if a plug-in is installed."""
    if has_heif():
        import_module("pillow_heif").register_heif_opener()
    if _has("pillow_avif"):
        import_module("pillow_avif")


def left_out_formats(names: Iterable[str]) -> tuple[LeftOut, ...]:
    """Returns the entry about images of formats that are not read; () if there is none."""
    names = list(names)
    if not names:
        return ()
    counts = Counter(map(suffix_of, names))
    kinds = ", ".join(f"{count} {suffix}" for suffix, count in sorted(counts.items(), key=lambda kind: -kind[1])[:8])
    more = f" and {len(counts) - 8} more kinds" if len(counts) > 8 else ""
    advice = f" HEIC is read with Pillow's plug-in: {INSTALL_HEIF}." if HEIF_SUFFIXES & set(counts) else ""
    rest = " Convert the others to JPEG or PNG." if advice and set(counts) - HEIF_SUFFIXES else ""
    sentence = (
        f"{len(names)} {'image is' if len(names) == 1 else 'images are'} left out, because the format is not read: "
        f"{kinds}{more}.{advice}{rest or ('' if advice else ' Convert them to JPEG or PNG.')}"
    )
    return (LeftOut(kind="unread_formats", count=len(names), sentence=sentence, examples=first_examples(names)),)
