"""report.html: what it says, that nothing in it can run, and that a browser shows it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from glip.errors import InputError
from glip.labeling.filtering import ExportSettings
from glip.labeling.records import Record
from glip.labeling.report import find_images
from tests.labeling.runs import a_record, a_run, broken, write_report, write_run

EVIL = "<script>document.title='taken'</script>"
NAMES = ("person", f"dog {EVIL}", "\"'><img src=x onerror=document.title='taken'>")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


def records() -> list[Record]:
    box = [10, 10, 60, 60]
    return [
        a_record("sure.jpg", [box], [0.95], [0]),
        a_record("near.jpg", [box, [20, 20, 90, 90]], [0.8, 0.31], [1, 0]),
        a_record("just below.jpg", [box], [0.28], [2]),
        a_record(f"{EVIL}.jpg", [box], [0.4], [1]),
        a_record("</script><b>.jpg"),
        broken(f"broken {EVIL}.jpg", f"because {EVIL}"),
    ]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "labels", records(), names=NAMES)


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """Files for all but one of the images."""
    found = {}
    for place, record in enumerate(records()):
        if record.error is None and record.file_name != "sure.jpg":
            found[record.file_name] = tmp_path / f"{place}.jpg"
            Image.new("RGB", (640, 480), (200, 40 * place, 0)).save(found[record.file_name])
    return found


class Page(HTMLParser):
    """A page as a browser splits it: tags with their attributes, and text by the id around it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.data = ""
        self._inside = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = str(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "data":
            self.data += data
        elif self._inside not in ("script", "style"):
            self.texts.append(data)

    @property
    def content(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads(self.data)
        return content

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


def test_the_page_counts_what_is_exported(run: Path, images: dict[str, Path]) -> None:
    text = write_report(run, images, ExportSettings()).read_text()
    for name, number in {"images": 5, "with-boxes": 3, "without-boxes": 2, "unreadable": 1, "boxes": 4}.items():
        assert f'id="count-{name}"><b data-count>{number}</b>' in text


def test_classes_are_listed_with_their_counts_and_thresholds(run: Path, images: dict[str, Path]) -> None:
    write_report(run, images, ExportSettings(class_conf={"person": 0.25}))
    rows = re.findall(r'<tr data-label="(\d)">(.*?)</tr>', (run / "report.html").read_text(), re.DOTALL)
    cells = {int(label): re.findall(r"<td data-[^>]*>([\d.,]+)</td>", row) for label, row in rows}
    assert cells == {0: ["2", "2", "0.25"], 1: ["2", "2", "0.3"], 2: ["0", "0", "0.3"]}


def test_histograms_count_down_to_the_floor(run: Path, images: dict[str, Path]) -> None:
    write_report(run, images, ExportSettings(conf=0.9))
    bars = re.findall(r"<title>([\d.]+) to [\d.]+: (\d+)</title>", (run / "report.html").read_text())
    assert sorted(bars) == [("0.25", "1"), ("0.30", "1"), ("0.40", "1"), ("0.80", "1"), ("0.95", "1")]


def test_the_most_uncertain_images_come_first(run: Path, images: dict[str, Path]) -> None:
    page = Page(write_report(run, images, ExportSettings()))
    names = [image["name"] for image in page.content["images"]]
    assert names == ["near.jpg", "just below.jpg", f"{EVIL}.jpg", "sure.jpg", "</script><b>.jpg"]


def test_boxes_below_their_threshold_are_there_and_marked(run: Path, images: dict[str, Path]) -> None:
    page = Page(write_report(run, images, ExportSettings()))
    boxes = {image["name"]: image["boxes"] for image in page.content["images"]}
    assert boxes["near.jpg"] == [[1, 0.8, 10, 10, 60, 60, True], [0, 0.31, 20, 20, 90, 90, True]]
    assert boxes["just below.jpg"] == [[2, 0.28, 10, 10, 60, 60, False]]
    assert boxes["</script><b>.jpg"] == []


def test_thumbnails_are_small_upright_copies(run: Path, tmp_path: Path) -> None:
    turned = Image.new("RGB", (480, 640), "red")
    turned.paste("blue", (0, 0, 480, 60))  # at the top of the stored image: at the right once it is upright
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    page = Page(write_report(run, {"near.jpg": tmp_path / "turned.jpg"}, ExportSettings()))
    kind, _, encoded = page.content["images"][0]["image"].partition(",")
    assert kind == "data:image/jpeg;base64"
    small = Image.open(BytesIO(base64.b64decode(encoded)))
    assert small.size == (480, 360)
    assert np.array(small)[180, 475].tolist()[2] > 200


def test_an_image_that_is_gone_leaves_its_boxes(run: Path, tmp_path: Path) -> None:
    page = Page(write_report(run, {"near.jpg": tmp_path / "gone.jpg"}, ExportSettings()))
    assert [(image["image"], len(image["boxes"])) for image in page.content["images"][:1]] == [("", 2)]


def test_a_limit_keeps_the_most_uncertain(run: Path, images: dict[str, Path]) -> None:
    page = Page(write_report(run, images, ExportSettings(), limit=2))
    assert [image["name"] for image in page.content["images"]] == ["near.jpg", "just below.jpg"]
    assert "2 of 5 images, those first" in page.text
    assert Page(write_report(run, images, ExportSettings(), limit=0)).content["images"] == []


def test_of_equally_uncertain_images_the_first_listed_are_kept(tmp_path: Path) -> None:
    alike = [a_record(f"{number}.jpg", [[0, 0, 9, 9]], [0.5], [0]) for number in range(9)]
    page = Page(write_report(write_run(tmp_path, alike), {}, ExportSettings(), limit=3))
    assert [image["name"] for image in page.content["images"]] == ["0.jpg", "1.jpg", "2.jpg"]


def test_thumbnails_together_stay_within_their_bytes(run: Path, images: dict[str, Path]) -> None:
    page = Page(write_report(run, images, ExportSettings(), max_bytes=5000))
    sizes = [len(base64.b64decode(image["image"].partition(",")[2])) for image in page.content["images"]]
    assert 0 < len(sizes) < 5
    assert sum(sizes) <= 5000
    assert "more would make this file too large" in page.text


def test_the_slider_has_the_counts_of_every_score(run: Path, images: dict[str, Path]) -> None:
    content = Page(write_report(run, images, ExportSettings())).content
    assert content["classes"][0]["boxes"] == [31, 1, 95, 1]  # step of the score, number of boxes
    assert content["classes"][1]["boxes"] == [40, 1, 80, 1]
    assert content["classes"][2]["images"] == [28, 1]
    assert content["best"] == [28, 1, 40, 1, 80, 1, 95, 1]
    assert content["labelled"] == 5


def test_the_command_names_the_run_as_one_word_of_a_shell(tmp_path: Path) -> None:
    run = write_run(tmp_path / "my labels; rm", records(), names=NAMES)
    page = Page(write_report(run, {}, ExportSettings()))
    assert shlex.split(page.content["command"]) == ["glip", "export", str(run)]


def test_images_are_found_from_the_page_and_their_names_are_no_schemes(run: Path, tmp_path: Path) -> None:
    image = tmp_path / "javascript:alert(1)#?.jpg"
    page = Page(write_report(run, {"near.jpg": image}, ExportSettings()))
    assert page.content["images"][0]["file"] == "../javascript%3Aalert%281%29%23%3F.jpg"
    assert page.content["images"][1]["file"] == ""


def test_classes_that_were_never_found_are_one_line(tmp_path: Path) -> None:
    run = write_run(tmp_path, records(), names=(*NAMES, f"never {EVIL}"))
    page = Page(write_report(run, {}, ExportSettings()))
    assert sum("data-label" in attributes for _, attributes in page.tags) == 3
    assert f"never {EVIL}" in page.texts
    assert "1 class was not found" in page.text


def test_names_never_become_markup(run: Path, images: dict[str, Path]) -> None:
    page = Page(write_report(run, images, ExportSettings()))
    assert sum(tag == "script" for tag, _ in page.tags) == 2
    assert not any(tag == "img" for tag, _ in page.tags)
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert f"broken {EVIL}.jpg" in page.texts
    assert f"because {EVIL}" in page.texts
    assert set(NAMES) <= set(page.texts)
    assert [entry["name"] for entry in page.content["classes"]] == list(NAMES)


def test_marks_of_the_frame_in_names_are_left_alone(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path, [broken("{{data}}.jpg", "{{nothing}}")]), {}, ExportSettings()))
    assert "{{data}}.jpg" in page.texts
    assert "{{nothing}}" in page.texts


def test_the_page_reaches_for_nothing_outside_itself(run: Path, images: dict[str, Path]) -> None:
    page = Page(write_report(run, images, ExportSettings()))
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "base")
        assert not {"src", "href", "srcset"} & attributes.keys()
    frame = (run / "report.html").read_text().replace("http://www.w3.org/2000/svg", "")
    assert "http://" not in frame
    assert "https://" not in frame
    assert "url(" not in frame


def test_the_policy_lets_this_script_run_and_no_other(run: Path, images: dict[str, Path]) -> None:
    page = Page(write_report(run, images, ExportSettings()))
    policy = next(str(a["content"]) for _, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    script = (run / "report.html").read_text().rpartition("<script>")[2].partition("</script>")[0]
    assert f"script-src 'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'" in policy
    assert policy.startswith("default-src 'none'")


def test_long_lists_of_errors_end_with_a_count(tmp_path: Path) -> None:
    run = write_run(tmp_path, [broken(f"{number}.jpg") for number in range(520)])
    page = Page(write_report(run, {}, ExportSettings()))
    assert sum(tag == "tr" for tag, _ in page.tags) == 500 + 2
    assert "… and 20 more" in page.text


def test_a_run_without_images_has_a_report(tmp_path: Path) -> None:
    page = Page(write_report(write_run(tmp_path, []), {}, ExportSettings()))
    assert page.content["images"] == []


def test_the_report_goes_where_it_is_wanted(run: Path, tmp_path: Path) -> None:
    assert write_report(run, {}, ExportSettings(), out=tmp_path / "there") == tmp_path / "there" / "report.html"
    assert not (run / "report.html").exists()


def test_what_the_records_do_not_hold_cannot_be_reported(run: Path) -> None:
    with pytest.raises(InputError, match=r"0\.01"):
        write_report(run, {}, ExportSettings(conf=0.01))


def test_images_are_found_where_the_run_found_them_or_where_they_were_moved(
    tmp_path: Path, images: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    run = a_run(job={"sources": [str(tmp_path)]})
    everything = {path.name: path for path in images.values()}
    assert find_images(run) == everything
    assert find_images(a_run(job={"sources": ["/nowhere"]}), [str(tmp_path)]) == everything
    assert find_images(a_run(job={"sources": ["/nowhere"]})) == {}
    assert "/nowhere" in caplog.text
    with pytest.raises(InputError, match="/elsewhere"):
        find_images(run, ["/elsewhere"])


def dom_of(path: Path, profile: Path) -> str:
    quiet = "--disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update"
    command = [
        str(BROWSER),
        "--headless",
        "--no-sandbox",
        *quiet.split(),
        "--disable-sync",
        f"--user-data-dir={profile}",
    ]
    page = subprocess.run(
        [*command, "--virtual-time-budget=5000", "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return page.stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_a_browser_shows_counts_and_images_and_runs_nothing_else(
    run: Path, images: dict[str, Path], tmp_path: Path
) -> None:
    dom = dom_of(write_report(run, images, ExportSettings()), tmp_path / "profile")
    assert '<div class="tile" id="count-boxes"><b data-count="">4</b>' in dom
    assert '<span id="matches">5 of 5 images</span>' in dom
    assert '<output id="lowest">0.30</output>' in dom
    cards = re.findall(r'<article class="card">(.*?)</article>', dom, re.DOTALL)
    assert [len(re.findall("<rect", card)) for card in cards] == [2, 0, 1, 1, 0]
    assert [len(re.findall("<img", card)) for card in cards] == [1, 1, 1, 0, 1]
    assert "person 0.31" in cards[0]
    assert "<title>glip report</title>" in dom
    assert "taken</title>" not in dom


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_search_slider_and_classes_choose_images(run: Path, images: dict[str, Path], tmp_path: Path) -> None:
    frame = write_report(run, images, ExportSettings()).read_text()
    frame = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", frame)

    def matches(actions: str) -> str:
        path = tmp_path / "acted.html"
        path.write_text(frame.replace("show();\n</script>", f"show(); {actions}\n</script>"))
        dom = dom_of(path, tmp_path / "profile")
        return re.findall('<span id="matches">(.*?)</span>', dom)[0] + f", {dom.count('<rect ')} boxes"

    bars = 5  # of the histograms
    assert matches("at('score').value = 0.05; show()") == f"5 of 5 images, {5 + bars} boxes"
    assert matches("at('score').value = 0.9; show()") == f"5 of 5 images, {1 + bars} boxes"
    assert matches("at('search').value = 'PERSON near'; show()") == f"1 of 5 images, {2 + bars} boxes"
    assert matches("document.querySelector('tr[data-label=\"0\"] button').click()") == (
        f"2 of 5 images with person, {2 + bars} boxes"
    )


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_the_slider_moves_counts_histograms_and_the_command(run: Path, images: dict[str, Path], tmp_path: Path) -> None:
    page = write_report(run, images, ExportSettings())
    frame = re.sub(r"script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", page.read_text())
    move = "at('score').value = 0.5; at('score').dispatchEvent(new Event('input'));"
    page.write_text(frame.replace("show();\n</script>", f"show(); {move}\n</script>"))
    dom = dom_of(page, tmp_path / "profile")
    assert 'id="count-boxes"><b data-count="">2</b>' in dom
    assert 'id="count-without-boxes"><b data-count="">3</b>' in dom
    rows = dict(re.findall(r'<tr data-label="(\d)".*?<td data-count[^>]*>(\d+)</td>', dom, re.DOTALL))
    assert rows == {"0": "1", "1": "1", "2": "0"}
    assert f"glip export {run} --conf 0.50</code>" in dom
    assert dom.count('x1="100"') == 3  # the lines of the histograms
    assert dom.count('opacity="0.35"') == 3  # bars at 0.25, 0.30 and 0.40
