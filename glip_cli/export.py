"""`glip export`: the labels of an earlier run, with other thresholds and in other formats, without the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip.errors import InputError, JobFailed
from glip_cli.options import JsonOption
from glip_cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from glip.labeling.export import ExportSummary


def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `glip label --out` wrote.")],
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            "-f",
            help="With commas: coco, coco-results, yolo, voc, labelstudio, cvat, csv; grounding for captions.",
        ),
    ] = "coco",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the files.", show_default="DIR")] = None,
    conf: Annotated[
        float | None, typer.Option("--conf", help="Lowest score of a box. [default: that of the run]")
    ] = None,
    class_conf: Annotated[
        list[str] | None, typer.Option("--class-conf", help="The same for single classes: person=.5,dog=.3")
    ] = None,
    nms: Annotated[
        str, typer.Option("--nms", help="A box is dropped by a better one of its class, by any (agnostic), or by none.")
    ] = "class",
    iou: Annotated[float, typer.Option("--iou", help="Overlap above which the weaker box is dropped.")] = 0.6,
    max_det: Annotated[int, typer.Option("--max-det", help="Most boxes of an image, best first.")] = 100,
    classes: Annotated[
        Path | None, typer.Option("--classes", help="Class file: aliases, thresholds, ids, negatives.")
    ] = None,
    image_prefix: Annotated[
        str, typer.Option("--image-prefix", help="Address that Label Studio finds the images below.")
    ] = "",
    report: Annotated[bool, typer.Option("--report", help="Also write report.html.")] = False,
    images: Annotated[
        list[str] | None, typer.Option("--images", help="Where the images are now, for --report, if moved.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the labels of an earlier run with other thresholds or in other formats. Takes seconds and no model."""
    from glip.labeling.classes import load_class_file
    from glip.labeling.export import export as run
    from glip.labeling.filtering import DEFAULT_CONF, ExportSettings
    from glip.labeling.records import read_run
    from glip.run_folder import lock_folder

    info = read_run(folder)
    settings = ExportSettings(
        conf=info.job.get("conf", DEFAULT_CONF) if conf is None else conf,
        class_conf=parse_class_conf(class_conf or ()),
        nms=nms,  # type: ignore[arg-type]  # ExportSettings says which words it accepts
        iou=iou,
        max_det=max_det,
        classes=None if classes is None else load_class_file(classes),
        image_prefix=image_prefix,
    )
    target = out or folder
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise JobFailed(f"Cannot make the folder {target}: {error.strerror}. Choose another with --out.") from error
    with lock_folder(target):
        with progress("Exporting", None) as bar:
            summary = run(folder, target, [name.strip() for name in formats.split(",")], settings, bar.advance)
        written = [str(path) for path in summary.files]
        if report:
            from glip.labeling.report import find_images, write_report

            written.append(str(write_report(folder, find_images(info, images or ()), settings, out=target)))
    _show(summary, written, as_json)


def parse_class_conf(options: Sequence[str]) -> dict[str, float]:
    """`['person=.5,dog=.3', 'hard hat, red=.4']` as thresholds by class; a name may hold commas itself.

    Raises:
        InputError: something else stands there.
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
        if name.strip(" ,"):
            raise InputError(f"--class-conf {option!r} ends with {name.strip(' ,')!r}, which has no `=score` after it.")
    return thresholds


def _score(value: str, option: str) -> float:
    try:
        return float(value)
    except ValueError:
        raise InputError(
            f"--class-conf {option!r}: {value!r} is no score; write name=0.5, with commas between."
        ) from None


def _show(summary: ExportSummary, written: Sequence[str], as_json: bool) -> None:
    if as_json:
        content: dict[str, Any] = summary.to_json() | {"files": list(written)}
        print_json(content)
        return
    if summary.unlabelled:
        say(f"{summary.unlabelled} images are not labelled yet and left out; `glip label` goes on with them.")
    typer.echo(
        f"{summary.images} images ({summary.empty} without boxes, {summary.unreadable} unreadable ones left out), "
        f"{summary.boxes} boxes"
    )
    print_table(("class", "boxes"), sorted(summary.per_class.items(), key=lambda row: -row[1])[:40])
    for path in written:
        typer.echo(path)
