"""A YOLO of the package kyolo at half of its MACs: average precision before and after.

    python benchmarks/detect_yolo.py

For each seed it runs `examples/detect_yolo.py` on scenes of that seed, in an environment of its own
that `pip` makes in the work folder, where finished runs are kept. Results go to
benchmarks/results/detect_yolo.json, .md and .png: the detections of the first seed.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import environment
import numpy as np
from absl import app, flags
from common import RESULTS, machine, write_result

from resrep_keras.common.files import write
from resrep_keras.common.tables import markdown_table

FLAGS = flags.FLAGS
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of scenes, weights and data order.")
flags.DEFINE_string("work_dir", None, "Where runs are kept; by default a folder of /tmp.")
flags.DEFINE_string("python", None, "Python that has the packages; by default one is made.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("kyolo==0.1.5", "tensorflow-cpu==2.21.0", "absl-py", "matplotlib")
MODELS = {
    "start": "dense",
    "dense": "dense, trained on as long as pruning takes",
    "slim": "slim: pruned and trained for as long",
    "tflite": "slim, as `.tflite`",
}


def run(python, seed, folder):
    """What the example has measured, kept in a folder."""
    command = [python, str(ROOT / "examples" / "detect_yolo.py")]
    command += [f"--seed={seed}", f"--output_dir={folder}"]
    settings = {**os.environ, "PYTHONPATH": str(ROOT)}
    if not (folder / "results.json").exists():
        subprocess.run(command, env=settings, check=True)
    found = json.loads((folder / "results.json").read_text())
    return {"settings": json.loads((folder / "flags.json").read_text()), "models": found}


HEADER = ("model", "AP at 0.5", "AP at 0.5 to 0.95", "million MACs", "million parameters")


def _line(name, runs):
    rows = [run["models"][name] for run in runs]
    cells = []
    for key in ("ap50", "ap"):
        values = np.array([row[key] for row in rows])
        each = ", ".join(f"{value:.3f}" for value in values)
        cells.append(f"{values.mean():.3f} ({each})")
    for key in ("macs", "parameters"):
        values = [row[key] / 1e6 for row in rows if key in row]
        cells.append(", ".join(dict.fromkeys(f"{value:.2f}" for value in values)))
    return MODELS[name], *cells


def as_markdown(result):
    runs = result["runs"]
    settings = runs[0]["settings"]
    files = [run["models"]["tflite"] for run in runs]
    removed = [1 - r["models"]["slim"]["macs"] / r["models"]["dense"]["macs"] for r in runs]
    differences = ", ".join(f"{file['difference']:.0e}" for file in files)
    sizes = ", ".join(f"{file['bytes'] / 1e6:.1f}" for file in files)
    return "\n".join(
        [
            "# A YOLO at half of its MACs",
            "",
            f"Made by `{result['command']}` on {result['machine']}, seeds "
            f"{', '.join(result['seeds'])}. Packages: {', '.join(result['packages'])}.",
            "",
            f"`{settings['model']}` of kyolo with kyolo's loss, {settings['image_size']} pixels, "
            f"from random weights: {settings['images']} drawn scenes of up to four shapes to train "
            f"on, {settings['test_images']} others to measure, batches of "
            f"{settings['batch_size']}. {settings['dense_epochs']} epochs dense, then "
            f"{settings['epochs']} more while pruning, or dense. `coupled=True`, all else by "
            "default. AP: COCO's average precision, mean over four classes, at an overlap of 0.5 "
            "and over 0.5 to 0.95; in brackets each seed.",
            "",
            *markdown_table(HEADER, [_line(name, runs) for name in MODELS]),
            "",
            f"MACs removed: {', '.join(f'{100 * share:.1f} %' for share in removed)}. The "
            f"`.tflite` files of {sizes} MB differ from the slim models by {differences}, "
            "relative. Detections of the first seed are in `detect_yolo.png`.",
            "",
        ]
    )


def main(_):
    work = pathlib.Path(FLAGS.work_dir or tempfile.gettempdir()) / "resrep_detect_yolo"
    python = FLAGS.python or environment.python(work / "venv", PACKAGES)
    folders = [work / f"seed_{seed}" for seed in FLAGS.seeds]
    result = {
        "command": "python benchmarks/detect_yolo.py",
        "machine": machine(),
        "seeds": FLAGS.seeds,
        "packages": PACKAGES,
        "runs": [run(python, *pair) for pair in zip(FLAGS.seeds, folders)],
    }
    page = as_markdown(result)
    print(page)
    if FLAGS.write:
        write_result(result, page)
        picture = folders[0] / "detections.png"
        write(RESULTS / "detect_yolo.png", lambda fresh: shutil.copyfile(picture, fresh))


if __name__ == "__main__":
    app.run(main)
