"""Reads what to find from the options of `glip label`: names, a benchmark, a class file, captions or an adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from glip.errors import InputError

if TYPE_CHECKING:
    from glip.labeling.classes import ClassFile
    from glip.labeling.image_prompts import PromptPlan


def prompts_and_classes(
    prompt: str | None,
    classes: Path | None = None,
    tokens_positive: str | None = None,
    captions: str | None = None,
    adapter: Path | None = None,
) -> tuple[PromptPlan, ClassFile | None]:
    """Returns the prompts of a job, and the classes they stand for if they are more than names.

    Args:
        prompt: 'person . dog .', '@names.txt', or '@coco' and other benchmarks, whose category ids are kept; with
            `tokens_positive`, one caption.
        classes: a class file.
        tokens_positive: the character ranges of each phrase in the caption, as JSON.
        captions: a file with each image's own caption, or 'sidecar'.
        adapter: supplies the names it was tuned on, if nothing else is given.

    Raises:
        InputError: nothing to find is given, options exclude each other, or one cannot be used.
    """
    from glip.labeling.image_prompts import CaptionSource

    if captions is not None:
        if prompt or classes:
            raise InputError("--captions excludes --prompt and --classes. Leave them out.")
        return CaptionSource(captions), None
    if tokens_positive is not None:
        return _caption(prompt, classes, tokens_positive), None
    if prompt is None and classes is None and adapter is not None:
        return _of_adapter(adapter)
    return names_and_classes(prompt, classes)


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
    from glip.names import split_names

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


def _caption(caption: str | None, classes: Path | None, ranges: str) -> PromptPlan:
    from glip.labeling.captions import parse_spans
    from glip.prompts import Prompt

    if caption is None or classes is not None:
        raise InputError("--tokens-positive needs a caption in --prompt, and excludes --classes.")
    return Prompt.from_caption(caption, parse_spans(ranges))


def _of_adapter(path: Path) -> tuple[PromptPlan, ClassFile | None]:
    from glip.labeling.classes import ClassFile
    from glip.prompts import Prompt
    from glip.weights.adapter import load_adapter

    adapter = load_adapter(path)
    meaning = None
    if adapter.category_ids and len(set(adapter.names)) == len(adapter.names):
        meaning = replace(ClassFile.from_phrases(adapter.names), ids=adapter.category_ids)
    if adapter.spans and adapter.caption:
        return Prompt.from_caption(adapter.caption, adapter.spans, adapter.names), meaning
    return adapter.names, meaning
