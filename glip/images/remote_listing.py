"""Finds images at addresses, and names them as results can hold them.

A key of an object store is any text, '../../x.jpg' included: names are made of harmless parts only.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from urllib.parse import unquote

from glip.images.remote import RemoteFile, client_for, find_page, list_store, shown

# What a path cannot hold, or understands as more than a letter, on one system or another.
_HARMFUL = re.compile(r"[\x00-\x1f\x7f\\]")


def list_remote(
    given: Sequence[str], listed: Iterable[str], taken: Collection[str], is_image: Callable[[str], bool]
) -> dict[str, RemoteFile]:
    """The images at addresses, each once, by a name of its own.

    Args:
        given: asked for by the user, so they are looked up now: folders and objects in stores, web addresses.
        listed: lines of list files. Nobody asks their servers now; what is wrong with one is its image's fault.
        taken: names of other images.
        is_image: whether the name of a file in a folder is that of an image.

    Returns:
        Names are relative to the folder given, or the last part of the address; images that would share one are
        named by their whole address.

    Raises:
        InputError: an address cannot be used, or there is nothing at one that was given.
        MissingExtra: a client is not installed.
        JobFailed: a server does not answer.
    """
    short: dict[str, str] = {}
    files: dict[str, RemoteFile] = {}
    for source in map(_normal, given):
        if source.startswith("http"):
            client_for(source)
            found = [(_last(source), find_page(source))]
        else:
            # What is asked for by its own name need not look like an image.
            found = [
                (name, file) for name, file in list_store(source) if file.url == source or _is_wanted(name, is_image)
            ]
        for name, file in found:
            files.setdefault(file.url, file)
            short.setdefault(file.url, _clean(name))
    clients = set()
    for url in map(_normal, listed):
        scheme, _, rest = url.partition("://")
        place = scheme, rest.partition("/")[0]
        if place not in clients:
            client_for(url)
            clients.add(place)
        files.setdefault(url, RemoteFile(url))
        short.setdefault(url, _clean(_last(url)))
    return {name: files[url] for url, name in _unique(short, taken).items()}


def _normal(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme.lower()}://{rest}"


def _is_wanted(name: str, is_image: Callable[[str], bool]) -> bool:
    return is_image(name) and not any(part.startswith(".") and part.strip(".") for part in name.split("/"))


def _unique(short: Mapping[str, str], taken: Collection[str]) -> dict[str, str]:
    """A name for every address: the shortest that no other image has. It does not depend on the order."""
    names = dict(short)
    used = Counter([*names.values(), *taken])
    for lengthen in (_whole, _hashed):
        names = {url: name if used[name] == 1 else lengthen(url) for url, name in names.items()}
        used = Counter([*names.values(), *taken])
    return names


def _whole(url: str) -> str:
    return _clean(_path(url))


def _hashed(url: str) -> str:
    # The part that is not shown tells these apart: its hash does not give it away.
    stem, dot, suffix = _whole(url).rpartition(".")
    digest = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:12]
    return f"{stem}-{digest}.{suffix}" if dot and "/" not in suffix else f"{_whole(url)}-{digest}"


def _last(url: str) -> str:
    return _path(url).rstrip("/").rpartition("/")[2]


def _path(url: str) -> str:
    """Server and path of an address, as people would write them."""
    place, slash, path = shown(url).partition("://")[2].partition("/")
    if url.startswith("http"):
        path = unquote(path, errors="replace")
    return place.replace(":", "_") + slash + path  # not every system takes the sign before a port in a file's name


def _clean(name: str) -> str:
    harmless = _HARMFUL.sub("_", name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace"))
    return "/".join("_" if part in ("", ".", "..") else part for part in harmless.split("/"))
