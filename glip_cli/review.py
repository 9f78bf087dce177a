"""`glip review`: labels into FiftyOne, where people correct them, and back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from glip_cli.options import JsonOption
from glip_cli.output import print_json, print_table, progress, say

if TYPE_CHECKING:
    from glip.review.pull import PullSummary

app = typer.Typer(help="Correct labels in FiftyOne, and take them back.", no_args_is_help=True)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Dataset, as `glip review list` shows it.")]


@app.command("push")
def push(
    labels: Annotated[
        Path, typer.Argument(metavar="DIR|FILE", help="Folder that `glip label --out` wrote, or a COCO file.")
    ],
    name: Annotated[str | None, typer.Option("--name", "-n", help="Dataset. [default: the name of the folder]")] = None,
    truth: Annotated[Path | None, typer.Option("--truth", help="COCO file with true boxes, to compare with.")] = None,
    images: Annotated[list[str] | None, typer.Option("--images", help="Where the images are now, if moved.")] = None,
    conf: Annotated[
        float | None, typer.Option("--conf", help="Lowest score of a label. [default: that of the run]")
    ] = None,
    class_conf: Annotated[
        list[str] | None, typer.Option("--class-conf", help="The same for single classes: person=.5,dog=.3")
    ] = None,
    port: Annotated[int, typer.Option("--port", help="Of the app, on this machine only.")] = 5151,
    launch: Annotated[bool, typer.Option("--launch/--no-launch", help="Open the app in the browser.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Put labels into FiftyOne and open its app. Pushed again, corrections stay and nothing doubles."""
    from glip.review.app import check_port, show
    from glip.review.database import connect
    from glip.review.push import push as run
    from glip.review.source import open_source
    from glip.review.truth import compare_with_truth, has_truth
    from glip.review.views import save_views

    if launch:
        check_port(port)
    fiftyone = connect()
    true_boxes = None
    if truth is not None:
        from glip.data.coco import load_coco

        true_boxes = load_coco(truth)
    source = open_source(labels, _settings(labels, conf, class_conf or ()), images or ())
    name = source.name if name is None else name
    with progress("Pushing", source.total) as bar:
        summary = run(source, name, bar.advance)
    content: dict[str, Any] = summary.to_json()
    content["views"] = save_views(fiftyone, fiftyone.load_dataset(name))
    if true_boxes is not None or (summary.changed and has_truth(fiftyone, name)):
        say("Comparing with the truth …")
        content |= compare_with_truth(fiftyone, name, true_boxes, str(truth))
        content["views"] = save_views(fiftyone, fiftyone.load_dataset(name))
    if as_json:
        print_json(content)
    else:
        _show_push(content)
    if launch:
        show(fiftyone, name, port, lambda url: say(f"The app is open at {url}; Ctrl-C ends it, edits are kept."))


@app.command("pull")
def pull(
    name: NameArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the files.")],
    only_reviewed: Annotated[
        bool, typer.Option("--only-reviewed", help="Leave out images where nobody changed or tagged anything.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Write the corrected labels as a COCO file, with what was changed and how much of it was right."""
    from glip.data.discovery import CORRECTED_FILE
    from glip.review.database import connect, open_dataset
    from glip.review.pull import CHART_FILE, DIFF_FILE, SUMMARY_FILE
    from glip.review.pull import pull as run

    with progress("Pulling", len(open_dataset(connect(), name))) as bar:
        summary = run(name, out, only_reviewed=only_reviewed, advance=bar.advance)
    files = [str(out / file) for file in (CORRECTED_FILE, DIFF_FILE, SUMMARY_FILE, CHART_FILE)]
    if as_json:
        print_json(summary.to_json() | {"files": files})
        return
    _show_summary(summary)
    for path in files:
        typer.echo(path)


@app.command("status")
def status(name: NameArgument, as_json: JsonOption = False) -> None:
    """Show what was reviewed so far, without writing anything."""
    from glip.review.database import connect
    from glip.review.pull import summarise

    summary = summarise(connect(), name)
    if as_json:
        print_json(summary.to_json())
    else:
        _show_summary(summary)


@app.command("list")
def list_datasets(as_json: JsonOption = False) -> None:
    """List the datasets that were pushed."""
    from glip.review.database import connect, describe

    rows = describe(connect())
    if as_json:
        print_json(rows)
    elif not rows:
        say("Nothing was pushed yet; `glip review push DIR` does.")
    else:
        print_table(("dataset", "images", "labels", "AP", "from"), [_row(row) for row in rows])


@app.command("delete")
def delete(
    name: NameArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Remove a dataset with all corrections in it. Images and label folders stay."""
    from glip.review.database import connect, open_dataset

    dataset = open_dataset(connect(), name)
    if not yes:
        question = f"Remove the dataset {name!r} ({len(dataset)} images) and every correction in it?"
        if not typer.confirm(question, err=True):
            raise typer.Exit(1)
    dataset.delete()
    say(f"Removed {name!r}.")


def _settings(labels: Path, conf: float | None, class_conf: list[str] | tuple[str, ...]) -> Any:
    """Thresholds, where some are asked for; None leaves them to the run."""
    if conf is None and not class_conf:
        return None
    from glip.labeling.filtering import DEFAULT_CONF, ExportSettings
    from glip.labeling.records import read_run
    from glip_cli.export import parse_class_conf

    if conf is None:
        conf = read_run(labels).job.get("conf", DEFAULT_CONF) if labels.is_dir() else DEFAULT_CONF
    return ExportSettings(conf=conf, class_conf=parse_class_conf(class_conf))


def _show_push(content: dict[str, Any]) -> None:
    typer.echo(
        f"{content['dataset']}: {content['added']} images added, {content['updated']} updated, "
        f"{content['unchanged']} unchanged, {content['removed']} removed; "
        f"{content['predictions']} boxes written, {content['labels']} of them labels"
    )
    if content["unreadable"]:
        typer.echo(f"{content['unreadable']} unreadable images left out")
    if "average_precision" in content:
        precision = content["average_precision"]
        told = "No AP, which takes true boxes and scores" if precision is None else f"AP {precision:.3f} of all boxes"
        typer.echo(
            f"{told}; of the labels {content['true_positives']} true, {content['false_positives']} false; "
            f"{content['missed']} missed"
        )


def _show_summary(summary: PullSummary) -> None:
    rate = summary.acceptance_rate
    total = summary.total
    typer.echo(
        f"{summary.dataset}: {summary.reviewed} of {summary.images} images reviewed, {summary.boxes} boxes, "
        f"{summary.unreviewed} of them unreviewed"
    )
    if rate is None:
        typer.echo("No proposal was reviewed yet: approve, reject, change or delete some.")
    else:
        typer.echo(f"{rate:.1%} of {total.proposed} proposals accepted")
    if summary.nameless:
        say(f"{summary.nameless} boxes were drawn without a class and are left out; give them one in the app.")
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
