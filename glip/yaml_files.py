"""Reads YAML with one-sentence errors: the only reader of class files, settings and data.yaml.

Values are built from text alone. Anchors, aliases and tags of other types are refused, because a few lines of them can
mean billions of values; dates stay text. Knows nothing of what a file holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from glip.errors import InputError

_TAG = "tag:yaml.org,2002:"
_TEXT = ("str", "timestamp", "merge", "value")


def compose(text: str, where: str) -> Node | None:
    """Returns the nodes of a YAML text, with the place of each; None if it is empty.

    Args:
        text: of one document.
        where: the beginning of a message: the name of the file.

    Raises:
        InputError: it is not YAML, has anchors or aliases, a key twice, or is nested too deeply.
    """
    try:
        return _Loader(text).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise InputError(
            f"{where}{line}: this is not YAML that can be read: {error.problem or error.context}."
        ) from error
    except yaml.YAMLError as error:
        raise InputError(f"{where}: this is not YAML: {' '.join(str(error).split())}.") from error
    except (ValueError, OverflowError) as error:  # an escape beyond Unicode
        raise InputError(f"{where}: this is not YAML: {error}.") from error
    except RecursionError as error:
        raise InputError(f"{where}: its lists and mappings are nested too deeply.") from error


def plain_values(node: Node | None, where: str) -> Any:
    """Returns a node as dict, list, text, number, bool or None.

    Raises:
        InputError: a value is not of its type, a tag is not accepted, or a mapping has a key twice.
    """
    if node is None:
        return None
    if isinstance(node, SequenceNode):
        _check_tag(node, "seq", where)
        return [plain_values(item, where) for item in node.value]
    if isinstance(node, MappingNode):
        _check_tag(node, "map", where)
        return _mapping(node, where)
    if not isinstance(node, ScalarNode):
        _fail(node, where, "expected text, a number, a list or a mapping.")
    kind = node.tag.removeprefix(_TAG)
    if kind in _TEXT:
        return node.value
    if kind not in _SCALARS:
        _fail(node, where, f"the tag {node.tag!r} is not accepted; write text, a number, true, false or null.")
    try:
        return _SCALARS[kind](node)
    except (ValueError, KeyError, IndexError, AttributeError, OverflowError):
        _fail(node, where, f"{node.value[:60]!r} is not a value of the type {kind}.")


def load_yaml(text: str, where: str) -> Any:
    """Returns the content of a YAML text as plain values; see `compose` and `plain_values`.

    Raises:
        InputError: as there.
    """
    return plain_values(compose(text, where), where)


class _Loader(yaml.SafeLoader):
    """Composes nodes without anchors."""

    def compose_node(self, parent: Node | None, index: int) -> Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None):
            raise yaml.MarkedYAMLError(
                problem="anchors (&) and aliases (*) are not accepted", problem_mark=event.start_mark
            )
        return super().compose_node(parent, index)


def _mapping(node: MappingNode, where: str) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    for key_node, value in node.value:
        if not isinstance(key_node, ScalarNode):
            _fail(key_node, where, "a key is a list or a mapping; it must be text.")
        key = plain_values(key_node, where)
        if key in values:
            _fail(key_node, where, f"the key {key!r} is there twice.")
        values[key] = plain_values(value, where)
    return values


def _check_tag(node: Node, kind: str, where: str) -> None:
    if node.tag != _TAG + kind:
        _fail(node, where, f"the tag {node.tag!r} is not accepted.")


def _fail(node: Node, where: str, message: str) -> Never:
    raise InputError(f"{where}, line {node.start_mark.line + 1}: {message}")


_constructor = yaml.constructor.SafeConstructor()
_SCALARS: dict[str, Callable[[ScalarNode], Any]] = {
    "int": _constructor.construct_yaml_int,
    "float": _constructor.construct_yaml_float,
    "bool": _constructor.construct_yaml_bool,
    "null": lambda node: None,
}
