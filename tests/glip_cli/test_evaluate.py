"""`glip eval`: what its words mean, what it prints, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from glip.detectors.spec import DetectorSpec, InferenceOptions
from glip.errors import GlipError, InputError
from glip.evaluation.results import EvaluationResult
from glip.evaluation.run import EvalRequest
from glip_cli.evaluate import evaluate
from tests.evaluation.perfect import detector, write_coco, write_set

app = typer.Typer()
app.command()(evaluate)


def glip_eval(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `glip eval WORDS…`."""
    capsys.readouterr()
    try:
        code = app([str(word) for word in words], standalone_mode=False)
    except GlipError as error:
        return error.exit_code, capsys.readouterr().out, str(error)
    shown = capsys.readouterr()
    return code or 0, shown.out, shown.err


@pytest.fixture
def coco(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(DetectorSpec, "open", lambda spec, on_download=None: detector())
    return write_coco(tmp_path)


def test_the_table_and_the_protocol_are_shown(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("--dataset", "coco", "--data-root", coco, "--out", coco / "out", "--imgsz", 64, "--batch", 2)
    code, out, _ = glip_eval(capsys, *words)
    assert code == 0
    first, line = out.splitlines()[:2]
    assert first.split() == [
        "metric",
        "measured",
        "published",
        "difference",
        "source",
        "of",
        "the",
        "published",
        "score",
    ]
    assert line.split()[:4] == ["AP", "100.0", "46.6", "+53.4"]
    assert "resolution: short side 64 pixels, long side at most 107" in out
    assert "prompts: plain" in out and "batch size: 2" in out
    assert str(coco / "out/metrics.json") in out


def test_json_goes_to_stdout_alone(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = glip_eval(capsys, "-d", "coco", "--data-root", coco, "-o", coco / "out", "--imgsz", 64, "--json")
    content = json.loads(out)
    assert (content["unit"], content["model"], content["rows"][0]["metric"]) == ("percent", "glip-t", "AP")
    assert content == json.loads((coco / "out/metrics.json").read_text()) | {"files": content["files"]}


def test_every_option_reaches_the_request(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    taken: list[EvalRequest] = []

    def run(request: EvalRequest, *, detector: object, watcher: object) -> None:
        assert detector is not None and watcher is not None
        taken.append(request)
        raise InputError("enough")

    monkeypatch.setattr("glip.evaluation.run.evaluate", run)
    words = (
        "-d odinw13 --data-root D --split test --prompts paper --images I -o O -m glip-l --device cpu "
        "--precision bf16 --batch 3 --imgsz 640 --tta --max-det 200 --limit 7 --gallery 5 --coco-ap 41.5 "
        "--overwrite --offline"
    )
    assert glip_eval(capsys, *words.split())[0] == 2
    (request,) = taken
    assert request.detector == DetectorSpec("glip-l", None, "cpu", "bf16", offline=True)
    assert request.options == InferenceOptions(imgsz=640, batch=3)
    assert request.overwrite
    assert (request.dataset, request.data_root, request.out, request.images) == (
        *("odinw13", Path("D"), Path("O")),
        Path("I"),
    )
    assert (request.split, request.prompts, request.max_det, request.limit) == ("test", "paper", 200, 7)
    assert (request.gallery, request.coco_ap, request.tta, request.predictions) == (5, 41.5, True, None)


def test_results_of_others_are_scored_without_a_model(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    box = {"image_id": 2, "category_id": 2, "bbox": [1, 1, 29, 39], "score": 0.5}
    (coco / "theirs.json").write_text(json.dumps([box]))
    words = ("-d", "coco", "--data-root", coco, "-o", coco / "out", "--predictions", coco / "theirs.json")
    code, out, _ = glip_eval(capsys, *words)
    assert code == 0 and out.splitlines()[1].split() == ["AP", "25.2"]
    assert "model: none" in out


def test_bad_input_is_one_sentence_and_exit_code_2(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert glip_eval(capsys)[0] == 2 and "`glip eval --list`" in glip_eval(capsys)[2]
    code, _, said = glip_eval(capsys, "-d", "lvis-val", "--data-root", coco)
    assert code == 2 and "lvis_od_val.json" in said
    (coco / "cut.json").write_text('[{"image_id": 1, ')
    code, _, said = glip_eval(capsys, "-d", "coco", "--data-root", coco, "--predictions", coco / "cut.json")
    assert code == 2 and "cut.json" in said


def test_the_benchmarks_are_listed_with_their_files(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = glip_eval(capsys, "--list")
    assert code == 0 and "lvis-minival: " in out and "coco/annotations/lvis_v1_minival_inserted_image_name.json" in out
    rows = json.loads(glip_eval(capsys, "--list", "--json")[1])
    assert {"name", "splits", "layout", "source", "fetch"} <= rows[0].keys()


def test_three_few_shot_runs_become_one_submission(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (3, 30, 300):
        (tmp_path / f"run{seed}/BCCD").mkdir(parents=True)
        (tmp_path / f"run{seed}/BCCD/results.json").write_text("[]")
    words = [word for seed in (3, 30, 300) for word in ("--collect", f"{seed}={tmp_path}/run{seed}")]
    code, out, _ = glip_eval(capsys, *words, "--out", tmp_path)
    assert code == 0
    assert json.loads(Path(out.strip()).read_text()) == {"BCCD": {"3": [], "30": [], "300": []}}
    code, _, said = glip_eval(capsys, "--collect", "three=x")
    assert code == 2 and "'three=x'" in said


def test_a_stopped_run_ends_with_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = EvaluationResult("coco", "glip-t", {}, (), (), interrupted=True)
    monkeypatch.setattr("glip.evaluation.run.evaluate", lambda request, **more: stopped)
    code, out, said = glip_eval(capsys, "-d", "coco")
    assert (code, out) == (130, "") and said
    assert json.loads(glip_eval(capsys, "-d", "coco", "--json")[1])["interrupted"] is True


def test_notes_are_shown(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(coco / "mine/annotations.json", coco / "mine/images")
    (coco / "mine/images/p1.png").write_bytes(b"")
    code, out, _ = glip_eval(capsys, "-d", coco / "mine", "-o", coco / "out", "--imgsz", 64)
    assert code == 0 and "left out: 1 images of mine" in out and "p1.png" in out
    code, out, _ = glip_eval(capsys, "-d", coco / "mine", "-o", coco / "out", "--imgsz", 64, "--json")
    assert [entry["kind"] for entry in json.loads(out)["left_out"]] == ["unreadable_images"]


def test_several_sets_are_a_table_and_a_line_of_files(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("cats", "dogs"):
        write_set(coco / f"sets/{name}/test/annotations.json", coco / f"sets/{name}/test")
    code, out, _ = glip_eval(capsys, "-d", coco / "sets", "-o", coco / "out", "--imgsz", 64)
    assert code == 0 and out.splitlines()[-1].startswith(f"{coco / 'out'}/SET: results")
    assert str(coco / "out/per_class.csv") in out and "cats/results.json" not in out


def test_a_split_without_truth_has_no_table(coco: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_set(coco / "coco/annotations/image_info_test-dev2017.json", coco / "coco/test2017", truth=False)
    words = ("-d", "coco", "--split", "test-dev", "--data-root", coco, "-o", coco / "out", "--imgsz", 64)
    code, out, _ = glip_eval(capsys, *words)
    assert code == 0 and out.startswith("model: glip-t") and "coco/results.json" in out


def test_help_and_listing_import_no_torch() -> None:
    script = """
import sys, typer
from glip_cli.evaluate import evaluate
from glip_cli.calibrate import calibrate
app = typer.Typer()
app.command("eval")(evaluate)
app.command("calibrate")(calibrate)
for words in (["eval", "--help"], ["calibrate", "--help"], ["eval", "--list"]):
    try:
        app(words)
    except SystemExit as stop:
        assert not stop.code
assert not {"torch", "numpy", "PIL"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
