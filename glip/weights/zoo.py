"""Lists the published checkpoints, a row each: publisher, address, training data, published scores.

Nothing here is measured. The files are hosted by others (OpenMMLab; the GLIP authors on the Hugging Face hub), under
their licences. Formats: `docs/checkpoints.md`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from glip.errors import InputError, did_you_mean
from glip.model.config import GLIP_L, GLIP_NANO, GLIP_NANO_SWIN, GLIP_T, GLIP_T_A, GLIPConfig, SwinConfig, TextConfig
from glip.weights.tensor_names import Layout

ARCHITECTURES: Mapping[str, GLIPConfig] = {
    "glip-t-a": GLIP_T_A,
    "glip-t": GLIP_T,
    "glip-l": GLIP_L,
    "nano": GLIP_NANO,
}
# Every kind of layer, with two million weights. The widths of the heads are those that `infer_config` assumes.
TINY = GLIPConfig(
    swin=SwinConfig(32, (1, 1, 2, 1), (1, 2, 4, 8), window_size=7),
    text=TextConfig(vocab_size=30522, hidden_size=128, num_layers=2, num_heads=2, intermediate_size=256),
    channels=64,
    num_fusion_blocks=2,
    fusion_dim=128,
)
RANDOM_ARCHITECTURES: Mapping[str, GLIPConfig] = {"tiny": TINY, **ARCHITECTURES}
# Bytes of the weights in float32. The published files are at least as large; some hold more than the weights.
WEIGHT_BYTES: Mapping[str, int] = {"glip-t-a": 605_639_864, "glip-t": 927_038_648, "glip-l": 1_721_607_296}
DEFAULT = "glip-t"
# The small model inside the package, which needs no download.
EMBEDDED = "nano"
EMBEDDED_FOLDER = Path(__file__).parent / EMBEDDED

_OPENMMLAB = "https://download.openmmlab.com"
_HUB = "https://huggingface.co"
# Host -> environment variable with the address of a mirror.
_MIRRORS = {_OPENMMLAB: "GLIP_MIRROR", _HUB: "HF_ENDPOINT"}

_MMDET_README = "mmdetection configs/glip/README.md, commit 3f355fc"
_GLIP_README = "microsoft/GLIP README.md, commit 24ec0dd"


@dataclass(frozen=True)
class Checkpoint:
    """One published file. A score is None if it was not published for this file.

    Attributes:
        name: its name on the command line.
        architecture: a key of `ARCHITECTURES`.
        layout: layout of its tensor names.
        host: the host of its URL.
        path: the rest of its URL.
        pretraining: training data, in the publisher's words.
        source: where the scores were published.
        finetuned: data of a later fine-tuning.
        coco_ap: box AP on COCO val2017, in percent; zero-shot unless fine-tuned on COCO.
        lvis_ap: fixed AP on LVIS minival, in percent, zero-shot.
        lvis_apr: the same over rare classes.
    """

    name: str
    architecture: str
    layout: Layout
    host: str
    path: str
    pretraining: str
    source: str
    finetuned: str | None = None
    coco_ap: float | None = None
    lvis_ap: float | None = None
    lvis_apr: float | None = None

    @property
    def config(self) -> GLIPConfig:
        """Returns the architecture."""
        return ARCHITECTURES[self.architecture]

    @property
    def file_name(self) -> str:
        """Returns the last part of the URL."""
        return self.path.rpartition("/")[2]

    @property
    def hash_head(self) -> str | None:
        """Returns the first eight digits of the sha256, which OpenMMLab writes into its file names; None for others."""
        return self.file_name.removesuffix(".pth")[-8:] if self.host == _OPENMMLAB else None

    @property
    def url(self) -> str:
        """Returns the address; the environment variables GLIP_MIRROR and HF_ENDPOINT replace the hosts."""
        return mirrored(self.host) + self.path


def mirrored(host: str) -> str:
    """Returns the address of the host's mirror, if its environment variable names one, else the host."""
    return os.environ.get(_MIRRORS[host], "").rstrip("/") or host


def hub_url(path: str) -> str:
    """Returns the address of a file of the Hugging Face hub; HF_ENDPOINT replaces the host."""
    return mirrored(_HUB) + path


@dataclass(frozen=True)
class PublishedVocabulary:
    """A published list of word pieces."""

    file_name: str
    path: str
    sha256: str

    @property
    def url(self) -> str:
        """Returns the address; HF_ENDPOINT replaces the host."""
        return hub_url(self.path)


# The word pieces of every published checkpoint.
BERT_VOCABULARY = PublishedVocabulary(
    "bert-base-uncased-vocab.txt",
    "/google-bert/bert-base-uncased/resolve/main/vocab.txt",
    "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)

_O365 = "O365"
_GOLDG = "O365,GoldG"
_CC_SBU = "O365,GoldG,CC3M,SBU"
_LARGE = "FourODs,GoldG,CC3M+12M,SBU"


def _mmdet(name: str, architecture: str, file: str, data: str, coco: float, lvis: float, rare: float) -> Checkpoint:
    path = f"/mmdetection/v3.0/glip/{file}.pth"
    return Checkpoint(
        name, architecture, "mmdet", _OPENMMLAB, path, data, _MMDET_README, coco_ap=coco, lvis_ap=lvis, lvis_apr=rare
    )


def _mmdet_coco(name: str, architecture: str, swin: str, stamp: str, data: str, coco: float) -> Checkpoint:
    run = f"glip_atss_swin-{swin}_fpn_dyhead_16xb2_ms-2x_funtune_coco"
    path = f"/mmdetection/v3.0/glip/{run}/{run}_{stamp}.pth"
    return Checkpoint(
        name, architecture, "mmdet", _OPENMMLAB, path, data, _MMDET_README, finetuned="COCO", coco_ap=coco
    )


def _original(
    name: str, architecture: str, file: str, data: str, coco: float | None = None, rare: float | None = None
) -> Checkpoint:
    path = f"/GLIPModel/GLIP/resolve/main/{file}.pth"
    return Checkpoint(name, architecture, "microsoft", _HUB, path, data, _GLIP_README, coco_ap=coco, lvis_apr=rare)


_ROWS = (
    _mmdet("glip-t-a", "glip-t-a", "glip_tiny_a_mmdet-b3654169", _O365, 43.0, 20.2, 12.1),
    _mmdet("glip-t-b", "glip-t", "glip_tiny_b_mmdet-6dfbd102", _O365, 44.9, 19.3, 8.6),
    _mmdet("glip-t-c", "glip-t", "glip_tiny_c_mmdet-2fc427dd", _GOLDG, 46.7, 25.2, 14.4),
    _mmdet("glip-t", "glip-t", "glip_tiny_mmdet-c24ce662", _CC_SBU, 46.6, 26.7, 18.1),
    _mmdet("glip-l", "glip-l", "glip_l_mmdet-abfe026b", _LARGE, 51.3, 36.1, 27.9),
    _mmdet_coco("glip-t-a-coco", "glip-t-a", "t_a", "20230914_180419-e6addd96", _O365, 53.3),
    _mmdet_coco("glip-t-b-coco", "glip-t", "t_b", "20230916_163538-650323ba", _O365, 54.1),
    _mmdet_coco("glip-t-c-coco", "glip-t", "t_c", "20230914_182935-4ba3fc3b", _GOLDG, 55.2),
    _mmdet_coco("glip-t-coco", "glip-t", "t", "20230914_224410-ba97be24", _CC_SBU, 55.4),
    _mmdet_coco("glip-l-coco", "glip-l", "l", "20230910_100800-e9be4274", _LARGE, 59.4),
    _original("glip-t-a-original", "glip-t-a", "glip_a_tiny_o365", _O365, 42.9),
    _original("glip-t-b-original", "glip-t", "glip_tiny_model_o365", _O365, 44.9),
    _original("glip-t-c-original", "glip-t", "glip_tiny_model_o365_goldg", _GOLDG, 46.7, 14.3),
    _original("glip-t-original", "glip-t", "glip_tiny_model_o365_goldg_cc_sbu", _CC_SBU, 46.6, 17.6),
    _original("glip-l-original", "glip-l", "glip_large_model", _LARGE, 51.4, 29.3),
    # The step of the same training with the best score on LVIS.
    _original("glip-t-c-original-lvisbest", "glip-t", "glip_tiny_model_o365_goldg_lvisbest", _GOLDG, rare=17.7),
    _original("glip-t-original-lvisbest", "glip-t", "glip_tiny_model_o365_goldg_cc_sbu_lvisbest", _CC_SBU, rare=20.1),
    _original("glip-l-original-lvisbest", "glip-l", "glip_large_model_lvisbest", _LARGE, rare=30.1),
)

ZOO: Mapping[str, Checkpoint] = {row.name: row for row in _ROWS}


class UnknownCheckpoint(InputError):
    """A name that is neither a published checkpoint nor a path on this machine."""

    def __init__(self, name: str) -> None:
        hint = did_you_mean(name, [*ZOO, EMBEDDED])
        super().__init__(
            f"There is no checkpoint, model folder or file {name!r}.{hint} `glip models list` shows the checkpoints."
        )


def check_architecture(name: str) -> None:
    """Refuses a name that is no architecture.

    Raises:
        InputError: it is none.
    """
    if name not in RANDOM_ARCHITECTURES:
        known = list(RANDOM_ARCHITECTURES)
        raise InputError(f"architecture is {name!r}; it must be one of {', '.join(known)}.{did_you_mean(name, known)}")


def find(name: str) -> Checkpoint:
    """Returns the published checkpoint of that name.

    Raises:
        UnknownCheckpoint: there is none.
    """
    if name not in ZOO:
        raise UnknownCheckpoint(name)
    return ZOO[name]


def architecture_name(config: GLIPConfig) -> str:
    """Returns the name of an architecture, ignoring vocabulary, threshold and image size; "custom" if it is unknown."""
    words = config.text.vocab_size
    # Folders of the first nano, which had a Swin, are still read.
    for name, row in (*ARCHITECTURES.items(), (EMBEDDED, GLIP_NANO_SWIN)):
        if replace(row, text=replace(row.text, vocab_size=words), conf=config.conf, imgsz=config.imgsz) == config:
            return name
    return "custom"
