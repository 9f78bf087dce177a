"""`glip calibrate`: thresholds and wordings from a handful of labelled images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from glip_cli.options import JsonOption
from glip_cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from glip.evaluation.calibrate import Calibration


def calibrate(
    labelled: Annotated[
        Path, typer.Argument(metavar="LABELLED", help="COCO file of a few images, each annotated completely.")
    ],
    records: Annotated[
        Path, typer.Option("--records", "-r", help="Folder of a `glip label` run that looked at these images.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Class file to write, for `glip label --classes`.")] = Path(
        "classes.yaml"
    ),
    precision: Annotated[
        float | None, typer.Option("--precision", help="Reach this precision, 0 to 1, instead of the highest F1.")
    ] = None,
    all_wordings: Annotated[
        bool, typer.Option("--all-wordings", help="Keep every wording of a class, not the best alone.")
    ] = False,
    resamples: Annotated[int, typer.Option("--resamples", help="Draws of the images, for the intervals.")] = 1000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace --out if it exists.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find the threshold of each class, and its best wording, from a few labelled images. Takes no model."""
    from glip.evaluation.calibrate import calibrate as run
    from glip.evaluation.calibrate import write_class_file

    found = run(labelled, records, precision=precision, all_wordings=all_wordings, resamples=resamples)
    write_class_file(out, found, overwrite)
    if as_json:
        print_json({**found.to_json(), "file": str(out)})
        return
    _show(found)
    typer.echo(out)


def _show(found: Calibration) -> None:
    from glip.evaluation.calibrate import in_words

    if found.unknown:
        say(f"{found.unknown} labelled images are not in the records, and are left out.")
    typer.echo(f"{found.images} labelled images; in brackets, where 95 of 100 redrawn sets of images lie")
    print_table(
        ("class", "boxes", "threshold", "precision", "recall", "F1"),
        (
            (row.name, row.boxes, row.why)
            if row.threshold is None
            else (row.name, row.boxes, *map(in_words, (row.threshold, row.precision, row.recall, row.f1)))
            for row in found.thresholds
        ),
    )
    if found.wordings:
        typer.echo("")
        print_table(
            ("class", "wording", "AP", "AP50", "best in"),
            (
                (
                    row.name,
                    row.wording,
                    f"{100 * row.ap:.1f}",
                    in_words(row.ap50, percent=True),
                    f"{100 * row.best_in:.0f} of 100 draws",
                )
                for row in found.wordings
            ),
        )
