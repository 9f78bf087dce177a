"""The class file: the prompts of each class, with thresholds, COCO ids and negatives.

    person:
      prompts: [person, pedestrian]    # several prompts, one class
      conf: 0.4
      id: 1                            # category id in COCO files
      negative: [mannequin]            # a box that scores higher as this is not a person
    dog: a small dog                   # one prompt
    cat:                               # the name is the prompt

A plain list of names, or of single `name: ...` entries, is accepted as well, and so are files of other tools that hold
names: one per line, YOLO's data.yaml, COCO files (see `glip.name_files`). Knows YAML and words; knows nothing of
boxes, tokens or the model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Never

from yaml.error import Mark
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from glip.errors import InputError, did_you_mean, shortened
from glip.name_files import NamedClasses, read_names
from glip.names import find_names, name_key
from glip.yaml_files import compose

_YAML = (".yaml", ".yml", ".json")
_NO_PLAIN_NAME = re.compile(r"^[-\[{\"'&*!|>%@]|[:,;\t]")  # of a file with one name per line
_START = Mark("", 0, 0, 0, None, 0)  # of names that have no place of their own
FIELDS = ("prompts", "conf", "id", "negative")


@dataclass(frozen=True)
class ClassFile:
    """Classes and the phrases to look for. Plain data, so that JSON can hold it.

    Attributes:
        names: of the classes, in the order of the file.
        phrases: everything to look for, in the order of the caption: the prompts of the classes, then the negatives.
        class_of: per phrase, the index of its class; None for a phrase that is only a negative, or unused.
        negative_of: per phrase, the classes whose boxes it may claim.
        conf: per class, its threshold, or None for the common one.
        ids: per class, its COCO category id, positive and unique.
    """

    names: tuple[str, ...]
    phrases: tuple[str, ...]
    class_of: tuple[int | None, ...]
    negative_of: tuple[tuple[int, ...], ...]
    conf: tuple[float | None, ...]
    ids: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuses parts that do not belong together, as a damaged file may hold; msgspec shows the message."""
        if not len(self.names) == len(self.conf) == len(self.ids):
            raise ValueError(f"{len(self.names)} names, {len(self.conf)} thresholds and {len(self.ids)} ids")
        if not len(self.phrases) == len(self.class_of) == len(self.negative_of):
            raise ValueError(f"{len(self.phrases)} phrases, {len(self.class_of)} classes of them")
        indices = [index for index in self.class_of if index is not None]
        indices += (index for claimed in self.negative_of for index in claimed)
        if not all(0 <= index < len(self.names) for index in indices):
            raise ValueError(f"a phrase of a class that is none of the {len(self.names)}")

    @classmethod
    def from_phrases(cls, phrases: Sequence[str]) -> ClassFile:
        """Makes every phrase a class; a phrase that occurs twice in the prompt is one class."""
        names = tuple(dict.fromkeys(phrases))
        index_of = {name: index for index, name in enumerate(names)}
        return cls(
            names=names,
            phrases=tuple(phrases),
            class_of=tuple(index_of[phrase] for phrase in phrases),
            negative_of=((),) * len(phrases),
            conf=(None,) * len(names),
            ids=tuple(range(1, len(names) + 1)),
        )

    def for_phrases(self, recorded: Sequence[str]) -> ClassFile:
        """Returns the same classes for the phrases of an earlier run, in its order.

        Args:
            recorded: the phrases of that run. Phrases that this file does not name belong to no class.

        Raises:
            InputError: this file names a phrase that the run did not look for.
        """
        found = find_names(self.phrases, recorded)
        missing = [phrase for phrase, index in zip(self.phrases, found, strict=True) if index is None]
        if missing:
            raise InputError(
                f"The class file names {missing[0]!r}, but these images were labelled without it ({len(missing)} such "
                f"phrases). Label again with this class file, or remove the phrase from it."
            )
        indices = find_names(recorded, self.phrases)
        return ClassFile(
            names=self.names,
            phrases=tuple(recorded),
            class_of=tuple(None if index is None else self.class_of[index] for index in indices),
            negative_of=tuple(() if index is None else self.negative_of[index] for index in indices),
            conf=self.conf,
            ids=self.ids,
        )


def load_class_file(path: str | Path) -> ClassFile:
    """Reads and checks a class file.

    Raises:
        InputError: it cannot be read or used; the message names the file, the line and what is accepted there.
    """
    path = Path(path)
    found = read_names(path, lists=False)
    if isinstance(found, NamedClasses):
        return _Reader(path).named(found)
    lines = [line.strip() for line in found.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if lines and path.suffix.lower() not in _YAML and not any(_NO_PLAIN_NAME.search(line) for line in lines):
        return _Reader(path).named(NamedClasses(tuple(lines)))
    return _Reader(path).classes(compose(found, str(path)))


@dataclass(frozen=True)
class _Entry:
    """One class of the file, with the position of each part for messages."""

    name: str
    node: Node
    prompts: tuple[tuple[str, Node], ...]
    negative: tuple[tuple[str, Node], ...] = ()
    conf: float | None = None
    id: int | None = None


@dataclass(frozen=True)
class _Reader:
    path: Path

    def fail(self, node: Node, message: str) -> Never:
        raise InputError(f"{self.path}, line {node.start_mark.line + 1}: {message}")

    def classes(self, root: Node | None) -> ClassFile:
        if root is None or not root.value:
            raise InputError(f"The class file {self.path} is empty. Write one class name per line, each after a dash.")
        if not isinstance(root, SequenceNode | MappingNode):
            self.fail(root, f"expected a list of names or `name: ...` entries, found {_show(root)}.")
        entries = [self.entry(*pair) for pair in self.pairs(root)]
        self.check_names(entries)
        return self.assemble(entries)

    def named(self, found: NamedClasses) -> ClassFile:
        """Returns classes of names alone, such as those of a data.yaml."""
        nodes = [ScalarNode("tag:yaml.org,2002:str", name, _START, _START) for name in found.names]
        ids = found.ids or (None,) * len(nodes)
        entries = [
            _Entry(name, node, ((name, node),), id=id)
            for node, id in zip(nodes, ids, strict=True)
            if (name := self.text(node, "a class name"))
        ]
        self.check_names(entries)
        return self.assemble(entries)

    def pairs(self, root: Node) -> list[tuple[Node, Node | None]]:
        """Returns the name and the content of every class."""
        if isinstance(root, MappingNode):
            return list(root.value)
        pairs: list[tuple[Node, Node | None]] = []
        for item in root.value:
            if isinstance(item, MappingNode) and len(item.value) == 1:
                pairs.extend(item.value)
            elif isinstance(item, MappingNode):
                self.fail(item, "an entry of a list names one class; indent its fields below the name.")
            else:
                pairs.append((item, None))
        return pairs

    def entry(self, name_node: Node, node: Node | None) -> _Entry:
        name = self.text(name_node, "a class name")
        if node is None or _is_null(node):
            return _Entry(name, name_node, ((name, name_node),))
        if not isinstance(node, MappingNode):
            return _Entry(name, name_node, self.phrases(node, f"prompts of {name!r}"))
        fields = self.fields(name, node)
        prompts = fields.get("prompts")
        negative = fields.get("negative")
        return _Entry(
            name=name,
            node=name_node,
            prompts=((name, name_node),) if prompts is None else self.phrases(prompts, f"prompts of {name!r}"),
            negative=() if negative is None else self.phrases(negative, f"negatives of {name!r}"),
            conf=self.conf(fields["conf"]) if "conf" in fields else None,
            id=self.id(fields["id"]) if "id" in fields else None,
        )

    def fields(self, name: str, node: MappingNode) -> dict[str, Node]:
        fields: dict[str, Node] = {}
        for key_node, value in node.value:
            key = self.text(key_node, "a field name")
            if key not in FIELDS:
                hint = did_you_mean(key, {field: f"`{field}`" for field in FIELDS})
                self.fail(key_node, f"{name!r} has no field {key!r}.{hint} Accepted: {', '.join(FIELDS)}.")
            if key in fields:
                self.fail(key_node, f"{name!r} has `{key}` twice.")
            fields[key] = value
        return fields

    def text(self, node: Node, what: str) -> str:
        if not isinstance(node, ScalarNode):
            self.fail(node, f"expected {what}, found {_show(node)}.")
        if node.tag != "tag:yaml.org,2002:str":
            # YAML reads a bare no, on, 7 or null as another type than text.
            self.fail(node, f"expected {what}, found {_show(node)}; put it in quotes to use it as text.")
        if not node.value.strip():
            self.fail(node, f"expected {what}, found nothing.")
        if not node.value.isprintable():
            self.fail(node, f"{what} must be one line without control characters, not {shortened(node.value)!r}.")
        return node.value.strip()

    def phrases(self, node: Node, what: str) -> tuple[tuple[str, Node], ...]:
        if isinstance(node, MappingNode):
            self.fail(node, f"{what}: expected a phrase or a list of phrases, found {_show(node)}.")
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        if not nodes:
            self.fail(node, f"{what}: the list is empty.")
        return tuple((self.text(item, f"a phrase ({what})"), item) for item in nodes)

    def conf(self, node: Node) -> float:
        value = _number(node)
        if value is None or not 0 <= value <= 1:
            self.fail(node, f"`conf` is {_show(node)}; it must be a score between 0 and 1.")
        return value

    def id(self, node: Node) -> int:
        value = _number(node)
        if value is None or node.tag != "tag:yaml.org,2002:int" or not 0 < value < 2**31:
            self.fail(node, f"`id` is {_show(node)}; it must be a whole number from 1.")
        return int(value)

    def check_names(self, entries: Sequence[_Entry]) -> None:
        names: dict[str, Node] = {}
        ids: dict[int, str] = {}
        for entry in entries:
            if entry.name in names:
                self.fail(
                    entry.node,
                    f"class {entry.name!r} is already defined in line {names[entry.name].start_mark.line + 1}.",
                )
            names[entry.name] = entry.node
            if entry.id is not None and entry.id in ids:
                self.fail(entry.node, f"id {entry.id} of {entry.name!r} is already the id of {ids[entry.id]!r}.")
            if entry.id is not None:
                ids[entry.id] = entry.name

    def assemble(self, entries: Sequence[_Entry]) -> ClassFile:
        spelling: dict[str, str] = {}
        owner: dict[str, int] = {}
        claims: dict[str, list[int]] = {}
        for index, entry in enumerate(entries):
            for phrase, node in entry.prompts:
                key = name_key(phrase)
                if key in owner:
                    self.fail(node, f"{phrase!r} is already a prompt of {entries[owner[key]].name!r}.")
                spelling[key], owner[key] = phrase, index
        for index, entry in enumerate(entries):
            for phrase, node in entry.negative:
                key = name_key(phrase)
                if owner.get(key) == index:
                    self.fail(node, f"{phrase!r} is both a prompt and a negative of {entry.name!r}.")
                if index in claims.setdefault(key, []):
                    self.fail(node, f"{phrase!r} is already a negative of {entry.name!r}.")
                spelling.setdefault(key, phrase)
                claims[key].append(index)
        return ClassFile(
            names=tuple(entry.name for entry in entries),
            phrases=tuple(spelling.values()),
            class_of=tuple(owner.get(key) for key in spelling),
            negative_of=tuple(tuple(claims.get(key, ())) for key in spelling),
            conf=tuple(entry.conf for entry in entries),
            ids=_fill([entry.id for entry in entries]),
        )


def _fill(ids: Sequence[int | None]) -> tuple[int, ...]:
    """Returns the ids with the smallest free one for every class that has none."""
    taken = {number for number in ids if number is not None}
    free = (number for number in range(1, len(ids) + len(taken) + 1) if number not in taken)
    return tuple(next(free) if number is None else number for number in ids)


def _is_null(node: Node) -> bool:
    return isinstance(node, ScalarNode) and node.tag == "tag:yaml.org,2002:null"


def _number(node: Node) -> float | None:
    """Returns the number that a scalar spells, None for anything else."""
    if not isinstance(node, ScalarNode) or node.tag not in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float"):
        return None
    try:
        return float(node.value)
    except ValueError:  # YAML also knows .nan, 0x10 and 1:30
        return None


def _show(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "`name: value` lines"
    if isinstance(node, SequenceNode):
        return "a list"
    kind = {"null": "nothing", "bool": "yes/no", "int": "a number", "float": "a number", "timestamp": "a date"}
    what = kind.get(node.tag.rsplit(":", 1)[-1])
    return f"`{shortened(node.value)}`" + (f" ({what})" if what else "")
