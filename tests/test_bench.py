"""`glip bench`: its measurements add up, its forms are equal, and unusable jobs are refused."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner

from glip import bench as measuring
from glip.bench import BenchJob, Case, bench, cases, forget_peak, peak_bytes
from glip.detectors.spec import load_detector
from glip.errors import InputError
from glip.model.backbone import SwinBlock
from glip.model.cpu_linear import Linear
from glip.model.dyhead import DyHeadBlock
from glip.model.glip import GLIP, build_glip
from glip.model.reference_mode import compile_backbone, use_plain_forms
from glip.weights.random_weights import random_state
from glip.weights.zoo import TINY
from glip_cli.main import app

SMALL = BenchJob(architecture="tiny", names=(2,), size_hw=(64, 96), rounds=1)


@pytest.fixture(scope="module")
def network() -> GLIP:
    return build_glip(TINY, random_state(TINY)).eval()


def test_both_forms_give_the_same_numbers(network: GLIP) -> None:
    pixels = torch.randn(2, 3, 70, 90, generator=torch.Generator().manual_seed(1))
    ids = torch.tensor([[101, 500, 501, 102]])
    with torch.inference_mode():
        fast = network(pixels, ids)
        use_plain_forms(network)
        padded = torch.nn.functional.pad(ids, (0, 20))
        plain = network(pixels, padded, torch.arange(24)[None] < 4)
        use_plain_forms(network, plain=False)
    assert torch.allclose(fast.alignment, plain.alignment[..., :4], atol=1e-3, rtol=1e-4)
    assert torch.allclose(fast.deltas, plain.deltas, atol=1e-4, rtol=1e-4)


def test_the_switch_reaches_every_part(network: GLIP, monkeypatch: pytest.MonkeyPatch) -> None:
    from glip.model import deform, dyhead, fusion

    called: list[str] = []

    def count(name: str, real: Any) -> Any:
        def counted(*words: Any) -> Any:
            called.append(name)
            return real(*words)

        return counted

    monkeypatch.setattr(dyhead, "published_deform_conv", count("conv", deform.published_deform_conv))
    monkeypatch.setattr(fusion.ImageTextAttention, "plain", count("attention", fusion.ImageTextAttention.plain))
    use_plain_forms(network)
    with torch.inference_mode():
        network(torch.zeros(1, 3, 64, 64), torch.tensor([[101, 500, 102]]))
    use_plain_forms(network, plain=False)
    # Five levels read themselves, four the finer and four the coarser one, in two blocks.
    assert called.count("conv") == 2 * 13 and called.count("attention") == 2
    with torch.inference_mode():
        network(torch.zeros(1, 3, 64, 64), torch.tensor([[101, 500, 102]]))
    assert len(called) == 28


def test_a_compiled_backbone_is_the_plain_one_handed_to_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: list[object] = []
    # Compiling takes a compiler and minutes: the full tier does it.
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: handed.append(self))
    own = build_glip(TINY, random_state(TINY)).eval()
    pixels = torch.randn(1, 3, 70, 90, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        tiles = own.backbone(pixels)
        compile_backbone(own)
        plain = own.backbone(pixels)
    assert handed == [own.backbone]
    assert {module.plain_form for module in own.backbone.modules() if isinstance(module, SwinBlock | Linear)} == {True}
    assert not any(module.plain_form for module in own.modules() if isinstance(module, DyHeadBlock))
    for one, other in zip(tiles, plain, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


@pytest.mark.full
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_backbone_sees_the_same_at_every_size() -> None:
    own, compiled = (build_glip(TINY, random_state(TINY)).eval() for _ in range(2))
    compile_backbone(compiled)
    with torch.inference_mode():
        for size_hw in ((64, 96), (64, 128)):
            pixels = torch.randn(1, 3, *size_hw, generator=torch.Generator().manual_seed(1))
            for one, other in zip(own.backbone(pixels), compiled.backbone(pixels), strict=True):
                assert torch.allclose(one, other, atol=1e-4)


def test_a_compiled_form_is_measured_beside_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self: None)
    rows = bench(replace(SMALL, forms=("fast", "compiled")))
    assert [row.case.form for row in rows] == ["fast", "compiled"]
    assert set(rows[1].faster) == {"fast fp32"} and all(row.first_seconds > 0 for row in rows)


def test_without_a_compiler_nothing_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(InputError, match=r"no-such-compiler.*clang"):
        bench(replace(SMALL, forms=("compiled",)))
    with pytest.raises(InputError, match=r"apt install g\+\+"):
        load_detector("nano", compiled=True)


def test_stages_add_up_and_long_lists_come_in_chunks() -> None:
    done: list[int] = []
    rows = bench(replace(SMALL, forms=("fast", "plain"), names=(2, 90), batch_size=2), done.append)
    assert done == list(range(1, 9))
    assert [row.case for row in rows] == [
        Case("fast", "fp32", 2),
        Case("plain", "fp32", 2),
        Case("fast", "fp32", 90),
        Case("plain", "fp32", 90),
    ]
    assert [row.chunks for row in rows] == [1, 1, 3, 3]
    assert [row.tokens for row in rows] == [5, 5, 89, 89]
    for row in rows:
        counted = [seconds for stage, seconds in row.stages.items() if row.case.form == "plain" or stage != "text"]
        assert row.seconds == pytest.approx(sum(counted))
        assert row.images_per_second == pytest.approx(2 / row.seconds)
        assert row.cpu_seconds > 0
    fast, plain = rows[:2]
    assert fast.faster == {
        "plain fp32": (plain.seconds / fast.seconds, plain.cpu_seconds / fast.cpu_seconds),
    }


def test_the_backbone_runs_once_for_all_chunks_and_in_plain_order_once_a_chunk(
    network: GLIP, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[tuple[int, ...]] = []
    real = network.backbone.forward

    def look(pixels: Tensor) -> tuple[Tensor, ...]:
        looked.append(tuple(pixels.shape))
        return real(pixels)

    monkeypatch.setattr(network.backbone, "forward", look)
    monkeypatch.setattr(measuring, "_network", lambda job: (network, 64))
    bench(replace(SMALL, names=(90,), size_hw=None))
    # One round and one for warming up; 64 × 107 is padded to multiples of 32.
    assert looked == [(1, 3, 64, 128)] * 2
    looked.clear()
    bench(replace(SMALL, names=(90,), forms=("plain",)))
    assert looked == [(1, 3, 64, 96)] * 6


def test_a_peer_is_measured_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, ...]] = []

    class Peer:
        def __init__(self, device: torch.device) -> None:
            pass

        def __call__(self, pixels: Tensor, ids: Tensor) -> None:
            asked.append((*pixels.shape, len(ids)))

    monkeypatch.setattr(measuring, "_Peer", Peer)
    rows = bench(replace(SMALL, forms=("fast", "grounding-dino")))
    assert asked == [(1, 3, 64, 96, 5)] * 2
    assert set(rows[0].faster) == {"grounding-dino fp32"}


@pytest.mark.full
def test_the_real_peer_runs() -> None:
    rows = bench(replace(SMALL, forms=("grounding-dino",), size_hw=(160, 160)))
    assert rows[0].seconds > 0


def test_the_peak_is_watched_anew() -> None:
    device = torch.device("cpu")
    block = torch.ones(2**26)  # 256 MiB
    high = peak_bytes(device)
    del block
    forget_peak(device)
    low = peak_bytes(device)
    if high is None or low is None:
        pytest.skip("this system does not say how much memory a process uses")
    assert low < high - 2**27


def test_the_command_prints_a_table_and_json() -> None:
    words = [
        "bench",
        "--architecture",
        "tiny",
        "--size",
        "64x96",
        "--names",
        "2",
        "--rounds",
        "1",
        "--against",
        "plain",
    ]
    table = CliRunner().invoke(app, words)
    assert table.exit_code == 0, table.output
    assert "plain fp32" in table.output and "tower" in table.output
    found = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    assert found["machine"]["packages"]["torch"] and found["job"]["size_hw"] == [64, 96]
    assert [row["case"]["form"] for row in found["rows"]] == ["fast", "plain"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"forms": ("slow",)}, "'slow'"),
        ({"precisions": ("fp8",)}, "'fp8'"),
        ({"architecture": "glip-x"}, "'glip-x'"),
        ({"names": (0,)}, "names is 0"),
        ({"size_hw": (8, 640)}, "size_hw is 8"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rounds": 0}, "rounds is 0"),
    ],
)
def test_what_cannot_be_measured_is_said(change: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        bench(replace(SMALL, **change))


def test_a_size_that_is_none() -> None:
    result = CliRunner().invoke(app, ["bench", "--size", "800"])
    assert isinstance(result.exception, InputError)
    assert "such as 800x1333" in str(result.exception)


def test_the_cases_are_those_of_the_table() -> None:
    job = replace(SMALL, forms=("fast", "plain"), precisions=("fp32", "bf16"), names=(2, 80))
    assert len(cases(job)) == 8


def test_long_class_lists_cost_a_third_of_the_published_operations() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    from benchmarks.operations import LISTS, operations
    from glip.weights.zoo import ARCHITECTURES

    with FakeTensorMode():
        network = build_glip(ARCHITECTURES["glip-t"]).eval()
        here, published = (
            sum(operations(network, (800, 1333), *LISTS[-1][1:], plain=plain).values()) for plain in (False, True)
        )
    assert published / here > 3


def test_padding_that_prediction_leaves_out_is_counted() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    from benchmarks.operations import padding_operations
    from glip.weights.zoo import RANDOM_ARCHITECTURES

    network = build_glip(RANDOM_ARCHITECTURES["tiny"]).eval().double()
    pixels = torch.zeros(1, 3, 96, 160, dtype=torch.float64)
    counted = []
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients), FlopCounterMode(display=False) as counter:
            network.backbone(pixels)
        counted.append(counter.get_flop_counts()["Global"][torch.ops.aten.addmm])
    assert counted[0] - counted[1] == padding_operations(network, (96, 160)) > 0
