"""The data that the examples read, the nets that they train, their flags and their commands."""

import gzip
import json
import struct
import sys

import numpy as np
import pytest
from absl import flags

import resrep_keras
from tests import example_commands, paths

datasets = paths.examples("datasets")
nets = paths.examples("nets")
run_flags = paths.examples("run_flags")
task_data = paths.examples("task_data")


def write_idx(path, array):
    header = struct.pack(f">BBBB{array.ndim}i", 0, 0, 8, array.ndim, *array.shape)
    raw = header + array.tobytes()
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)


def test_digits_are_split_without_overlap():
    (x, y), (test_x, test_y) = datasets.load("digits")
    assert len(x) + len(test_x) == 1797 and len(y) == len(x) and len(test_y) == len(test_x)
    assert x.shape[1:] == (8, 8, 1) and 0 <= x.min() and x.max() == 1
    assert set(np.unique(y)) == set(range(10))


def test_idx_folder(tmp_path):
    generator = np.random.default_rng(0)
    images, labels = generator.integers(0, 256, (5, 4, 3), np.uint8), np.arange(5, dtype=np.uint8)
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", images)
    write_idx(tmp_path / "train-labels-idx1-ubyte.gz", labels)
    write_idx(tmp_path / "t10k-images-idx3-ubyte", images[:2])
    write_idx(tmp_path / "t10k-labels-idx1-ubyte", labels[:2])
    (x, y), (test_x, _) = datasets.load("fashion_mnist", tmp_path)
    np.testing.assert_allclose(x[..., 0], images / 255, rtol=1e-6)
    np.testing.assert_array_equal(y, labels)
    assert test_x.shape == (2, 4, 3, 1)


def test_idx_folder_without_labels_says_which_file(tmp_path):
    write_idx(tmp_path / "train-images-idx3-ubyte", np.zeros((1, 2, 2), np.uint8))
    with pytest.raises(FileNotFoundError, match="train-labels-idx1-ubyte"):
        datasets.load("mnist", tmp_path)


@pytest.mark.tensorflow_only
@pytest.mark.filterwarnings("default")
def test_tfds_name():
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=6):
        (x, y), (test_x, _) = datasets.load("cifar10")
    assert x.shape == (6, 32, 32, 3) and x.dtype == "float32" and x.max() <= 1
    assert y.shape == (6,) and test_x.shape[0] == 6


@pytest.mark.parametrize("name", nets.NETS)
def test_half_of_every_net_can_be_removed(name):
    model = nets.NETS[name]((32, 32, 3), 10)
    slim = resrep_keras.MagnitudePruning(target_reduction=0.5).prune(model)
    assert resrep_keras.count_macs(slim) <= 0.5 * resrep_keras.count_macs(model)


def test_the_benchmarked_net_has_five_million_macs():
    assert resrep_keras.count_macs(nets.small_resnet((28, 28, 1), 10)) == 5_535_520


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (None, "Expected --data_dir to hold idx files.*has none. Give --dataset, too"),
        ("digits", "--dataset=digits is embedded, and takes no --data_dir"),
    ],
)
def test_flags_of_data_that_contradict_each_other(tmp_path, name, text):
    with pytest.raises(SystemExit, match=text):
        datasets.load(name, tmp_path)
    with pytest.raises(SystemExit, match="Expected --data_dir to be a folder; there is none"):
        datasets.load(name, tmp_path / "nowhere")


def test_a_folder_of_idx_files_needs_no_name(tmp_path):
    example_commands.write_idx_folder(tmp_path)
    (x, y), (test_x, _) = datasets.load(None, tmp_path)
    assert x.shape == (256, 28, 28, 1) and set(y) == set(range(10)) and len(test_x) == 64


# --- tasks ----------------------------------------------------------------------------------------

LABELS = np.arange(40) % 10
IMAGES = np.arange(40 * 6).reshape(40, 2, 3).astype("float32")


def test_permuted_tasks_have_the_pixels_in_an_order_of_their_own():
    tasks = task_data.PermutedTasks(IMAGES, LABELS, 3, seed=1)
    tests = task_data.PermutedTasks(IMAGES[:4], LABELS[:4], 3, seed=1)
    assert len(tasks) == 3 and (tasks.inputs, tasks.classes) == (6, 10)
    orders = set()
    for task in range(3):
        x, y = tasks[task]
        np.testing.assert_array_equal(tests[task][0], x[:4])  # one order for both
        np.testing.assert_array_equal(np.sort(x, axis=1), IMAGES.reshape(40, 6))
        np.testing.assert_array_equal(y, LABELS)
        orders.add(tuple(x[0]))
    assert len(orders) == 3
    other = task_data.PermutedTasks(IMAGES, LABELS, 3, seed=2)
    assert tuple(other[0][0][0]) != tuple(tasks[0][0][0])


def test_split_tasks_take_turns_until_all_classes_were_told_apart():
    tasks = task_data.SplitTasks(IMAGES, LABELS, 10, seed=1)
    assert len(tasks) == 10 and (tasks.inputs, tasks.classes) == (6, 2)
    pairs = []
    for task in range(10):
        x, y = tasks[task]
        assert len(x) == 8 and sorted(np.unique(y)) == [0, 1]
        classes = [set(LABELS[x[y == label][:, 0].astype(int) // 6]) for label in (0, 1)]
        assert [len(each) for each in classes] == [1, 1]  # one class behind each label
        pairs.append(tuple(each.pop() for each in classes))
    for turn in (pairs[:5], pairs[5:]):
        assert sorted(c for pair in turn for c in pair) == list(range(10))
    assert pairs[:5] != pairs[5:]


def test_the_net_of_tasks_has_a_trunk_and_a_head_for_each():
    net = task_data.multi_head_net(6, (5, 4), 3, 11)
    assert list(net.output) == [f"task_{task}" for task in range(11)]
    assert {tensor.shape for tensor in net.output.values()} == {(None, 3)}
    assert net.count_params() == (6 + 1) * 5 + (5 + 1) * 4 + 11 * (4 + 1) * 3


# --- flags ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own_flags():
    """Flags such as an example has, by the name of this module."""
    run_flags.share("test_reduction", 0.5, "A share.")
    run_flags.count("test_epochs", None, "A number.")
    run_flags.whole("test_seed", 0, "A number.")
    run_flags.rate("test_rate", 0.1, "A number.")
    run_flags.numbers("test_points", ["1"], "Some.", int, lambda value: value >= 1, "ints")
    flags.DEFINE_string("test_output_dir", "output", "A folder.")
    values = flags.FLAGS
    if not values.is_parsed():
        values.mark_as_parsed()
    yield values
    for name in [name for name in values if name.startswith("test_")]:
        delattr(values, name)


@pytest.mark.parametrize(
    ("name", "bad", "good"),
    [
        ("test_reduction", (0.0, 1.0, -0.5, float("nan")), 0.7),
        ("test_epochs", (0, -3), 1),
        ("test_seed", (-1,), 0),
        ("test_rate", (0.0, -1.0, float("nan"), float("inf")), 1e-3),
        ("test_points", ([], ["0"], ["a"], ["1.5"]), ["2", "3"]),
    ],
)
def test_a_flag_out_of_range_is_refused_before_anything_is_done(own_flags, name, bad, good):
    for value in bad:
        with pytest.raises(flags.IllegalFlagValueError, match=name):
            setattr(own_flags, name, value)
    setattr(own_flags, name, good)
    assert own_flags[name].value == good


def test_flags_are_kept_beside_the_output_and_a_contradiction_is_refused(
    own_flags, tmp_path, monkeypatch
):
    monkeypatch.setattr(sys, "argv", [__name__])
    own_flags.test_reduction = 0.5
    folder = tmp_path / "new" / "run"
    for _ in range(2):  # the same again goes on
        run_flags.keep(folder, but=("test_output_dir",))
    kept = json.loads((folder / "flags.json").read_text())
    assert kept["test_reduction"] == 0.5 and "test_output_dir" not in kept
    own_flags.test_output_dir = "elsewhere"
    run_flags.keep(folder, but=("test_output_dir",))
    own_flags.test_reduction = 0.7
    text = "holds a run with --test_reduction=0.5; got --test_reduction=0.7. Give the same flags"
    with pytest.raises(SystemExit, match=text):
        run_flags.keep(folder, but=("test_output_dir",))
    assert json.loads((folder / "flags.json").read_text()) == kept


def test_a_target_out_of_reach_is_told_before_the_training():
    net = nets.small_resnet((8, 8, 1), 10, width=6)
    with pytest.raises(SystemExit, match=r"cannot be reached.*The largest target_reduction is 0\."):
        run_flags.wrapped(net, resrep_keras.ResRep(0.99, min_share=0.5))
    assert run_flags.wrapped(net, resrep_keras.ResRep(0.3)).built


# --- commands -------------------------------------------------------------------------------------


def test_every_example_tells_a_command_that_is_run():
    told = {command.program for command in example_commands.commands()}
    assert told == {str(path.relative_to(paths.ROOT)) for path in example_commands.examples()}
    assert {path.name for path in example_commands.examples()} == set(example_commands.SMALL)


def test_a_command_of_several_lines_and_with_environment_is_read():
    text = "Try\n\n    A=1 python \\\n        examples/quickstart.py --epochs=9  # long\n\nor it"
    (command,) = example_commands.commands_in("here", text)
    assert command.words == ("A=1", "python", "examples/quickstart.py", "--epochs=9")
    assert command.environment == {"A": "1"} and command.program == "examples/quickstart.py"
    small = command.small("data", "out")
    assert small[1] == "--epochs=9" and "--epochs=5" in small and small[-1] == "--output_dir=out"


def test_the_quickstart_of_its_own_docstring_reaches_its_target():
    net = nets.small_resnet((8, 8, 1), 10)
    for share in (0.4, 0.2):
        method = resrep_keras.ResRep(0.7, min_share=share)
        if share == 0.4:
            with pytest.raises(ValueError, match="cannot be reached"):
                resrep_keras.wrap(net, method)
        else:
            assert resrep_keras.wrap(net, method).built
