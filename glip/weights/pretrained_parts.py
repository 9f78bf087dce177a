"""Loads published weights of the parts that pre-training begins with: Swin from ImageNet, and BERT.

The files are hosted by others on the Hugging Face hub (timm's ports of Microsoft's weights; Google's BERT).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from glip.errors import InputError, JobFailed
from glip.model.config import GLIPConfig
from glip.weights.cache import Fetching, fetched
from glip.weights.convert import State, expected_shapes, some
from glip.weights.tokenizer import MAX_VOCABULARY_BYTES, read_vocabulary
from glip.weights.zoo import BERT_VOCABULARY, hub_url

_MAX_BYTES = 2 << 30  # Swin-L's weights have 0.9 GB
_FILE = "resolve/main/model.safetensors"


@dataclass(frozen=True)
class PublishedPart:
    """A published file of weights for a part of the network.

    Attributes:
        what: its description in messages.
        repository: its repository on the hub.
        file_name: its name in the cache.
    """

    what: str
    repository: str
    file_name: str

    @property
    def url(self) -> str:
        """Returns the address; HF_ENDPOINT replaces the host."""
        return hub_url(f"/{self.repository}/{_FILE}")


# By the channels of the first stage. The published models began with Swin-T from ImageNet-1k at 224 pixels and Swin-L
# from ImageNet-22k at 384.
SWIN: Mapping[int, PublishedPart] = {
    96: PublishedPart(
        "Swin-T's ImageNet weights", "timm/swin_tiny_patch4_window7_224.ms_in1k", "swin-tiny-imagenet1k.safetensors"
    ),
    192: PublishedPart(
        "Swin-L's ImageNet weights",
        "timm/swin_large_patch4_window12_384.ms_in22k",
        "swin-large-imagenet22k.safetensors",
    ),
}
BERT = PublishedPart("BERT's weights", "google-bert/bert-base-uncased", "bert-base-uncased.safetensors")


def load_pretrained_parts(config: GLIPConfig, fetching: Fetching) -> tuple[State, list[str]]:
    """Returns the tensors of Swin and BERT by their native names, and BERT's word pieces.

    Raises:
        InputError: no weights are published for this architecture.
        JobFailed: a file could not be fetched, or holds other tensors.
    """
    if config.swin is None or config.swin.embed_dim not in SWIN:
        backbone = f"a Swin of {config.swin.embed_dim} channels" if config.swin else "a convolutional backbone"
        raise InputError(
            f"There are no ImageNet weights for {backbone}, only for Swin of "
            f"{', '.join(map(str, SWIN))} channels. Begin with random weights, or with a model folder (`init`)."
        )
    swin = SWIN[config.swin.embed_dim]
    state = from_timm(_read(swin, fetching)) | from_bert(_read(BERT, fetching))
    shapes = expected_shapes(config)
    parts = ("backbone.patch_embed", "backbone.stages", "text_encoder")
    wanted = {name for name in shapes if name.startswith(parts)}
    if differing := sorted(wanted ^ state.keys()) or [n for n in wanted if tuple(state[n].shape) != shapes[n]]:
        raise JobFailed(
            f"{swin.url} and {BERT.url} do not fit the network: missing, unknown or of another shape are "
            f"{some(differing)}."
        )
    file, _ = fetched(
        "BERT's vocabulary",
        BERT_VOCABULARY.url,
        BERT_VOCABULARY.file_name,
        BERT_VOCABULARY.sha256,
        fetching,
        MAX_VOCABULARY_BYTES,
    )
    return state, read_vocabulary(file)


def from_timm(source: Mapping[str, Tensor]) -> State:
    """Renames timm's Swin to native names, without its classifier, last norm and constants."""
    state: State = {}
    for name, value in source.items():
        if name.startswith(("head.", "norm.")) or name.endswith(("relative_position_index", "attn_mask")):
            continue
        # In timm a stage begins with patch merging, here it ends with it.
        name = re.sub(r"layers\.(\d)\.downsample", lambda found: f"stages.{int(found[1]) - 1}.downsample", name)
        state["backbone." + name.replace("layers.", "stages.", 1)] = value
    return state


def from_bert(source: Mapping[str, Tensor]) -> State:
    """Renames Google's BERT to native names, without the layers of its pre-training."""
    state: State = {}
    for name, value in source.items():
        if name.startswith(("cls.", "bert.pooler.")) or name.endswith("position_ids"):
            continue
        # Published with the parameter names of another framework.
        name = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", name))
        state["text_encoder." + name] = value
    return state


def _read(part: PublishedPart, fetching: Fetching) -> State:
    path, _ = fetched(part.what, part.url, part.file_name, None, fetching, _MAX_BYTES)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise JobFailed(f"{part.url} is not a safetensors file ({error}). Delete {path} to fetch it again.") from error
