"""`glip review`: puts labels into FiftyOne, where people correct them, and writes the corrections."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip_cli.options import ClassConfOption, JsonOption, MovedImagesOption
from glip_cli.output import print_json, print_line, print_table, progress, say

if TYPE_CHECKING:
    from glip.labeling.filtering import ExportSettings
    from glip.left_out import LeftOut
    from glip.review.summary import PullSummary

app = typer.Typer(help="Correct labels in FiftyOne, and write the corrected labels.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of the dataset, see `glip review list`.")]


@app.command("push")
def push(
    labels: Annotated[Path, typer.Argument(metavar="DIR|FILE", help="Output folder of `glip label`, or a COCO file.")],
    name: Annotated[
        str | None,
        typer.Option("--name", "-n", help="Name of the dataset.", show_default="the name of the folder"),
    ] = None,
    truth: Annotated[
        Path | None, typer.Option("--truth", help="COCO file with true boxes, to score the labels.")
    ] = None,
    images: MovedImagesOption = None,
    conf: Annotated[
        float | None, typer.Option("--conf", help="Minimum score of a label.", show_default="that of the run")
    ] = None,
    class_conf: ClassConfOption = None,
    port: Annotated[int, typer.Option("--port", help="Port of the app, open to this machine only.")] = 5151,
    launch: Annotated[bool, typer.Option("--launch/--no-launch", help="Open the app in the browser.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Put labels into FiftyOne and open its app. Repeat it to update the labels; corrections are kept."""
    from glip.review.app import check_port, serve
    from glip.review.database import check_installed, connect
    from glip.review.push import none_left_behind, save_views
    from glip.review.push import push as run
    from glip.review.source import open_source
    from glip.review.truth import compare_with_truth, has_truth

    check_installed()
    if launch:
        check_port(port)
    true_boxes = None
    truth_left_out: Sequence[LeftOut] = ()
    if truth is not None:
        from glip.data.coco_folders import read_own

        read = read_own(truth)
        true_boxes = read.dataset
        for sentence in read.notes:
            say(sentence)
        truth_left_out = read.left_out
    source = open_source(labels, _settings(labels, conf, class_conf or ()), images or ())
    fiftyone = connect()  # takes seconds; what was given is checked first
    name = source.name if name is None else name
    with none_left_behind(fiftyone, name):
        with progress("Pushing", source.total) as bar:
            summary = run(source, name, bar.advance)
        summary.left_out += truth_left_out
        content: dict[str, Any] = summary.to_json()
        content["views"] = save_views(fiftyone, fiftyone.load_dataset(name))
        if true_boxes is not None or (summary.changed and has_truth(fiftyone, name)):
            say("Comparing with the truth …")
            content |= compare_with_truth(fiftyone, name, true_boxes, str(truth))
            content["views"] = save_views(fiftyone, fiftyone.load_dataset(name))
    if as_json:
        print_json(content)
    else:
        _show_push(content, summary.left_out)
    if launch:
        serve(fiftyone, name, port, lambda url: say(f"The app runs at {url}. Ctrl-C stops it; edits are kept."))


@app.command("pull")
def pull(
    name: NameArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder to write the files to.")],
    only_reviewed: Annotated[
        bool, typer.Option("--only-reviewed", help="Leave out images in which nobody changed or tagged anything.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the corrected labels as a COCO file, with the changes and the share of labels that were right."""
    from glip.review.database import connect, open_dataset
    from glip.review.pull import FILES
    from glip.review.pull import pull as run

    with progress("Pulling", len(open_dataset(connect(), name))) as bar:
        summary = run(name, out, only_reviewed=only_reviewed, advance=bar.advance)
    files = [str(out / file) for file in FILES]
    if as_json:
        print_json(summary.to_json() | {"files": files})
        return
    _show_summary(summary)
    for path in files:
        print_line(path)


@app.command("status")
def status(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show the progress of a review. Writes nothing."""
    from glip.review.database import connect
    from glip.review.pull import summarise

    summary = summarise(connect(), name)
    if as_json:
        print_json(summary.to_json())
    else:
        _show_summary(summary)


@app.command("list")
def list_datasets(as_json: JsonOption = False) -> None:
    """List the datasets made by `glip review push`."""
    from glip.review.database import connect, describe

    rows = describe(connect())
    if as_json:
        print_json(rows)
    elif not rows:
        say("There is no dataset yet; `glip review push DIR` makes one.")
    else:
        print_table(("dataset", "images", "labels", "AP", "from"), [_row(row) for row in rows])


@app.command("delete")
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
) -> None:
    """Delete a dataset with all its corrections. Images and label folders are kept."""
    from glip.review.database import connect, open_dataset

    dataset = open_dataset(connect(), name)
    if not yes:
        question = f"Delete the dataset {name!r} ({len(dataset)} images) with all its corrections?"
        if not typer.confirm(question, err=True):
            raise typer.Exit(1)
    dataset.delete()
    say(f"Deleted {name!r}.")


def _settings(labels: Path, conf: float | None, class_conf: list[str] | tuple[str, ...]) -> ExportSettings | None:
    """Returns the thresholds given as options; None for those of the run."""
    if conf is None and not class_conf:
        return None
    from glip.labeling.filtering import DEFAULT_CONF, ExportSettings
    from glip.labeling.records import read_run
    from glip_cli.export import parse_class_conf

    if conf is None:
        conf = read_run(labels).job.get("conf", DEFAULT_CONF) if labels.is_dir() else DEFAULT_CONF
    return ExportSettings(conf=conf, class_conf=parse_class_conf(class_conf))


def _show_push(content: dict[str, Any], left_out: Sequence[LeftOut]) -> None:
    print_line(
        f"{content['dataset']}: {content['added']} images added, {content['updated']} updated, "
        f"{content['unchanged']} unchanged, {content['removed']} removed; "
        f"{content['predictions']} boxes written, {content['labels']} of them labels"
    )
    for entry in left_out:
        print_line(f"left out: {entry}")
    if "average_precision" in content:
        precision = content["average_precision"]
        score = "no AP (it needs true boxes and scores)" if precision is None else f"AP {precision:.3f} of all boxes"
        print_line(
            f"{score}; labels: {content['true_positives']} true positives, {content['false_positives']} false "
            f"positives; {content['missed']} true boxes missed"
        )


def _show_summary(summary: PullSummary) -> None:
    rate = summary.acceptance_rate
    total = summary.total
    print_line(
        f"{summary.dataset}: {summary.reviewed} of {summary.images} images reviewed, {summary.boxes} boxes, "
        f"{summary.unreviewed} of them unreviewed"
    )
    if rate is None:
        print_line("No label is reviewed yet. Approve, reject, change or delete some in the app.")
    else:
        print_line(f"{rate:.1%} of {total.proposed} labels accepted")
    for entry in summary.left_out:
        print_line(f"left out: {entry}")
    columns = ("class", "proposed", "accepted", "moved", "relabelled", "deleted", "added")
    rows = [
        (name, *(getattr(counts, column) for column in columns[1:]))
        for name, counts in [*summary.per_class.items(), ("all", total)]
    ]
    rows = [row for row in rows if any(row[1:])]
    if rows:
        print_table(columns, rows)


def _row(row: dict[str, Any]) -> tuple[object, ...]:
    precision = row["average_precision"]
    return row["name"], row["images"], row["labels"], "" if precision is None else f"{precision:.3f}", row["from"]
