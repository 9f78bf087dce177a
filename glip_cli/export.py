"""`glip export`: writes the labels of a run with other thresholds or in other formats, without the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.errors import InputError, JobFailed
from glip_cli.options import ClassConfOption, JsonOption, MaxDetOption, MovedImagesOption
from glip_cli.output import print_json, print_line, print_table, progress, say

if TYPE_CHECKING:
    from glip.labeling.export import ExportSummary

MAX_CLASSES_SHOWN = 40


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Output folder of `glip label`.")],
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="Formats, separated by commas: coco, coco-results, yolo, voc, labelstudio, cvat, csv; grounding for "
            "runs with captions.",
        ),
    ] = "coco",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder to write the files to.", show_default="DIR")
    ] = None,
    conf: Annotated[
        float | None, typer.Option("--conf", help="Minimum score of a box.", show_default="that of the run")
    ] = None,
    class_conf: ClassConfOption = None,
    nms: Annotated[
        str,
        typer.Option(
            "--nms",
            help="Remove boxes that overlap a better box of the same class (class), of any class (agnostic), or none "
            "(none).",
        ),
    ] = "class",
    iou: Annotated[
        float, typer.Option("--iou", help="Remove the weaker of two boxes if their IoU is above this.")
    ] = 0.6,
    max_det: MaxDetOption = 100,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="Class file: aliases, thresholds, ids, negatives.")
    ] = None,
    image_prefix: Annotated[
        str, typer.Option("--image-prefix", help="URL prefix under which Label Studio finds the images.")
    ] = "",
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    images: MovedImagesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the labels of a run with other thresholds or in other formats. Takes seconds and runs no model."""
    from glip.labeling.classes import load_class_file
    from glip.labeling.export import export as run
    from glip.labeling.filtering import DEFAULT_CONF, ExportSettings
    from glip.labeling.records import read_run
    from glip.labeling.report import find_images
    from glip.run_folder import lock_folder

    info = read_run(folder)
    settings = ExportSettings(
        conf=info.job.get("conf", DEFAULT_CONF) if conf is None else conf,
        class_conf=parse_class_conf(class_conf or ()),
        nms=nms,  # type: ignore[arg-type]  # ExportSettings checks it
        iou=iou,
        max_det=max_det,
        classes=None if classes is None else load_class_file(classes),
        image_prefix=image_prefix,
    )
    target = out or folder
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobFailed(f"Cannot create the folder {target}: {error.strerror}. Choose another --out.") from error
    with lock_folder(target):
        shown = find_images(info, images or ()) if report else None
        with progress("Exporting", None) as bar:
            names = [name.strip() for name in formats.split(",")]
            summary = run(folder, target, names, settings, bar.advance, report_images=shown)
        written = [str(path) for path in summary.files]
    _show(summary, written, as_json)


def parse_class_conf(options: Sequence[str]) -> dict[str, float]:
    """Returns the threshold of each class in ['person=.5,dog=.3', 'hard hat, red=.4']; a name may contain commas.

    Raises:
        InputError: an option has another form.
    """
    thresholds: dict[str, float] = {}
    for option in options:
        name = ""
        for piece in option.split(","):
            before, equals, value = (name + piece).rpartition("=")
            if not equals:
                name += piece + ","
                continue
            thresholds[before.strip()] = _score(value, option)
            name = ""
        if rest := name.strip(" ,"):
            raise InputError(f"--class-conf is {option!r}; {rest!r} has no score. Write {rest}=0.5, for example.")
    return thresholds


def _score(value: str, option: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(
            f"--class-conf is {option!r}; {value!r} is not a number. Write name=0.5, separated by commas."
        ) from None


def _show(summary: ExportSummary, written: Sequence[str], as_json: bool) -> None:
    if as_json:
        content: dict[str, Any] = summary.to_json() | {"files": list(written)}
        print_json(content)
        return
    if summary.unlabelled:
        say(f"{summary.unlabelled} images are not labelled yet and are left out; `glip label` resumes the run.")
    print_line(
        f"{summary.images} images ({summary.empty} without boxes; {summary.unreadable} unreadable images left out), "
        f"{summary.boxes} boxes"
    )
    print_table(("class", "boxes"), sorted(summary.per_class.items(), key=lambda row: -row[1])[:MAX_CLASSES_SHOWN])
    for path in written:
        print_line(path)
