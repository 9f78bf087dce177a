"""Counts the arithmetic operations per image. Needs no weights; without --minimum, measures no time.

    python -m benchmarks.operations

Compares this project with the published order of operations, which pads every text to 256 tokens, projects every
location and, if a class list needs several prompts, runs the whole network for each of them.

With --minimum, large matrix products are timed on this machine and the operations are divided by their speed: no exact
form can be faster here.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence

import torch
from rich.console import Console
from rich.table import Table
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from glip.images import padded_hw
from glip.model.backbone import Backbone, SwinBlock
from glip.model.cpu_linear import Product
from glip.model.glip import GLIP, build_glip
from glip.model.reference_mode import use_plain_forms
from glip.prompts import MAX_TOKENS
from glip.weights.zoo import ARCHITECTURES

# Class names, captions they need, tokens of each; LVIS's are the mean of its chunks of 40 names.
LISTS = ((2, 1, 6), (80, 1, 177), (1203, 31, 103))
TERA = 1e12
# Rows and channels of products like the largest ones: locations, and the taps of a deformable convolution.
PRODUCTS = ((4096, 2304, 256), (4096, 1024, 1024), (16_800, 256, 256))


def deform_conv_operations(
    x: Sequence[int], weight: Sequence[int], *shapes: object, out_shape: Sequence[int], **options: object
) -> int:
    """Counts the operations of the matrix product of a deformable convolution; sampling needs few."""
    batch, outputs, height, width = out_shape
    inputs, rows, columns = weight[1:]
    return 2 * batch * height * width * outputs * inputs * rows * columns


def padding_operations(network: GLIP, size_hw: Sequence[int]) -> int:
    """Counts the operations on the padding of Swin's windows, which prediction on a CPU leaves out."""
    total, (height, width) = 0, (size_hw[0] // 4, size_hw[1] // 4)
    if not isinstance(network.backbone, Backbone):
        return 0  # a convolutional backbone has no windows
    for stage in network.backbone.stages:
        for block in stage.modules():
            if isinstance(block, SwinBlock):
                window, dim = block.window_size, block.attn.dim
                padding = (height + -height % window) * (width + -width % window) - height * width
                total += 2 * padding * 4 * dim**2  # query, key, value and the projection after them
        height, width = height // 2, width // 2
    return total


def operations(network: GLIP, size_hw: tuple[int, int], captions: int, tokens: int, plain: bool) -> dict[str, int]:
    """Counts multiplications and additions per image, by stage; text that is computed once per prompt is left out."""
    use_plain_forms(network, plain)
    length = MAX_TOKENS if plain else tokens
    counted: dict[str, int] = {}
    pixels = torch.empty(1, 3, *padded_hw(size_hw))
    ids = torch.zeros(1, length, dtype=torch.long)
    mask = torch.ones(1, length, dtype=torch.bool) if plain else None
    mapping = {torch.ops.torchvision.deform_conv2d: deform_conv_operations}
    # The form with gradients: none of its steps must look at a number, which these tensors lack. Only what pads Swin's
    # windows is multiplied there and not to predict.
    with torch.enable_grad():
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            maps = network.encode_image(pixels)
        looked = counter.get_total_flops()
        counted["image"] = looked * captions if plain else looked - padding_operations(network, pixels.shape[2:])
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            text = network.encode_text(ids, mask)
        counted["text"] = counter.get_total_flops() * captions if plain else 0
        with FlopCounterMode(display=False, custom_mapping=mapping) as counter:
            pyramid, text = network.fusion(maps, text)
            network.head(pyramid, text.hidden)
        counted["head"] = counter.get_total_flops() * captions
    return counted


def product_speed(dtype: torch.dtype) -> float:
    """Returns the operations per second of the fastest of some matrix products, on all threads."""
    best = 0.0
    for rows, inputs, outputs in PRODUCTS:
        x, weight = torch.randn(rows, inputs, dtype=dtype), torch.randn(outputs, inputs, dtype=dtype)
        multiply = Product(weight, None)
        with torch.inference_mode():
            for _ in range(20):
                started = time.perf_counter()
                multiply(x)
                best = max(best, 2 * rows * inputs * outputs / (time.perf_counter() - started))
    return best


def main() -> None:
    """Runs the benchmark with the options of the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("architectures", nargs="*", default=["glip-t", "glip-l"])
    parser.add_argument("--size", type=int, nargs=2, default=(800, 1333), metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--minimum", action="store_true", help="time products, and print the minimum seconds per image")
    words = parser.parse_args()
    speeds = [product_speed(dtype) for dtype in (torch.float32, torch.bfloat16)] if words.minimum else []
    titles = ("names", "captions", "tokens", "image", "text", "head", "here", "published order", "ratio")
    table = Table("", *titles, *(("min s, fp32", "min s, bf16") if speeds else ()))
    fake = FakeTensorMode()  # shapes without numbers; one for all, because masks are kept
    for architecture in words.architectures:
        with fake:
            network = build_glip(ARCHITECTURES[architecture]).eval()
        for names, captions, tokens in LISTS:
            with fake:
                here = operations(network, tuple(words.size), captions, tokens, plain=False)
                published = operations(network, tuple(words.size), captions, tokens, plain=True)
            total, other = sum(here.values()), sum(published.values())
            parts = (f"{value / TERA:.2f}" for value in here.values())
            row = (architecture, str(names), str(captions), str(tokens), *parts)
            minimum = (f"{total / speed:.2f}" for speed in speeds)
            table.add_row(*row, f"{total / TERA:.2f}", f"{other / TERA:.2f}", f"{other / total:.2f}", *minimum)
    Console(width=140).print(table)
    print("10^12 operations per image")
    if speeds:
        shown = " and ".join(f"{speed / TERA:.2f}" for speed in speeds)
        print(f"Products of {torch.get_num_threads()} threads: {shown} * 10^12 operations per second in fp32 and bf16.")


if __name__ == "__main__":
    main()
