"""The published experiments: nets, data and optimizer as in the authors' code, the whole way."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.graph.blocks import inside_blocks
from resrep_keras.graph.trace import trace
from tests import paths

pytestmark = pytest.mark.tensorflow_only
coupled_decay = paths.examples("coupled_decay")
paper_data = paths.examples("paper_data")
paper_nets = paths.examples("paper_nets")
training = paths.examples("paper_training")


# --- nets -----------------------------------------------------------------------------------------


def test_the_nets_are_as_large_as_published():
    def macs(inputs, outputs, side, kernel):
        return inputs * outputs * side**2 * kernel**2

    cifar = macs(3, 16, 32, 3) + 18 * macs(16, 16, 32, 3) + 64 * 10
    for inputs, side in ((16, 16), (32, 8)):
        outputs = 2 * inputs
        cifar += macs(inputs, outputs, side, 1) + macs(inputs, outputs, side, 3)
        cifar += 17 * macs(outputs, outputs, side, 3)
    assert cifar == 125_747_840
    assert resrep_keras.count_macs(paper_nets.resnet_cifar((32, 32, 3), 10)) == cifar
    # What the authors' function counts for their widths.
    resnet50 = paper_nets.resnet50((224, 224, 3), 1000)
    assert resrep_keras.count_macs(resnet50) == 4_089_184_256


def test_the_scope_is_the_layers_that_the_authors_name():
    def inside(model):
        return sorted(group.name for group in inside_blocks(trace(model)))

    cifar = paper_nets.resnet_cifar((32, 32, 3), 10, depth=14, width=4)
    expected = [f"layer{stage}_{block}_conv1" for stage in (1, 2, 3) for block in (0, 1)]
    assert inside(cifar) == expected
    bottlenecks = paper_nets.resnet50((32, 32, 3), 10, blocks=(2, 1, 1, 1), width=4)
    places = [(1, 0), (1, 1), (2, 0), (3, 0), (4, 0)]
    expected = [f"layer{s}_{b}_conv{number}" for s, b in places for number in (1, 2)]
    assert inside(bottlenecks) == sorted(expected)


# A reference in NumPy, channels first, as PyTorch computes it.


def convolved(x, weight, stride):
    pad = weight.shape[2] // 2
    x = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    windows = np.lib.stride_tricks.sliding_window_view(x, weight.shape[2:], axis=(2, 3))
    return np.einsum("nihwkl,oikl->nohw", windows[:, :, ::stride, ::stride], weight)


def normalized(x, arrays, name):
    def at(key):
        return arrays[f"{name}.{key}"][:, None, None]

    scaled = (x - at("running_mean")) / np.sqrt(at("running_var") + 1e-5)
    return scaled * at("weight") + at("bias")


def torch_resnet50(x, arrays, blocks):
    def layer(x, name, norm, stride):
        return normalized(convolved(x, arrays[f"{name}.weight"], stride), arrays, norm)

    x = np.maximum(layer(x, "conv1", "bn1", 2), 0)
    x = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    x = windows[:, :, ::2, ::2].max(axis=(4, 5))
    for stage, number in enumerate(blocks, start=1):
        for block in range(number):
            name, stride = f"layer{stage}.{block}", 2 if stage > 1 and block == 0 else 1
            y = np.maximum(layer(x, f"{name}.conv1", f"{name}.bn1", 1), 0)
            y = np.maximum(layer(y, f"{name}.conv2", f"{name}.bn2", stride), 0)
            y = layer(y, f"{name}.conv3", f"{name}.bn3", 1)
            if block == 0:
                x = layer(x, f"{name}.downsample.0", f"{name}.downsample.1", stride)
            x = np.maximum(x + y, 0)
    return x.mean(axis=(2, 3)) @ arrays["fc.weight"].T + arrays["fc.bias"]


def state_dict(blocks, width, classes, seed=3):
    """Random arrays by torchvision's names, in PyTorch's order of axes."""
    generator, arrays = np.random.default_rng(seed), {}

    def layer(name, norm, *shape):
        arrays[f"{name}.weight"] = generator.normal(0, 0.3, shape)
        for key in ("weight", "bias", "running_mean"):
            arrays[f"{norm}.{key}"] = generator.normal(0.5, 0.3, shape[0])
        arrays[f"{norm}.running_var"] = generator.uniform(0.5, 2, shape[0])
        arrays[f"{norm}.num_batches_tracked"] = np.array(7)

    layer("conv1", "bn1", width, 3, 7, 7)
    before = width
    for stage, number in enumerate(blocks, start=1):
        inner = width * 2 ** (stage - 1)
        for block in range(number):
            name = f"layer{stage}.{block}"
            layer(f"{name}.conv1", f"{name}.bn1", inner, before, 1, 1)
            layer(f"{name}.conv2", f"{name}.bn2", inner, inner, 3, 3)
            layer(f"{name}.conv3", f"{name}.bn3", 4 * inner, inner, 1, 1)
            if block == 0:
                layer(f"{name}.downsample.0", f"{name}.downsample.1", 4 * inner, before, 1, 1)
            before = 4 * inner
    arrays["fc.weight"] = generator.normal(0, 0.3, (classes, before))
    arrays["fc.bias"] = generator.normal(size=classes)
    return arrays


def test_weights_of_torchvision_compute_what_they_did_there(tmp_path):
    blocks, arrays = (2, 1, 1, 1), state_dict((2, 1, 1, 1), 4, 5)
    net = paper_nets.resnet50((45, 64, 3), 5, blocks=blocks, width=4)  # odd and even sides
    np.savez(tmp_path / "weights.npz", **arrays)
    paper_nets.load_torchvision(net, tmp_path / "weights.npz")
    x = np.random.default_rng(0).normal(size=(2, 45, 64, 3))
    expected = torch_resnet50(x.transpose(0, 3, 1, 2), arrays, blocks)
    found = keras.ops.convert_to_numpy(net(x.astype("float32")))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a.pop("layer2.0.bn2.bias"), "'layer2.0.bn2.bias' for .8,.; got .0,."),
        (lambda a: a.update({"fc.bias": np.zeros(4)}), "'fc.bias' for .5,.; got .4,."),
        (lambda a: a.update({"layer5.weight": np.zeros(4)}), r"no place for: \['layer5.weight'\]"),
    ],
)
def test_weights_of_another_net_are_refused_in_words(tmp_path, change, text):
    net, arrays = paper_nets.resnet50((32, 32, 3), 5, (1, 1, 1, 1), 4), state_dict([1] * 4, 4, 5)
    change(arrays)
    np.savez(tmp_path / "weights.npz", **arrays)
    with pytest.raises(SystemExit, match=text):
        paper_nets.load_torchvision(net, tmp_path / "weights.npz")


# --- the optimizer --------------------------------------------------------------------------------

SGD = {"learning_rate": 0.1, "momentum": 0.9, "kernel_decay": 0.01}
FACTORS = {"kernel": (0.01, 1), "gamma": (0, 1), "beta": (0, 2), "bias": (0, 2)}


def rates(step):
    return 0.1 if step < 2 else 0.01


def oracle(value, gradients, name):
    """PyTorch's SGD with the authors' settings by parameter."""
    (decay, factor), speed = FACTORS[name], 0.0
    for step, gradient in enumerate(gradients):
        speed = 0.9 * speed + gradient + decay * value
        value = value - factor * rates(step) * speed
    return value


@pytest.mark.parametrize("scaled", [False, True])
def test_the_optimizer_decays_kernels_and_moves_offsets_twice_as_far(scaled):
    generator = np.random.default_rng(0)
    variables = [keras.Variable(generator.normal(size=3), name=name) for name in FACTORS]
    before = [v.numpy() for v in variables]
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([1], [0.1, 0.01])
    optimizer = coupled_decay.CoupledDecaySGD(schedule, kernel_decay=0.01)
    assert optimizer.momentum == 0.9 and coupled_decay.CoupledDecaySGD().kernel_decay == 1e-4
    copy = type(optimizer).from_config(optimizer.get_config())
    assert copy.get_config() == optimizer.get_config()
    outer = keras.optimizers.LossScaleOptimizer(copy, initial_scale=8.0) if scaled else copy
    outer.build(variables)
    gradients = generator.normal(size=(4, 4, 3))
    for step in gradients:
        outer.apply(
            [keras.ops.convert_to_tensor(g, "float32") * (8 if scaled else 1) for g in step]
        )
    for place, name in enumerate(FACTORS):
        expected = oracle(before[place], gradients[:, place], name)
        np.testing.assert_allclose(variables[place].numpy(), expected, rtol=1e-5, atol=1e-6)


TWO_REPLICAS = """
import sys
import keras, numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import coupled_decay
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
with strategy.scope():
    variables = [keras.Variable([1.0, -2.0], name=n) for n in ("kernel", "gamma", "beta")]
    optimizer = coupled_decay.CoupledDecaySGD(0.1, kernel_decay=0.5)
    optimizer.build(variables)
def step():  # each replica has half of the gradient
    optimizer.apply([tf.constant([0.25, 0.5]) for _ in variables], variables)
for _ in range(2):
    strategy.run(step)
print([v.numpy().tolist() for v in variables])
"""


def environment():
    """This process's, in which the examples and the package are found."""
    folder = os.pathsep.join([str(paths.ROOT / "examples"), str(paths.ROOT)])
    return {**os.environ, "PYTHONPATH": folder, "CUDA_VISIBLE_DEVICES": "-1"}


def test_on_replicas_the_decay_is_added_once():
    done = subprocess.run(
        [sys.executable, "-c", TWO_REPLICAS],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.strip().splitlines()[-1])
    value, gradient = np.array([1.0, -2.0]), np.array([0.5, 1.0])
    first = value - 0.1 * (gradient + 0.5 * value)
    second = 0.9 * (gradient + 0.5 * value) + gradient + 0.5 * first
    plain = value - 0.1 * (1 + 1.9) * gradient
    expected = [first - 0.1 * second, plain, value - 2 * (value - plain)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_compactors_never_reach_it():
    net = paper_nets.resnet_cifar((8, 8, 1), 3, depth=8, width=4)
    model = resrep_keras.wrap(net, resrep_keras.ResRep.paper(target_reduction=0.3))
    model.compile(coupled_decay.CoupledDecaySGD(), "mse")
    optimizer = model.optimizer
    optimizer.build(model.trainable_variables)
    inner, outer = optimizer.inner_optimizer, optimizer.compactor_optimizer
    assert len(inner.decays) + 3 == len(model.trainable_variables)
    # Three blocks, two of them with a projection, the stem and the head.
    assert np.count_nonzero(inner.decays) == 3 * 2 + 2 + 1 + 1
    assert inner.rates.count(2.0) == len(inner.rates) - np.count_nonzero(inner.decays) - 9
    assert (outer.momentum, outer.penalty_strength, outer.rate) == (0.99, 1e-4, 1.0)


# --- data -----------------------------------------------------------------------------------------


def gather(dataset):
    batches = [(x.numpy(), y.numpy()) for x, y in dataset]
    return [np.concatenate(part) for part in zip(*batches)]


def small_images():
    generator = np.random.default_rng(0)
    x = generator.uniform(0.1, 1, (21, 6, 5, 2)).astype("float32")
    return x, paper_data.small((x, np.arange(21) % 4), (x[:3], np.arange(3)))


def test_an_epoch_depends_on_seed_and_number_alone():
    _, images = small_images()
    both, steps = paper_data.training_batches(images, 4, seed=0, epochs=2)
    keras.utils.set_random_seed(5)  # which is of no consequence
    again, _ = paper_data.training_batches(images, 4, seed=0, first_epoch=1, epochs=2)
    other, _ = paper_data.training_batches(images, 4, seed=1, first_epoch=1, epochs=2)
    (x, y), (x2, y2), (x3, _) = map(gather, (both, again, other))
    assert steps == 5 and len(x) == 40 and len(x2) == 20 and len(set(y)) == 4
    np.testing.assert_array_equal(x[20:], x2)
    np.testing.assert_array_equal(y[20:], y2)
    assert np.abs(x2 - x3).max() > 0.1 and np.abs(x[:20] - x2).max() > 0.1
    with pytest.raises(SystemExit, match=r"21 training images, and --batch_size=22\. Raise"):
        paper_data.training_batches(images, 22, seed=0)


def test_small_images_are_padded_cropped_flipped_and_normalized():
    x, images = small_images()
    prepared, _ = gather(paper_data.test_batches(images, 2))
    np.testing.assert_allclose(prepared, (x[:3] - 0.5) / 0.5, rtol=1e-5, atol=1e-6)
    padded = np.pad(x[0], ((4, 4), (4, 4), (0, 0)))
    known = {}
    for top in range(9):
        for left in range(9):
            crop = (padded[top : top + 6, left : left + 5] - 0.5) / 0.5
            known[crop.round(4).tobytes()] = known[crop[:, ::-1].round(4).tobytes()] = (top, left)
    import tensorflow as tf

    found = [images.augment(tf.constant(x[0]), tf.constant([0, n])).numpy() for n in range(60)]
    places = [known[crop.round(4).tobytes()] for crop in found]  # each is one of them
    assert len(set(places)) > 30 and {0, 8} <= {top for top, _ in places}
    turned = [crop for crop in found if crop[::, ::-1].round(4).tobytes() in known]
    assert turned


@pytest.fixture(scope="module")
def mocked():
    """ImageNet and CIFAR-10 of random images, through `tfds.load`."""
    import tensorflow_datasets as tfds

    with tfds.testing.mock_data(num_examples=6):
        yield tfds


@pytest.mark.filterwarnings("default")
def test_imagenet_through_tfds_is_cropped_at_random_and_in_the_centre(mocked):
    images = paper_data.load("imagenet2012", None, 4, 24, seed=0)
    assert (images.size, images.shape, images.classes) == (4, (24, 24, 3), 1000)
    batches, steps = paper_data.training_batches(images, 2, seed=0, epochs=1)
    x, y = gather(batches)
    assert steps == 2 and x.shape == (4, 24, 24, 3) and x.dtype == "float32" and len(set(y)) > 1
    lowest, highest = (
        (np.array(value) - paper_data.TORCHVISION[0]) / paper_data.TORCHVISION[1]
        for value in (0, 1)
    )
    assert (lowest - 1e-5 <= x).all() and (x <= highest + 1e-5).all()
    x, y = gather(paper_data.test_batches(images, 4))
    assert x.shape == (6, 24, 24, 3)
    bgr, _ = gather(
        paper_data.test_batches(paper_data.load("imagenet2012", None, 4, 24, 0, True), 4)
    )
    pixels = x * paper_data.TORCHVISION[1] + paper_data.TORCHVISION[0]
    expected = keras.applications.resnet.preprocess_input(255 * pixels)
    np.testing.assert_allclose(bgr, expected, atol=1e-3)


@pytest.mark.filterwarnings("default")
def test_cifar10_through_tfds(mocked):
    images = paper_data.load("cifar10", None, None, 224, seed=0)
    x, _ = gather(paper_data.training_batches(images, 3, seed=0)[0])
    assert images.size == 6 and x.shape == (6, 32, 32, 3)
    assert images.train.element_spec[0].dtype == "uint8" and -1 <= x.min() < x.max() <= 1


def test_a_centre_is_that_of_the_image_whose_shorter_side_is_resized():
    image = np.zeros((32, 64, 3), "uint8")
    image[:, 32:] = 255  # the left half is dark
    found = paper_data.centre(image, 28).numpy()  # of 32 x 64
    assert found.shape == (28, 28, 3)
    assert found[:, :14].max() == 0 and found[:, 14:].min() == 1


# --- the whole way --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("net", "steps", "epochs", "reduction"),
    [("resnet56", 781, 480, 0.529), ("resnet50", 5004, 180, 0.545)],
)
def test_a_run_of_the_papers_length_has_the_papers_method(net, steps, epochs, reduction):
    method = training.make_method(net, epochs, epochs * steps, 0.01)
    assert method.get_config() == resrep_keras.ResRep.paper(target_reduction=reduction).get_config()
    plan = method.plan(0, epochs * steps, steps)
    # The code's masks change before step 5 * images // batch + 200, and every 200 from there.
    assert plan.steps[:3] == (5 * steps + 200, 5 * steps + 400, 5 * steps + 600)
    assert (plan.channels_per_selection, plan.forget_steps) == (4, None)


def test_a_shorter_run_has_its_schedule_scaled(capsys):
    method = training.make_method("resnet56", 48, 48 * 781, 0.02)
    assert method.schedule.get_config() == {
        "warmup_epochs": 1,  # 5 of 480 would be half an epoch
        "interval": 20,
        "channels_per_selection": 4,
    }
    # The rates' mean times the steps, which momentum multiplies: three times a column's norm.
    assert method.penalty_strength == pytest.approx(1e-4)
    said = capsys.readouterr().out
    assert "0.1000 of the paper's steps" in said and "channels will stay" not in said
    method = training.make_method("resnet56", 48, 48 * 100, 0.01)
    assert method.penalty_strength * (4800 * 0.01 / 2) / (1 - 0.99) == pytest.approx(3)
    assert method.schedule.interval == 3  # 200 / 78
    method = training.make_method("resnet56", 1, 100, 0.01)  # 3,749 times shorter
    assert "Fewer than 3000 steps: channels will stay" in capsys.readouterr().out
    assert method.schedule.interval == 1
    assert method.schedule.channels_per_selection == pytest.approx(4 * 3749 / 200, abs=1)
    planned = training.make_method("resnet56", 1, 100, 0.01, planned=True)
    expected = resrep_keras.ResRep(0.529, scope="blocks")
    assert planned.get_config() == expected.get_config()


@pytest.mark.parametrize("steps", [1_000, training.ENOUGH, 20_000])
def test_a_masked_column_vanishes_in_a_run_that_is_long_enough(steps):
    """Moved by the penalty alone, from a tenth of the run on, as `PenaltyOptimizer` moves it."""
    method = training.make_method("resnet56", 10, steps, 0.01)
    column, speed = 1.0, 0.0
    for step in range(steps // 10, steps):
        rate = 0.01 * (1 + np.cos(np.pi * step / steps)) / 2
        speed = 0.99 * speed + method.penalty_strength * np.sign(column)
        column -= rate * speed
    assert (abs(column) < method.threshold) == (steps >= training.ENOUGH)


def test_rates_are_those_of_the_code():
    rate = training.dense_schedule(0.1, 240)
    found = [float(rate(step)) for step in (0, 120, 121, 180, 181, 239)]
    np.testing.assert_allclose(found, [0.1, 0.1, 0.01, 0.01, 0.001, 0.001], rtol=1e-6)
    rate = training.cosine(0.01, 374_880)
    found = [float(rate(step)) for step in (0, 187_440, 374_880)]
    np.testing.assert_allclose(found, [0.01, 0.005, 0], rtol=1e-4, atol=1e-9)


def dying(last):
    """`Backup.on_epoch_end` that dies in place of the backup of an epoch."""
    original = resrep_keras.Backup.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == last:
            raise KeyboardInterrupt
        original(self, epoch, logs)

    return on_epoch_end


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a log left open
def test_a_killed_run_ends_as_one_that_was_not(tmp_path, monkeypatch):
    """Killed before the backup of its second epoch, so that this one is run again."""
    x, _ = small_images()
    images = paper_data.small((x, np.arange(21) % 3), (x, np.arange(21) % 3))
    method = training.make_method("resnet56", 4, 20, 0.01, 0.3, planned=True)
    slim = {}
    for name in ("whole", "killed"):
        folder = tmp_path / name / "pruning"

        def run(folder=folder):
            keras.utils.set_random_seed(0)
            net = paper_nets.resnet_cifar(images.shape, images.classes, depth=8, width=3)
            model = resrep_keras.wrap(net, method)
            training.train(model, images, folder, 4, 4, lambda n: training.cosine(0.01, n))
            return resrep_keras.finalize(model, strict=True)

        if name == "killed":
            with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
                patch.setattr(resrep_keras.Backup, "on_epoch_end", dying(2))
                run()
        slim[name] = run()
        rows = training.read_epochs(folder / "epochs.csv")
        assert [row["epoch"] for row in rows] == [1, 2, 3, 4] and rows[-1]["macs_left"] <= 0.7
        assert list(folder.glob("tensorboard/*/events*"))
    for first, second in zip(slim["whole"].get_weights(), slim["killed"].get_weights()):
        np.testing.assert_array_equal(first, second)
    found = training.measured(slim["whole"], images, 4)
    logits = slim["whole"].predict(2 * x - 1, verbose=0)
    expected = 100 * (logits.argmax(-1) == np.arange(21) % 3).mean()
    assert found["top1"] == pytest.approx(expected, abs=1e-3)
    assert found["top5"] == 100 and found["macs"] == resrep_keras.count_macs(slim["whole"])


def test_the_page_says_where_accuracy_fell():
    model = {"top1": 90.126, "top5": 99.0, "macs": 1000, "parameters": 10}
    tops = (50.0, 40.25, 91.0)
    page = training.page_of(
        {
            **{"command": "python here", "machine": "one", "seed": 0, "images": 5000},
            **{"method": "ResRep()", "largest_relative_difference": 1e-7},
            **{"dense": model, "slim": {**model, "macs": 455}},
            "epochs": [{"epoch": n, "top1": top} for n, top in enumerate(tops, start=1)],
        }
    )
    assert "| dense | 90.13 | 99.00 | 1,000 | 10 |" in " ".join(page.split())
    assert "0.4550 of the MACs" in page
    assert "50.00 % after the first of 3 epochs, 40.25 % at its lowest (epoch 2)" in page


@pytest.mark.slow  # starts two processes
def test_several_machines_train_one_model(tmp_path):
    addresses = paths.distributed("supervisor").free_addresses(2)
    program = str(paths.ROOT / "examples" / "reproduce_paper.py")
    small = "--dataset=digits --limit=128 --batch_size=32 --dense_epochs=1 --epochs=5 --depth=8"
    command = [sys.executable, program, "--devices=workers", *small.split(), "--width=4"]
    command += ["--schedule=planned", f"--output_dir={tmp_path}"]
    running = []
    for index in range(2):
        config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        own = {**environment(), "TF_CONFIG": json.dumps(config)}
        running.append(subprocess.Popen(command, env=own))
    assert [process.wait() for process in running] == [0, 0]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["slim"]["macs"] <= 0.471 * result["dense"]["macs"]
    assert result["epochs"] == [] and (tmp_path / "slim.keras").exists()


@pytest.mark.parametrize(
    ("config", "policy", "text"),
    [(None, "none", "expects TF_CONFIG"), ("{}", "mixed_float16", "mixed_bfloat16")],
)
def test_workers_that_cannot_be_are_refused_in_words(monkeypatch, config, policy, text):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config:
        monkeypatch.setenv("TF_CONFIG", config)
    with pytest.raises(SystemExit, match=text):
        paths.distributed("paper_workers").check_environment(policy)
