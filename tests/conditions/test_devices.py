"""A run on several devices or in several processes is the run on one."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests.paths import ROOT

pytestmark = pytest.mark.tensorflow_only  # each test chooses the backend of its own processes
CLOSE = 1e-5


def environment(**settings):
    """This process's, in which the package is found; TensorFlow says only errors."""
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), **quiet, **settings}


def run_two_devices(scenario, folder, **settings):
    """``{run: {name: array}}`` of a scenario of two_devices.py."""
    path = folder / "runs.npz"
    command = [sys.executable, "-m", "tests.conditions.two_devices", scenario, str(path)]
    subprocess.run(command, cwd=folder, env=environment(**settings), check=True, timeout=300)
    runs = {}
    with np.load(path) as arrays:
        for name in arrays.files:
            run, key = name.split("|")
            runs.setdefault(run, {})[key] = arrays[name]
    return runs


def largest_difference(first, second):
    """Over all variables; names differ where a process makes a second model."""
    pairs = list(zip(first.values(), second.values()))
    assert len(first) == len(second) > 10
    return max(np.abs(a.astype("float64") - b.astype("float64")).max() for a, b in pairs)


def masks(run):
    found = [value for name, value in run.items() if name.endswith("keep_mask")]
    assert found and not np.concatenate(found).all()
    return np.concatenate(found)


def test_mirrored_replicas_train_as_one_device(tmp_path):
    runs = run_two_devices("mirrored", tmp_path)
    for kind in ("", ", normalized"):
        one, two = runs[f"one{kind}"], runs[f"two{kind}"]
        np.testing.assert_array_equal(masks(one), masks(two))
        assert largest_difference(one, two) < CLOSE
        assert one["removed"] == two["removed"] > 0.4
    # A penalty that is added once for each replica would be seen.
    assert largest_difference(runs["one"], runs["one, penalty doubled"]) > 100 * CLOSE
    # Masks, plan, counters and amounts to forget have reached both replicas.
    first, second = runs["replica 0"], runs["replica 1"]
    np.testing.assert_array_equal(masks(first), masks(second))
    assert largest_difference(first, second) == 0


@pytest.mark.slow  # starts a process with two devices; ResRep's test runs every time
def test_baselines_measure_and_press_on_replicas_as_on_one_device(tmp_path):
    """Sums and penalties that each replica would add up are seen in all variables."""
    runs = run_two_devices("baselines", tmp_path)
    for name in (
        "NetworkSlimming",
        "GroupLasso",
        "growth",
        "TaylorPruning",
        "taught",
        "taught by Keras",
    ):
        one, two = runs[f"{name} one"], runs[f"{name} two"]
        np.testing.assert_array_equal(masks(one), masks(two))
        assert largest_difference(one, two) < CLOSE
        assert one["removed"] == two["removed"] > 0.4


@pytest.mark.slow
def test_tasks_are_learned_on_replicas_as_on_one_device(tmp_path):
    """A pull or a path integral that each replica would add up is seen in all variables."""
    runs = run_two_devices("tasks", tmp_path)
    for name in ("SynapticIntelligence", "ANPyC"):
        one, two = runs[f"{name} one"], runs[f"{name} two"]
        assert largest_difference(one, two) < CLOSE
        found = [value for path, value in one.items() if path.endswith("importance")]
        assert found and all(value.any() for value in found)


@pytest.mark.slow
def test_a_strategy_is_kept_outside_of_its_scope_and_over_an_interruption(tmp_path):
    runs = run_two_devices("scopes", tmp_path)
    assert runs["outside"]["replicas"] == 2 and runs["outside"]["steps"] == 24
    assert runs["outside"]["removed"] >= 0.4
    assert runs["resumed"].pop("removed") >= 0.4
    np.testing.assert_array_equal(masks(runs["uninterrupted"]), masks(runs["resumed"]))
    assert largest_difference(runs["uninterrupted"], runs["resumed"]) < CLOSE
    # What Keras cannot do is refused in words, before the first step.
    assert re.match(
        r"ValueError: Optimizer '.*' has gradient_accumulation_steps=2, "
        r".* on 2 replicas .* without",
        str(runs["said"]["ours"]),
    )
    assert "merge_call" in str(runs["said"]["Keras"]), "Keras can do it: the refusal may go"


@pytest.mark.slow  # that they train is seen by the example, in every run
def test_data_parallel_devices_train_as_one_device_on_jax(tmp_path):
    flags = "--xla_force_host_platform_device_count=2"
    runs = run_two_devices("data_parallel", tmp_path, KERAS_BACKEND="jax", XLA_FLAGS=flags)
    one, two = runs["one"], runs["two"]
    removed = two.pop("removed")
    assert one.pop("devices") == 1 and two.pop("devices") == 2
    np.testing.assert_array_equal(masks(one), masks(two))
    assert largest_difference(one, two) < CLOSE
    assert removed > 0.4


class Workers:
    """A run of examples/distributed/multi_worker.py, read line by line."""

    def __init__(self, folder, *arguments, **settings):
        script = str(ROOT / "examples" / "distributed" / "multi_worker.py")
        command = [sys.executable, script, f"--output_dir={folder}", *arguments]
        self.folder, self.lines, self.processes = folder, [], {}
        self.program = subprocess.Popen(
            command,
            env=environment(**settings),
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def read(self, until=None):
        """Read until a line starts with `until`, or to the end."""
        for line in iter(self.program.stdout.readline, ""):
            self.lines.append(line)
            started = re.match(r"worker (\d): process (\d+)", line)
            if started:
                self.processes[int(started[1])] = int(started[2])
            if until is not None and line.startswith(until):
                return
        assert until is None, "".join(self.lines)
        self.program.stdout.close()
        assert self.program.wait() == 0, "".join(self.lines)

    def state(self, worker):
        """Each variable of the model and the optimizer when that worker ended."""
        with np.load(self.folder / f"worker_{worker}.npz") as arrays:
            return {name: arrays[name] for name in arrays.files}


def bool_values(state):
    return np.concatenate([value for value in state.values() if value.dtype == bool])


SMALL = ("--workers=2", "--epochs=5", "--limit=256")


def test_two_workers_select_the_same_channels_through_a_kill(tmp_path):
    """Killed while channels are being selected; all go on from the chief's checkpoint."""
    run = Workers(tmp_path / "killed", *SMALL)
    run.read(until="worker 0: epoch 1,")
    os.kill(run.processes[1], signal.SIGKILL)
    run.read()
    output = "".join(run.lines)
    assert "restart 1 of" in output and "worker 1: training from epoch 2" in output
    first, second = run.state(0), run.state(1)
    assert not bool_values(first).all()
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name])
    assert (run.folder / "slim.keras").exists()


@pytest.mark.slow
def test_a_killed_worker_changes_nothing(tmp_path):
    whole = Workers(tmp_path / "whole", *SMALL)
    whole.read()
    for victim in (0, 1):
        killed = Workers(tmp_path / f"killed_{victim}", *SMALL)
        killed.read(until="worker 0: epoch 2,")
        os.kill(killed.processes[victim], signal.SIGKILL)
        killed.read()
        assert any(line.startswith("restart 1 of") for line in killed.lines)
        np.testing.assert_array_equal(bool_values(killed.state(0)), bool_values(whole.state(0)))
        assert largest_difference(killed.state(0), whole.state(0)) < CLOSE


@pytest.mark.slow
def test_two_workers_train_as_one(tmp_path):
    """In float64: in float32, rounding grows from 4e-6 after 8 steps to 4e-2 after these 40."""
    (tmp_path / "keras.json").write_text(json.dumps({"floatx": "float64"}))
    home = {"KERAS_HOME": str(tmp_path), "KERAS_BACKEND": "tensorflow"}
    one = Workers(
        tmp_path / "one",
        "--workers=1",
        "--batch_size=32",
        "--learning_rate=2e-3",
        *SMALL[1:],
        **home,
    )
    one.read()
    two = Workers(tmp_path / "two", *SMALL, **home)
    two.read()
    np.testing.assert_array_equal(bool_values(one.state(0)), bool_values(two.state(0)))
    assert one.state(0)["variable_0"].dtype == "float64"
    assert largest_difference(one.state(0), two.state(0)) < 1e-10


def load_example(name):
    path = ROOT / "examples" / "distributed" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(f"distributed_{name}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_state_is_read_back_whole_or_refused(tmp_path):
    common = load_example("common")
    path = tmp_path / "state.npz"
    one, other = keras.Variable([1.0, 2.0]), keras.Variable([3, 4], dtype="int32")
    assert common.load_state(path, [one, other]) == {}
    common.save_state(path, [one, other], epochs=7)
    one.assign([0.0, 0.0])
    assert common.load_state(path, [one, other]) == {"epochs": 7}
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(one), [1, 2])
    assert list(tmp_path.iterdir()) == [path]  # what was written beside it has taken its place
    with pytest.raises(
        ValueError, match=r"holds 2 variables; expected 1\. .* another --output_dir"
    ):
        common.load_state(path, [one])


def test_the_supervisor_ends_all_workers_and_gives_up_in_words(monkeypatch, capfd):
    supervisor = load_example("supervisor")
    program = "import os, time; '\"index\": 1' in os.environ['TF_CONFIG'] or time.sleep(60); boom"
    monkeypatch.setattr(sys, "argv", ["-c", program])
    started = []
    start = supervisor.start
    monkeypatch.setattr(supervisor, "start", lambda n: started.extend(new := start(n)) or new)
    with pytest.raises(SystemExit, match=r"ended with an error 2 times; .* the last checkpoint"):
        supervisor.supervise(2, restarts=1)
    assert [process.poll() for process in started] == [-9, 1, -9, 1]
    assert "restart 1 of 1" in capfd.readouterr().out


@pytest.mark.slow
def test_a_worker_without_its_configuration_is_refused_in_words(tmp_path):
    script = str(ROOT / "examples" / "distributed" / "multi_worker.py")
    ended = subprocess.run(
        [sys.executable, script, "--workers=0", f"--output_dir={tmp_path}"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and "--workers=0 expects TF_CONFIG" in ended.stderr
