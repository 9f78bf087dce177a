"""The output formats. A new one is one file here and one line in `FORMATS`.

Each is a context manager that gets a path and the `ExportInfo`, takes images with their boxes one by one, and writes
its files whole or not at all.
"""

from glip.labeling.writers.base import OpenFormat
from glip.labeling.writers.coco import write_coco, write_coco_folders, write_grounding, write_results
from glip.labeling.writers.csv_table import write_csv
from glip.labeling.writers.cvat import write_cvat
from glip.labeling.writers.labelme import write_labelme
from glip.labeling.writers.labelstudio import write_labelstudio
from glip.labeling.writers.voc import write_voc
from glip.labeling.writers.yolo import write_yolo

# The file or folder of each format in the output folder, and the writer.
FORMATS: dict[str, tuple[str, OpenFormat]] = {
    "coco": ("annotations.coco.json", write_coco),
    "coco-results": ("results.coco.json", write_results),
    "yolo": ("yolo", write_yolo),
    "voc": ("voc", write_voc),
    "labelme": ("labelme", write_labelme),
    "labelstudio": ("labelstudio", write_labelstudio),
    "cvat": ("annotations.cvat.xml", write_cvat),
    "csv": ("annotations.csv", write_csv),
    "grounding": ("grounding.json", write_grounding),
}

# What a split export writes instead, for the formats that have a layout with parts.
SPLIT_FORMATS: dict[str, tuple[str, OpenFormat]] = {
    "coco": ("coco", write_coco_folders),
    "yolo": FORMATS["yolo"],
    "voc": FORMATS["voc"],
}

# Formats that have a place for the images; COCO has one if it is split.
WITH_IMAGES = ("yolo", "voc", "labelme")

# Formats that allow boxes beyond the edge of the image; the others clip them.
UNCLIPPED = frozenset(("coco", "coco-results", "csv", "grounding"))
