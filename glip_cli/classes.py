"""Reads what to find from the words of a command line: names, the names of a benchmark, or a class file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from glip.errors import InputError

if TYPE_CHECKING:
    from glip.labeling.captions import Spans
    from glip.labeling.classes import ClassFile


def names_and_classes(prompt: str | None, classes: Path | None) -> tuple[tuple[str, ...], ClassFile | None]:
    """Returns the phrases to find, and the classes they stand for if they are more than names.

    Args:
        prompt: 'person . dog .', '@names.txt', or '@coco' and other benchmarks, whose category ids are kept.
        classes: a class file.

    Raises:
        InputError: both or neither are given, or one cannot be used.
    """
    from glip.data.class_lists import find_in_prompt
    from glip.labeling.classes import ClassFile, load_class_file
    from glip.prompts import split_names

    if prompt is None and classes is None:
        raise InputError("There is nothing to find. Give --prompt 'person . dog .' or --classes FILE.")
    if prompt is not None and classes is not None:
        raise InputError("--prompt and --classes exclude each other. Leave one of them out.")
    if classes is not None:
        read = load_class_file(classes)
        return read.phrases, read
    assert prompt is not None
    class_list = find_in_prompt(prompt)
    if class_list is not None:
        names = tuple(class_list.id_of_name)
        return names, replace(ClassFile.from_phrases(names), ids=tuple(class_list.id_of_name.values()))
    return tuple(dict.fromkeys(split_names(prompt))), None


def spans_and_phrases(caption: str | None, classes: Path | None, ranges: str) -> tuple[Spans, tuple[str, ...]]:
    """Returns the character ranges of the phrases in a caption, and the phrases themselves.

    Args:
        caption: the value of --prompt.
        classes: must be None.
        ranges: the character ranges of each phrase, as JSON.

    Raises:
        InputError: the caption is missing, a class file is given, or a range cannot be used.
    """
    from glip.labeling.captions import parse_spans
    from glip.prompts import Prompt

    if caption is None or classes is not None:
        raise InputError("--tokens-positive needs a caption in --prompt, and excludes --classes.")
    prompt = Prompt.from_caption(caption, parse_spans(ranges))
    return prompt.spans, prompt.phrases


def classes_of_adapter(path: Path) -> tuple[tuple[str, ...], ClassFile | None, str | None, Spans]:
    """Returns the names an adapter was tuned on, their classes, its caption, and their character ranges in it.

    Args:
        path: of the adapter.

    Raises:
        InputError: the adapter cannot be read.
    """
    from glip.labeling.classes import ClassFile
    from glip.weights.adapter import load_adapter

    adapter = load_adapter(path)
    meaning = None
    if adapter.category_ids and len(set(adapter.names)) == len(adapter.names):
        meaning = replace(ClassFile.from_phrases(adapter.names), ids=adapter.category_ids)
    return adapter.names, meaning, adapter.caption or None, adapter.spans
