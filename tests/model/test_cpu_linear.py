"""Large products through oneDNN: the same numbers, only where MKL is slow, and never in training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from glip.model import cpu_linear as products
from glip.model.backbone import Backbone
from glip.model.cpu_linear import MINIMUM_ROWS, Linear, Product, use_linear
from glip.model.reference_mode import use_plain_forms
from glip.weights.zoo import TINY


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """A processor that MKL is slow on; gives the shapes of the products that went to oneDNN."""
    shapes: list[tuple[int, ...]] = []
    multiply = products._onednn_linear

    def counted(x: Tensor, weight: Tensor, bias: Tensor | None, gelu: bool) -> Tensor:
        assert x.is_contiguous()
        shapes.append(tuple(x.shape))
        return multiply(x, weight, bias, gelu)

    monkeypatch.setattr(products, "mkl_is_slow", lambda: True)
    monkeypatch.setattr(products, "_onednn_linear", counted)
    products._by_onednn.cache_clear()
    yield shapes
    products._by_onednn.cache_clear()


@pytest.mark.parametrize("shape", [(MINIMUM_ROWS, 48), (2, 300, 48), (3, 20, 30, 48)])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("gelu", [True, False])
def test_a_product_through_onednn_is_the_product(
    served: list[tuple[int, ...]], shape: tuple[int, ...], with_bias: bool, gelu: bool
) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(shape), torch.randn(70, 48), torch.randn(70) if with_bias else None
    with torch.inference_mode():
        found = Product(weight, bias, gelu=gelu)(x)
    exact = torch.nn.functional.linear(x.double(), weight.double(), None if bias is None else bias.double())
    if gelu:
        exact = torch.nn.functional.gelu(exact)
    assert served == [shape]
    assert found.shape == exact.shape
    assert torch.allclose(found.double(), exact, atol=2e-5)


def test_rows_that_lie_apart_are_brought_together(served: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(48, 600).t()[::2], torch.randn(7, 48), torch.randn(7)
    with torch.inference_mode():
        assert torch.allclose(Product(weight, bias)(x), x @ weight.t() + bias, atol=1e-4)
    assert served == [(300, 48)]


@pytest.mark.parametrize("autocast", [True, False])
def test_a_weight_is_put_in_order_once_for_all_parts_and_changes_no_number(
    served: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch, autocast: bool
) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2 * MINIMUM_ROWS + 10, 48), torch.randn(70, 48), torch.randn(70)
    ordered: list[Tensor] = []
    put_in_order = torch.ops.mkldnn._reorder_linear_weight

    def counted(weight: Tensor, rows: int) -> Tensor:
        ordered.append(weight)
        return put_in_order(weight, rows)

    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_linear_weight", counted)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        multiply = Product(weight, bias)
        parts = [multiply(part) for part in x.split(MINIMUM_ROWS)]
        # The last part is too short to be worth it; without bfloat16 arithmetic PyTorch's own product serves autocast.
        can = not autocast or bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        assert len(ordered) == int(can)
        assert served == [(MINIMUM_ROWS, 48), (MINIMUM_ROWS, 48)] * can
        kind = torch.bfloat16 if autocast else torch.float32
        lowered = x.to(kind), weight.to(kind), bias.to(kind)
        plain = (
            torch.ops.mkldnn._linear_pointwise(*lowered, "none", [], "")
            if can
            else torch.nn.functional.linear(*lowered)
        )
    if can:
        assert torch.equal(torch.cat(parts)[: 2 * MINIMUM_ROWS], plain[: 2 * MINIMUM_ROWS])
    assert torch.allclose(
        torch.cat(parts).float(), plain.float(), rtol=2**-6 if autocast else 1e-5, atol=1e-1 if autocast else 1e-4
    )


def test_training_few_rows_and_other_numbers_stay_where_they_are(served: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(MINIMUM_ROWS, 8), torch.randn(4, 8), torch.randn(4)
    plain = torch.nn.functional.gelu(torch.nn.functional.linear(x, weight, bias))
    assert torch.equal(Product(weight, bias, gelu=True)(x), plain)
    with torch.inference_mode():
        assert torch.allclose(Product(weight, bias, gelu=True)(x[:-1]), plain[:-1], atol=1e-6)
        Product(weight.double(), bias.double())(x.double())
    assert served == []


def test_under_autocast_a_product_is_lowered_by_either_library(served: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    x, weight, bias = torch.randn(MINIMUM_ROWS, 64), torch.randn(8, 64), torch.randn(8)
    exact = torch.nn.functional.linear(x.bfloat16().float(), weight.bfloat16().float(), bias.bfloat16().float())
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        found = Product(weight, bias)(x)
        products._by_onednn.cache_clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
            other = Product(weight, bias)(x)
    assert found.dtype == other.dtype == torch.bfloat16
    for one in (found, other):
        assert torch.allclose(one.float(), exact, rtol=2**-7, atol=2**-5)


def test_a_backbone_gives_the_same_maps_either_way(served: list[tuple[int, ...]]) -> None:
    torch.manual_seed(0)
    assert TINY.swin is not None
    backbone = Backbone(TINY.swin).eval()
    pixels = torch.randn(1, 3, 160, 224)
    with torch.inference_mode():
        found = backbone(pixels)
        count = len(served)
        use_plain_forms(backbone)
        plain = backbone(pixels)
    assert count > 8
    assert len(served) == count
    for one, other in zip(found, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_exchanged_layers_keep_their_parameters_and_names() -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(), nn.Linear(4, 5, bias=False)))
    before = dict(network.state_dict(keep_vars=True))
    use_linear(network)
    after = dict(network.state_dict(keep_vars=True))
    assert list(before) == list(after)
    assert all(before[name] is after[name] for name in before)
    assert sum(isinstance(module, Linear) for module in network.modules()) == 2


def test_this_processor_is_judged_by_its_maker(monkeypatch: pytest.MonkeyPatch) -> None:
    products.mkl_is_slow.cache_clear()
    for maker, slow in (("GenuineIntel", False), ("AuthenticAMD", torch.backends.mkl.is_available())):
        monkeypatch.setattr(Path, "read_text", lambda *_, maker=maker, **__: f"vendor_id : {maker}\n")
        assert products.mkl_is_slow() is slow
        products.mkl_is_slow.cache_clear()
