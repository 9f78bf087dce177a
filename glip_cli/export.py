"""`glip export`: writes the labels of a run with other thresholds or in other formats, without the model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.errors import InputError, JobFailed
from glip_cli.options import ClassConfOption, JsonOption, MaxDetOption, MovedImagesOption, SeedOption, complete_runs
from glip_cli.output import print_json, print_line, print_table, progress, say, say_next

if TYPE_CHECKING:
    from glip.labeling.export import ExportSummary

MAX_CLASSES_SHOWN = 40


def export(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Output folder of `glip label`.", autocompletion=complete_runs)
    ],
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="Formats, separated by commas: coco, coco-results, yolo, voc, labelme, labelstudio, cvat, csv; "
            "grounding for runs with captions.",
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
        str,
        typer.Option(
            "--image-prefix", help="Address of the images' folder for Label Studio: https://…/, s3://bucket/photos/."
        ),
    ] = "",
    copy_images: Annotated[
        bool,
        typer.Option("--copy-images", help="Copy the images beside the labels instead of linking them."),
    ] = False,
    no_images: Annotated[
        bool, typer.Option("--no-images", help="Write labels only (yolo, voc and labelme link the images otherwise).")
    ] = False,
    split_ratio: Annotated[
        str | None,
        typer.Option(
            "--split-ratio",
            help="Divide the images into train/val (0.8/0.2) or train/val/test (0.7/0.2/0.1) in coco, yolo and voc. "
            "Classes are divided alike, copies of an image stay together.",
            show_default="not divided",
        ),
    ] = None,
    seed: SeedOption = 0,
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    images: MovedImagesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the labels of a run with other thresholds or in other formats. Takes seconds and runs no model."""
    from glip.labeling.classes import load_class_file
    from glip.labeling.export import export as run
    from glip.labeling.export import placing
    from glip.labeling.filtering import DEFAULT_CONF, ExportSettings
    from glip.labeling.records import read_run
    from glip.labeling.report import find_images
    from glip.labeling.splitting import Split
    from glip.run_folder import lock_folder

    info = read_run(folder)
    names = [name.strip() for name in formats.split(",")]
    split = None if split_ratio is None else Split(parse_ratio(split_ratio), seed)
    if copy_images and no_images:
        raise InputError("--copy-images and --no-images exclude each other. Leave one of them out.")
    places = bool(placing(names, split)) and not no_images
    if copy_images and not places:
        raise InputError(
            f"--copy-images is given, but {', '.join(names)} has no place for images. yolo, voc and labelme have one, "
            f"and coco with --split-ratio."
        )
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
        found = find_images(info, images or (), use_network=report or copy_images) if report or places else {}
        with progress("Exporting", None) as bar:
            summary = run(
                *(folder, target, names, settings, bar.advance),
                report_images=found if report else None,
                images=found if places else None,
                copy_images=copy_images,
                split=split,
            )
        written = [str(path) for path in summary.files if path.stat().st_size]
    _show(summary, written, as_json)
    if not as_json:
        own = "the run's own; --conf changes it" if conf is None else "as given"
        print_line(f"boxes from score {settings.conf:.2f}, {own}")
        if find_spec("fiftyone") is not None:
            say_next("glip", "review", "push", folder)


def parse_ratio(option: str) -> tuple[float, ...]:
    """Returns the shares in '0.8/0.2', '80/20' or '0.7,0.2,0.1'.

    Raises:
        InputError: a share is not a number.
    """
    try:
        shares = tuple(float(share) for share in re.split(r"[/,:]", option))
    except ValueError:
        raise InputError(
            f"--split-ratio is {option!r}; write shares between slashes: 0.8/0.2 or 0.7/0.2/0.1."
        ) from None
    percent = abs(sum(shares) - 100) < 1e-6
    return tuple(share / 100 for share in shares) if percent else shares


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
    for entry in summary.left_out:
        say(str(entry))
    print_line(
        f"{summary.images} images ({summary.empty} without boxes; {summary.unreadable} unreadable images left out), "
        f"{summary.boxes} boxes"
    )
    if summary.parts:
        print_line(", ".join(f"{name}: {count} images" for name, count in summary.parts.items()))
    print_table(
        ("class", "boxes"),
        sorted(((name, count) for name, count in summary.per_class.items() if count), key=lambda row: -row[1])[
            :MAX_CLASSES_SHOWN
        ],
    )
    for path in written:
        print_line(path)
