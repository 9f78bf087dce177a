"""The re-associated image-text attention against the published order of operations."""

from __future__ import annotations

from unittest.mock import Mock

import pytest
import torch
from torch import Tensor

from glip.model import fusion
from glip.model import fusion_tiles as fused
from glip.model.fusion import ImageTextAttention
from glip.model.glip import GLIP
from glip.model.text import TextFeatures


@pytest.fixture
def attention() -> ImageTextAttention:
    torch.manual_seed(0)
    module = ImageTextAttention(channels=32, text_dim=48, embed_dim=64, num_heads=4, num_blocks=3).eval().double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def inputs(tokens: int = 7, places: int = 50, batch: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return (
        torch.randn(batch, places, 32, generator=generator, dtype=torch.float64),
        torch.randn(batch, tokens, 48, generator=generator, dtype=torch.float64),
    )


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("tokens", [1, 7, 60])
def test_reassociated_equals_plain(
    attention: ImageTextAttention, tokens: int, dtype: torch.dtype, limit: float
) -> None:
    attention.to(dtype)
    image, text = (x.to(dtype) for x in inputs(tokens))
    for ours, plain in zip(attention(image, text), attention.plain(image, text), strict=True):
        assert (ours - plain).abs().max() < limit * plain.abs().max()


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize("tokens", [1, 7, 60])
def test_tiles_equal_plain(
    attention: ImageTextAttention, monkeypatch: pytest.MonkeyPatch, tokens: int, dtype: torch.dtype, limit: float
) -> None:
    """Runs a prediction over several tiles: three of 256 locations and a short one, for two images."""
    monkeypatch.setattr(fused, "VALUES_PER_TILE", 1)
    in_tiles = Mock(wraps=fused.attend_in_tiles)
    monkeypatch.setattr(fusion, "attend_in_tiles", in_tiles)
    attention.to(dtype)
    image, text = (x.to(dtype) for x in inputs(tokens, places=800))
    # The largest logit must come late, so that sums so far are scaled down.
    image = image * torch.linspace(0.2, 1, 800, dtype=dtype)[None, :, None] ** 2
    with torch.no_grad():
        for mask in (None, (torch.arange(tokens) < max(1, tokens - 2)).expand(2, -1)):
            for ours, plain in zip(attention(image, text, mask), attention.plain(image, text, mask), strict=True):
                assert (ours - plain).abs().max() < limit * plain.abs().max()
    assert in_tiles.call_count == 4


def test_logits_too_far_apart_for_one_exponential_are_done_plainly(attention: ImageTextAttention) -> None:
    attention.query.weight.data *= 30
    image, text = inputs(places=600)
    sides = attention._text_side(attention.norm_text(text))
    with torch.no_grad():
        assert attention._in_tiles(attention.norm_image(image), sides, None) is None
        for ours, plain in zip(attention(image, text), attention.plain(image, text), strict=True):
            assert torch.allclose(ours, plain, rtol=1e-9)


def test_padding_of_the_text_changes_nothing_that_is_read(attention: ImageTextAttention) -> None:
    image, text = inputs()
    padded = torch.cat([text, torch.full_like(text, 3.0)], dim=1)
    mask = torch.arange(padded.shape[1])[None].expand(2, -1) < text.shape[1]
    short_image, short_text = attention(image, text)
    for form, gradients in ((attention.forward, True), (attention.forward, False), (attention.plain, True)):
        with torch.set_grad_enabled(gradients):
            long_image, long_text = form(image, padded, mask)
        assert torch.allclose(long_image, short_image, atol=1e-12)
        assert torch.allclose(long_text[:, : text.shape[1]], short_text, atol=1e-12)


def test_gradients_equal_those_of_the_plain_form(attention: ImageTextAttention) -> None:
    found = []
    for form in (attention.forward, attention.plain):
        image, text = (x.requires_grad_() for x in inputs())
        new_image, new_text = form(image, text)
        loss = (new_image**2).sum() + (new_text**3).sum()
        found.append(torch.autograd.grad(loss, [image, text, *attention.parameters()]))
    for ours, plain in zip(*found, strict=True):
        assert torch.allclose(ours, plain, rtol=1e-9, atol=1e-9 * float(plain.abs().max()))


def test_dropout_of_the_attention_keeps_the_value_bias_in_proportion(attention: ImageTextAttention) -> None:
    """With dropout a row of attention no longer sums to 1; the folded bias must follow."""
    image, text = inputs(batch=1)
    seen = []

    def record(_module: object, _inputs: object, out: Tensor) -> None:
        seen.append(out)

    attention.train().dropout.register_forward_hook(record)
    with torch.no_grad():
        _, ours = attention(image, text)
        over_places = seen[0].unflatten(2, (attention.num_heads, -1)).permute(0, 2, 3, 1)
        assert (over_places == 0).any()
        image, text = attention.norm_image(image), attention.norm_text(text)
        values = attention.image_value(image).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        delta = attention.text_out((over_places @ values).transpose(1, 2).flatten(2))
    assert torch.allclose(ours, text + attention.gamma_text * delta, atol=1e-12)


def test_logits_beyond_the_published_limit_are_clamped(attention: ImageTextAttention) -> None:
    attention.query.weight.data *= 1e4
    attention.key.weight.data *= 1e4
    image, text = inputs()
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            for ours, plain in zip(attention(image, text), attention.plain(image, text), strict=True):
                assert torch.isfinite(ours).all()
                assert torch.allclose(ours, plain, rtol=1e-6)


def test_one_prompt_serves_a_whole_batch(tiny_glip: GLIP) -> None:
    torch.manual_seed(1)
    pixels, ids = torch.randn(2, 3, 64, 96), torch.tensor([[1, 5, 9, 2]])
    with torch.inference_mode():
        maps = tiny_glip.encode_image(pixels)
        text = tiny_glip.encode_text(ids)
        shared = tiny_glip.ground(maps, text)
        repeated = tiny_glip.ground(maps, TextFeatures(text.hidden.repeat(2, 1, 1)))
    assert torch.equal(shared.alignment, repeated.alignment)


def test_prompts_of_several_lengths_share_a_batch(tiny_glip: GLIP) -> None:
    """A caption per image: each row is as if its image and its prompt ran alone."""
    torch.manual_seed(1)
    pixels = torch.randn(2, 3, 64, 96)
    ids = torch.tensor([[1, 5, 9, 2], [1, 7, 2, 0]])
    mask = torch.tensor([[True] * 4, [True] * 3 + [False]])
    with torch.inference_mode():
        both = tiny_glip(pixels, ids, mask)
        alone = tiny_glip(pixels[1:], ids[1:, :3])
    assert torch.allclose(both.alignment[1:, :, :3], alone.alignment, atol=1e-5)
    assert torch.allclose(both.deltas[1:], alone.deltas, atol=1e-5)
