"""A run that is killed and started again ends like one that is not, to the bit."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import resrep_keras
from tests.conditions import interrupted_run
from tests.paths import ROOT

pytestmark = pytest.mark.tensorflow_only
SCRIPT = pathlib.Path(interrupted_run.__file__)


def start(folder, *place, pause=0.0):
    environment = {**os.environ, "INTERRUPTED_RUN_PAUSE": str(pause)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), environment.get("PYTHONPATH", "")])
    folder.mkdir(exist_ok=True)
    with open(folder / "log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), *place], env=environment, stderr=log
        )


def run_to_the_end(folder):
    process = start(folder)
    assert process.wait(timeout=300) == 0, (folder / "log").read_text()
    return read(folder)


def read(folder):
    with np.load(folder / "result.npz") as values:
        return dict(values)


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    values = run_to_the_end(tmp_path_factory.mktemp("uninterrupted"))
    masks = [values[name] for name in values if name.startswith("mask.")]
    assert 0 < sum(mask.sum() for mask in masks) < sum(mask.size for mask in masks)
    return values


@pytest.mark.parametrize(
    "places",
    [
        ["in_the_middle_of_a_selection", "in_the_middle_of_a_write"],
        pytest.param(["between_two_backups"], marks=pytest.mark.slow),
        pytest.param(["in_the_middle_of_a_checkpoint"], marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def test_killed_at_the_worst_moments(places, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    for place in places:
        process = start(folder, place)
        assert process.wait(timeout=300) == -signal.SIGKILL, (folder / "log").read_text()
        assert (folder / place).exists()
    assert_equal(run_to_the_end(folder), uninterrupted)
    assert [path.name for path in (folder / "backup").iterdir()] == ["epoch-24"]


@pytest.mark.slow
def test_killed_at_twenty_random_moments(uninterrupted, tmp_path):
    folder = tmp_path / "run"
    delays = np.random.default_rng(0).uniform(0.0, 0.8, 20)
    reached = []
    for delay in delays:
        (folder / "training").unlink(missing_ok=True)
        process = start(folder, pause=0.05)
        while process.poll() is None and not (folder / "training").exists():
            time.sleep(0.005)
        time.sleep(delay)
        assert process.poll() is None, (folder / "log").read_text()  # killed while it trains
        process.kill()
        assert process.wait() == -signal.SIGKILL
        reached.append(resrep_keras.Backup(folder / "backup").epoch)
    assert not (folder / "result.npz").exists()
    assert_equal(run_to_the_end(folder), uninterrupted)
    assert len(set(reached)) > 5, reached  # of different epochs
