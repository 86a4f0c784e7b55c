"""The commands that the examples' docstrings and the documents tell to type, run at small size.

python -m tests.example_commands    # what .ci/run does

They are read where they stand, so that none can drift. Flags appended to each make it short; flags
that come later win. A folder that a command names as a place for data is one of small idx files, or
of small tiles. Each runs in a fork of a process that has imported what takes the time, unless the
command sets its environment.
"""

import ast
import dataclasses
import importlib.util
import json
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile
import time

# One runs on each core: more threads than that wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import keras  # noqa: F401
import numpy as np
import tensorflow  # noqa: F401

import resrep_keras  # noqa: F401
from tests import forks

ROOT = pathlib.Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
IDX_FOLDER, TILES_FOLDER = "/path/to/idx_files", "/path/to/tiles"
FEW = ("--epochs=5", "--limit=128")
SMALL = {
    "quickstart.py": ("--dense_epochs=1", "--epochs=5"),
    "quantize_aware.py": ("--dense_epochs=1", "--epochs=5", "--aware_epochs=1"),
    "custom_training_loop.py": ("--epochs=2",),
    "prune_image_classifier.py": ("--limit=128", "--dense_epochs=1", "--epochs=5"),
    "cardiomyopathy.py": (
        *(
            "--patients=40",
            "--image_size=32",
            "--tiles=2",
            "--batch_size=4",
            "--units=4",
            "--blocks=1",
        ),
        *("--frozen_epochs=1", "--epochs=1", "--prune_epochs=5"),
    ),
    "detect_yolo.py": ("--images=16", "--test_images=4", "--dense_epochs=1", "--epochs=5"),
    "own_layer.py": ("--dense_epochs=1", "--epochs=5"),
    "pruning_plasticity.py": (
        *("--epochs=4", "--points=1,3", "--more=1", "--interval=2", "--limit=256"),
    ),
    "continual_learning.py": (
        *("--tasks=2", "--limit=64", "--epochs=1", "--retrain_epochs=0", "--units=8"),
    ),
    "reproduce_paper.py": (
        *("--limit=64", "--batch_size=32", "--dense_epochs=1", "--epochs=5"),
        *("--depth=8", "--width=4"),
    ),
    "mirrored.py": FEW,
    "jax_data_parallel.py": FEW,
    "multi_worker.py": FEW,
}
# Data that is not there without a network, and the size of what is trained on it.
ELSEWHERE = {
    "--dataset=cifar10": "--dataset=digits",
    "--dataset=imagenet2012": "--dataset=digits",
    "--net=resnet50": "--net=resnet56",
    "--weights=resnet50.npz": "--schedule=planned",
    "--model=resnet56": "--model=small_resnet",
    "--weights=imagenet": "--weights=none",
    "--backbone=inception_v3": "--backbone=slim",
}
# tests/conditions/test_devices.py runs it, at this size, through a kill of a worker.
IN_TESTS = {"multi_worker.py"}
# Packages that an example asks for and this project does not depend on.
OTHERS = {"detect_yolo.py": "kyolo", "quantize_aware.py": "tensorflow_model_optimization"}
LONGEST = 600  # seconds of one command


@dataclasses.dataclass(frozen=True)
class Command:
    """A command to type.

    Args:
        place: The file that tells it.
        words: The command, as the shell would split it; ``NAME=value`` in front is environment.
    """

    place: str
    words: tuple

    @property
    def program(self):
        """The path of the example in the repository."""
        return next(word for word in self.words if word.endswith(".py"))

    @property
    def environment(self):
        before = self.words[: self.words.index("python")]
        return dict(word.split("=", 1) for word in before)

    def small(self, data, output):
        """The arguments of a short run; `data` holds folders `idx` and `tiles`."""
        given = self.words[self.words.index("python") + 1 :]
        own = [ELSEWHERE.get(word, word) for word in given]
        for told, name in ((IDX_FOLDER, "idx"), (TILES_FOLDER, "tiles")):
            own = [word.replace(told, f"{data}/{name}") for word in own]
        name = pathlib.Path(self.program).name
        takes_output = '"output_dir"' in (ROOT / self.program).read_text()
        into = [f"--output_dir={output}"] if takes_output else []
        return [*own, *SMALL[name], *into]

    def __str__(self):
        return f"{self.place}: {' '.join(self.words)}"


def examples():
    """The examples, which have a docstring and are started."""
    paths = sorted((ROOT / "examples").rglob("*.py"))
    return [path for path in paths if "app.run(main)" in path.read_text()]


def commands_in(place, text):
    """The commands of a text: lines that are indented or in backticks, and start an example."""
    text = re.sub(r"\s*\\+\n\s*", " ", text)
    for line in re.findall(r"^ {4}(.*)$|`(python [^`]*)`", text, re.MULTILINE):
        for part in re.split(r"&&|\|", "".join(line)):
            part = part.split("#")[0].strip()
            if re.match(r"(\w+=\S+\s+)*python (\S*/)*examples/\S+\.py", part) and "<" not in part:
                yield Command(place, tuple(shlex.split(part)))


def commands():
    """Every command, each once; a docstring's before that of a document."""
    found = {}
    for path in examples():
        text = ast.get_docstring(ast.parse(path.read_text()))
        place = str(path.relative_to(ROOT))
        # A docstring in a docstring's place loses its indentation but for the commands.
        for command in commands_in(place, text):
            found.setdefault(command.words, command)
    for path in DOCUMENTS:
        for command in commands_in(str(path.relative_to(ROOT)), path.read_text()):
            found.setdefault(command.words, command)
    return list(found.values())


def write_idx_folder(folder):
    """Small idx files of random images, as of Fashion-MNIST."""
    generator = np.random.default_rng(0)
    for part, size in (("train", 256), ("t10k", 64)):
        arrays = {
            "images-idx3-ubyte": generator.integers(0, 256, (size, 28, 28), np.uint8),
            "labels-idx1-ubyte": (np.arange(size) % 10).astype(np.uint8),
        }
        for name, array in arrays.items():
            sizes = np.array(array.shape, ">i4").tobytes()
            content = bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()
            (folder / f"{part}-{name}").write_bytes(content)


def write_tiles_folder(folder):
    """Small tiles of random pixels, two for each of 20 patients of two classes."""
    from PIL import Image

    generator = np.random.default_rng(0)
    for number in range(20):
        place = folder / ("ischemic", "other")[number % 2] / f"patient_{number}"
        place.mkdir(parents=True)
        for tile in range(2):
            pixels = generator.integers(0, 256, (40, 40, 3), np.uint8)
            Image.fromarray(pixels).save(place / f"{tile}.png")


def start(words, environment=None):
    """Start Python on some words; returns `(whether it ended well, what it said last)`."""
    with tempfile.TemporaryDirectory() as folder:
        stdout, stderr = (pathlib.Path(folder) / name for name in ("stdout", "stderr"))
        begin = _as_a_process if environment else _as_a_fork
        code = begin(words, environment, stdout, stderr)
        if code is None:
            return False, f"not done after {LONGEST} s"
        if code:
            return False, stderr.read_text()[-3000:].strip()
        return True, (stdout.read_text().strip().splitlines() or ["(said nothing)"])[-1]


def _as_a_fork(words, _, stdout, stderr):
    def work():
        os.chdir(ROOT)
        os.environ["PYTHONPATH"] = str(ROOT)
        forks.run_program(words[0], words[1:], stdout, stderr)

    return forks.wait(forks.fork(work), LONGEST)


def _as_a_process(words, environment, stdout, stderr):
    environment = {**os.environ, **environment, "PYTHONPATH": str(ROOT)}
    with open(stdout, "w") as out, open(stderr, "w") as err:
        try:
            return subprocess.run(
                [sys.executable, *words],
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=err,
                timeout=LONGEST,
            ).returncode
        except subprocess.TimeoutExpired:
            return None


def run(command, data, output, again):
    """Run a command at small size; `(text of the result, whether it is what the example says)`.

    Without a package that it asks for it is to say so, and is not run.

    Where `again`, and there are checkpoints, a second run goes on, and one of other flags is
    refused.
    """
    begin = time.perf_counter()
    words = command.small(data, output)
    other = OTHERS.get(pathlib.Path(command.program).name)
    well, said = start(words, command.environment)
    if other is not None and importlib.util.find_spec(other) is None:
        well = not well and f"needs the package {other}" in said
        return f"{'no ' + other if well else 'FAILED'}  {command}\n    {said}", well
    if well and again and (output / "dense.keras").exists():
        well, said = start(words, command.environment)
        done, words = start([*words, "--seed=1"], command.environment)
        if done or "holds a run with --seed=0; got --seed=1" not in words:
            well, said = False, f"took other flags for the same folder: {words}"
    seconds = time.perf_counter() - begin
    return f"{'ok' if well else 'FAILED'} {seconds:5.1f} s  {command}\n    {said}", well


def main():
    """Run all, two at a time."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "idx").mkdir()
        write_idx_folder(folder / "idx")
        write_tiles_folder(folder / "tiles")
        jobs, small, programs = [], set(), set()
        for number, command in enumerate(commands()):
            key = frozenset(command.small(folder, ""))
            tested = pathlib.Path(command.program).name in IN_TESTS
            if key not in small and not tested:  # else the same, once it is small
                small.add(key)
                output, again = folder / f"output{number}", command.program not in programs
                programs.add(command.program)
                jobs.append((command, folder, output, again))
        sys.exit(not all(list(_two_at_a_time(jobs))))


def _two_at_a_time(jobs):
    """Yields whether each job did well, as they are done; prints their texts."""
    running = {}

    def work(job, path):
        path.write_text(json.dumps(run(*job)))

    for number in range(len(jobs) + 2):
        if number < len(jobs):
            path = jobs[number][1] / f"job{number}.json"
            running[forks.fork(lambda n=number, p=path: work(jobs[n], p))] = path
        if running and (len(running) > 1 or number >= len(jobs)):
            done, _ = os.wait()
            text, well = json.loads(running.pop(done).read_text())
            print(text, flush=True)
            yield well


if __name__ == "__main__":
    main()
