"""`glip calibrate`: thresholds and wordings from a few labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glip_cli.options import JsonOption, OverwriteOption
from glip_cli.output import print_json, print_line, print_table, say_next

if TYPE_CHECKING:
    from glip.evaluation.calibrate import Calibration


def calibrate(
    labelled: Annotated[
        Path, typer.Argument(metavar="LABELLED", help="COCO file of a few images, each annotated completely.")
    ],
    records: Annotated[
        Path, typer.Option("--records", "-r", help="Folder of a `glip label` run that includes these images.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Class file to write, for `glip label --classes`.")] = Path(
        "classes.yaml"
    ),
    target_precision: Annotated[
        float | None,
        typer.Option("--target-precision", help="Share of right boxes to reach (0 to 1).", show_default="maximise F1"),
    ] = None,
    all_wordings: Annotated[
        bool, typer.Option("--all-wordings", help="Keep all wordings of a class instead of the best one.")
    ] = False,
    resamples: Annotated[
        int, typer.Option("--resamples", help="Number of bootstrap samples for the confidence intervals.")
    ] = 1000,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the threshold and the best wording of each class from a few labelled images. Runs no model."""
    from glip.evaluation.calibrate import calibrate as run
    from glip.evaluation.calibrate import write_class_file

    calibration = run(labelled, records, precision=target_precision, all_wordings=all_wordings, resamples=resamples)
    write_class_file(out, calibration, overwrite)
    if as_json:
        print_json({**calibration.to_json(), "file": str(out)})
        return
    _show(calibration)
    print_line(out)
    say_next("glip", "export", records, "--classes", out)


def _show(calibration: Calibration) -> None:
    from glip.evaluation.calibrate import interval_text

    for entry in calibration.left_out:
        print_line(f"left out: {entry}")
    print_line(f"{calibration.images} labelled images; 95% confidence intervals in brackets")
    print_table(
        ("class", "boxes", "threshold", "precision", "recall", "F1"),
        (
            (row.name, row.boxes, row.why)
            if row.threshold is None
            else (row.name, row.boxes, *map(interval_text, (row.threshold, row.precision, row.recall, row.f1)))
            for row in calibration.thresholds
        ),
    )
    if not calibration.wordings:
        return
    print_line()
    print_table(
        ("class", "wording", "AP", "AP50", "best in"),
        (
            (
                row.name,
                row.wording,
                f"{100 * row.ap:.1f}",
                interval_text(row.ap50, percent=True),
                f"{100 * row.best_in:.0f}% of samples",
            )
            for row in calibration.wordings
        ),
    )
