"""What benchmarks on Fashion-MNIST share: flags, data, recipe, kept runs, result files."""

import json
import os
import pathlib
import shlex
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))

import datasets
import keras
import nets
import numpy as np
from absl import flags
from common import machine, write_result

import resrep_keras
from resrep_keras.common.files import write

BATCH = 128

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", "/usr/share/datasets/fashion-mnist", "Folder of the idx files.")
flags.DEFINE_string(
    "work_dir",
    None,
    "Where finished runs are kept; by default a temporary folder of the benchmark.",
)
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds to train.")
flags.DEFINE_integer("images", 10_000, "Training images.")
flags.DEFINE_integer("test_images", 10_000, "Test images.")
flags.DEFINE_integer("pooled", 1, "Squares of so many pixels a side are averaged; 1 for none.")
flags.DEFINE_integer("epochs", 10, "Epochs of each run.")
flags.DEFINE_integer("batch_size", BATCH, "Images of a step of `fit`.")
flags.DEFINE_integer("threads", 0, "Threads of TensorFlow; 0 lets it choose.")
flags.DEFINE_bool("jit", True, "Whether XLA compiles the training step.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")


def begin():
    """Set the threads; the images that the flags ask for, `((x, y), (x, y))`."""
    set_threads()
    work_dir().mkdir(parents=True, exist_ok=True)
    (x, y), (test_x, test_y) = datasets.load("fashion_mnist", FLAGS.data_dir)
    test = pooled(test_x[: FLAGS.test_images]), test_y[: FLAGS.test_images]
    return (pooled(x[: FLAGS.images]), y[: FLAGS.images]), test


def pooled(images):
    """Smaller images where the flag says so, so that a table is made in minutes on two cores."""
    side = FLAGS.pooled
    number, height, width, channels = images.shape
    shape = number, height // side, side, width // side, side, channels
    return images.reshape(shape).mean((2, 4))


def size(side):
    """What `pooled` has done, in words."""
    return f"averaged over squares of {side} pixels a side" if side > 1 else "28 pixels a side"


def set_threads():
    """As many threads of TensorFlow as the flag says."""
    if FLAGS.threads:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(FLAGS.threads)
        tf.config.threading.set_inter_op_parallelism_threads(FLAGS.threads)


def work_dir():
    name = f"resrep_{pathlib.Path(sys.argv[0]).stem}"
    return pathlib.Path(FLAGS.work_dir or pathlib.Path(tempfile.gettempdir()) / name)


# --- runs ----------------------------------------------------------------------------------------


def kept(path, make):
    """What `make` wrote to a path, once: a run that is stopped leaves nothing behind."""
    if not path.exists():
        write(path, make)
    return path


def record(name, make):
    """The JSON values that `make` returned for a path, read from it where it was run before."""
    path = work_dir() / f"{name}.json"
    return json.loads(kept(path, lambda p: p.write_text(json.dumps(make(path)))).read_text())


def records(names, run):
    """``{name: [run(name, seed) of each seed]}``."""
    found = {name: [] for name in names}
    for seed in map(int, FLAGS.seeds):
        for name in names:
            found[name].append(run(name, seed))
            print(f"seed {seed}: {name}: {found[name][-1]}", flush=True)
    return found


def fit(model, data, epochs, seed, **settings):
    """Train by the recipe of `compile_for`; the history."""
    x, y = data[0]
    keras.utils.set_random_seed(1000 + seed)
    batch = FLAGS.batch_size
    compile_for(model, epochs * -(-len(x) // batch))
    return model.fit(x, y, **{"batch_size": batch, "epochs": epochs, "verbose": 0, **settings})


def compile_for(model, steps):
    """SGD with momentum 0.9, weight decay 5e-3 and a cosine rate from 0.05 to 0 in `steps`."""
    rate = keras.optimizers.schedules.CosineDecay(0.05, steps)
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, weight_decay=5e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=FLAGS.jit,
    )


def accuracy(model, data):
    """Test accuracy in percent."""
    x, y = data[1]
    predicted = model.predict(x, batch_size=min(1000, len(x)), verbose=0).argmax(-1)
    return round(100 * float((predicted == y).mean()), 2)


def dense_net(data, seed, epochs, net="small_resnet"):
    """The net of a seed, trained once."""

    def train(path):
        keras.utils.set_random_seed(seed)
        model = nets.NETS[net](data[0][0].shape[1:], 10)
        fit(model, data, epochs, seed)
        model.save(path)

    path = kept(work_dir() / f"dense_{seed}.keras", train)
    return keras.models.load_model(path, compile=False)


def pruned(dense, method, data, seed):
    """The wrapped model of a pruning run of `epochs`, and what is left of it."""
    model = resrep_keras.wrap(dense, method)
    fit(model, data, FLAGS.epochs, seed)
    return model, resrep_keras.finalize(model, strict=True)


# --- result files --------------------------------------------------------------------------------


def spread(values):
    """Sample standard deviation, 0 of a single value."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def mean_and_spread(values):
    return f"{np.mean(values):.2f} ± {spread(values):.2f}"


def by_seed(values):
    return ", ".join(f"{value:.2f}" for value in values)


def origin():
    """Where a result comes from: the beginning of its JSON."""
    return {
        "command": command(),
        "machine": machine(),
        "seeds": FLAGS.seeds,
        "images": FLAGS.images,
    }


def command():
    """How this run was started, but for what is of its machine."""
    told = [each for each in sys.argv[1:] if "_dir=" not in each and "threads=" not in each]
    return shlex.join(("python", f"benchmarks/{pathlib.Path(sys.argv[0]).name}", *told))


def pruning_runs(names, run):
    """A result of `records` that prune dense nets, by the flags of the benchmark."""
    return {
        **origin(),
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "target_reduction": FLAGS.target_reduction,
        "runs": records(names, run),
    }


def made_by(result):
    """The first sentence of a page of `pruning_runs`."""
    number = len(result["seeds"])
    return (
        f"Made by `{result['command']}` on {result['machine']}; {number} seed{'s' * (number > 1)}, "
        f"mean and sample standard deviation; {result['images']:,} images, {result['epochs'][0]} "
        f"dense and {result['epochs'][1]} pruning epochs, "
        f"target_reduction={result['target_reduction']}."
    )


def publish(result, as_markdown, name=None):
    """Print the page, and write it and the JSON to files of a name, by default the benchmark's."""
    page = as_markdown(result)
    print(page)
    if FLAGS.write:
        write_result(result, page, name)
