"""Lists images at addresses, with names that are safe as file names.

A key of an object store can be any text, '../../x.jpg' included; names are made of harmless parts only.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from urllib.parse import unquote

from glip.files import path_text
from glip.images.remote import RemoteFile, client_for, find_page, list_store, shown

# Characters that some system does not allow in a path, or gives a meaning.
_HARMFUL = re.compile(r"[\x00-\x1f\x7f\\]")


def list_remote(
    given: Sequence[str], listed: Iterable[str], taken: Collection[str], wants: Callable[[str], bool]
) -> dict[str, RemoteFile]:
    """Returns the images at addresses, each once, by a unique name.

    A name is relative to the given folder, or the last part of the address; images that would share a name are named by
    their whole address.

    Args:
        given: addresses from the user, which are looked up now: folders and objects in stores, web addresses.
        listed: addresses in list files. Their servers are not contacted now; a bad one becomes an unreadable image.
        taken: names of other images.
        wants: returns whether the name of a file in a folder is that of an image that is read.

    Raises:
        InputError: an address cannot be used, or there is nothing at a given one.
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
            # An object given by its own name need not look like an image.
            found = [(name, file) for name, file in list_store(source) if file.url == source or _is_wanted(name, wants)]
        for name, file in found:
            files.setdefault(file.url, file)
            short.setdefault(file.url, _clean(name))
    clients = set()
    for url in map(_normal, listed):
        scheme, _, rest = url.partition("://")
        server = scheme, rest.partition("/")[0]
        if server not in clients:
            client_for(url)
            clients.add(server)
        files.setdefault(url, RemoteFile(url))
        short.setdefault(url, _clean(_last(url)))
    return {name: files[url] for url, name in _unique(short, taken).items()}


def _normal(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme.lower()}://{rest}"


def _is_wanted(name: str, wants: Callable[[str], bool]) -> bool:
    return not any(part.startswith(".") and part.strip(".") for part in name.split("/")) and wants(name)


def _unique(short: Mapping[str, str], taken: Collection[str]) -> dict[str, str]:
    """Returns for every address the shortest name that no other image has, whatever their order.

    Names that differ in case or in the form of accents only count as one, as they do on some disks. Every address has a
    longest name that is its own, so that no crafted address can take the name of another.
    """
    forms = (lambda url: short[url], _whole, lambda url: _hashed(url, 12), lambda url: _hashed(url, 64))
    level = dict.fromkeys(short, 0)
    while True:
        names = {url: forms[length](url) for url, length in level.items()}
        used = Counter(map(_on_disk, [*names.values(), *taken]))
        longer = [url for url, name in names.items() if used[_on_disk(name)] > 1 and level[url] < len(forms) - 1]
        if not longer:
            return names
        for url in longer:
            level[url] += 1


def _on_disk(name: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _whole(url: str) -> str:
    return _clean(_path(url))


def _hashed(url: str, length: int = 12) -> str:
    # These differ in the secret part only, which a hash does not reveal.
    stem, dot, suffix = _whole(url).rpartition(".")
    digest = hashlib.sha256(url.encode("utf-8", "surrogateescape")).hexdigest()[:length]
    return f"{stem}-{digest}.{suffix}" if dot and "/" not in suffix else f"{_whole(url)}-{digest}"


def _last(url: str) -> str:
    return _path(url).rstrip("/").rpartition("/")[2]


def _path(url: str) -> str:
    """Returns server and path of an address, as people write them."""
    server, slash, path = shown(url).partition("://")[2].partition("/")
    if url.startswith("http"):
        path = unquote(path, errors="replace")
    return server.replace(":", "_") + slash + path  # some systems forbid the colon before a port in file names


def _clean(name: str) -> str:
    harmless = _HARMFUL.sub("_", path_text(name))
    return "/".join("_" if part in ("", ".", "..") else part for part in harmless.split("/"))
