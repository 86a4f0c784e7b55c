"""ResRep's experiments as its authors published them: ResNet-56 on CIFAR-10, ResNet-50 on ImageNet.

    python examples/reproduce_paper.py --net=resnet56 --dataset=cifar10
    python examples/reproduce_paper.py --net=resnet50 --dataset=imagenet2012 --devices=mirrored \\
        --mixed_precision=mixed_float16 --weights=resnet50.npz
    python examples/reproduce_paper.py --data_dir=/path/to/idx_files --depth=20 --width=8 \\
        --limit=9600 --dense_epochs=15 --epochs=45

The second takes all GPUs of a machine, with `--batch_size` images in a step of all together;
`--devices=workers`, started on each of several machines with TF_CONFIG, takes all of theirs. A run
that is shorter than the paper's has its schedule scaled, and says how. Started again with the same
flags, it goes on where it was stopped. docs/reproduce_paper.md says what to expect.
"""

import functools
import json
import os
import pathlib
import platform
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(pathlib.Path(__file__).resolve().parent / "distributed"))

import datasets
import keras
import paper_data
import paper_nets
import paper_training
import paper_workers
import run_flags
import tensorflow as tf
import worker_loop
from absl import app, flags

import resrep_keras
from resrep_keras.common.files import write_text

FLAGS = flags.FLAGS
flags.DEFINE_enum("net", "resnet56", sorted(paper_training.PAPER), "The experiment.")
flags.DEFINE_string("dataset", None, f"The net's own by default. {datasets.HELP}")
flags.DEFINE_string("data_dir", None, "A folder of idx files, or where tfds keeps its data.")
flags.DEFINE_string("weights", None, "'keras', or an .npz file of torchvision's state dict.")
flags.DEFINE_enum(
    "devices",
    "one",
    ["one", "mirrored", "workers"],
    "One device, all GPUs of this machine, or several machines.",
)
flags.DEFINE_enum(
    "mixed_precision", "none", ["none", "mixed_float16", "mixed_bfloat16"], "The dtype policy."
)
flags.DEFINE_enum(
    "schedule",
    "paper",
    ["paper", "planned"],
    "The paper's method, which wants 3,000 steps or more; or this package's default one.",
)
run_flags.share("target_reduction", None, "Share of the MACs to remove; by default the paper's.")
run_flags.whole("dense_epochs", None, "Epochs of dense training; by default the paper's.")
run_flags.count("epochs", None, "Epochs of training while pruning; by default the paper's.")
run_flags.count("batch_size", None, "Images in a step of all devices; by default the paper's.")
run_flags.rate("dense_rate", 0.1, "Learning rate of dense training, at its start.")
run_flags.rate("rate", 0.01, "Learning rate while pruning, at its start.")
run_flags.count("limit", None, "Use only so many training images.")
run_flags.count("image_size", 224, "Height and width of ImageNet's images.")
run_flags.count("depth", 56, "Layers of a ResNet for CIFAR-10: 6n + 2.")
run_flags.within("depth", lambda value: value % 6 == 2 and value > 2, "6n + 2, such as 20 or 56")
run_flags.count("width", 16, "Channels of its first stage.")
flags.DEFINE_string("output_dir", "output/reproduce_paper", "Where models and checkpoints go.")
run_flags.whole("seed", 0, "Seed of weights and data order.")


def own(name):
    """The value of a flag, or the paper's where it is not given."""
    value = FLAGS[name].value
    return getattr(paper_training.PAPER[FLAGS.net], name) if value is None else value


def make_strategy():
    """Where it is trained: one line for one GPU, for all of a machine, for several machines."""
    if FLAGS.devices == "one":
        return tf.distribute.get_strategy()
    if FLAGS.devices == "mirrored":
        return tf.distribute.MirroredStrategy()
    paper_workers.check_environment(FLAGS.mixed_precision)
    return tf.distribute.MultiWorkerMirroredStrategy()


def is_chief(strategy):
    """Whether this process writes the results; all others wait for it."""
    return FLAGS.devices != "workers" or worker_loop.is_chief(strategy)


def wait_for_all(strategy):
    if FLAGS.devices == "workers":
        worker_loop.wait_for_all(strategy)


def make_net(images):
    """The dense net, with the weights that it starts from."""
    if FLAGS.net == "resnet56":
        net = paper_nets.resnet_cifar(images.shape, images.classes, FLAGS.depth, FLAGS.width)
    elif FLAGS.weights == "keras":
        return paper_nets.keras_resnet50()
    else:
        net = paper_nets.resnet50(images.shape, images.classes)
    if FLAGS.weights is not None:
        paper_nets.load_torchvision(net, FLAGS.weights)
    return net


def check_flags():
    """End the program in words where flags contradict each other."""
    given = (FLAGS.net, own("dataset"), FLAGS.image_size)
    if FLAGS.weights == "keras" and given != ("resnet50", "imagenet2012", 224):
        raise SystemExit("--weights=keras are those of ResNet-50 on ImageNet at 224 pixels.")
    if FLAGS.weights is None and not own("dense_epochs"):
        raise SystemExit(
            f"--net={FLAGS.net} starts from trained weights, as in the paper: give --weights (see "
            "docs/reproduce_paper.md), or train it by --dense_epochs=90, say."
        )


def load_images():
    name = None if FLAGS.data_dir and FLAGS.dataset is None else own("dataset")
    return paper_data.load(
        *(name, FLAGS.data_dir, FLAGS.limit, FLAGS.image_size, FLAGS.seed),
        from_keras=FLAGS.weights == "keras",
    )


def write_result(folder, dense, slim, images, method):
    """Write `result.json` and `result.md` into the folder; returns the page."""
    dense, slim, difference = (
        paper_training.measured(dense, images, own("batch_size")),
        paper_training.measured(slim, images, own("batch_size")),
        slim.certificate.max_relative,
    )
    result = {
        "command": " ".join(["python", *sys.argv]),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Keras {keras.__version__}, "
        f"{len(tf.config.list_physical_devices('GPU'))} GPUs",
        "seed": FLAGS.seed,
        "images": images.size,
        "method": repr(method),
        "dense": dense,
        "slim": slim,
        "largest_relative_difference": difference,
        "epochs": paper_training.read_epochs(folder / "pruning" / "epochs.csv"),
    }
    page = paper_training.page_of(result)
    write_text(folder / "result.json", json.dumps(result, indent=1) + "\n")
    write_text(folder / "result.md", page)
    return page


def train(model, images, folder, epochs, schedule, strategy):
    settings = (model, images, folder, epochs, own("batch_size"), schedule, FLAGS.seed)
    if FLAGS.devices == "workers":
        paper_workers.train(*settings, strategy)
        return
    with strategy.scope():
        paper_training.train(*settings)


def make_dense(net, images, path, strategy):
    """The dense net, trained, or as a run before has left it."""
    if path.exists():
        with strategy.scope():
            return keras.models.load_model(path, compile=False)
    epochs, rate = own("dense_epochs"), FLAGS.dense_rate
    if epochs:
        schedule = functools.partial(paper_training.dense_schedule, rate)
        train(net, images, path.parent / "dense", epochs, schedule, strategy)
    if is_chief(strategy):
        resrep_keras.export(net, path)
    wait_for_all(strategy)
    return net


def main(_):
    check_flags()
    strategy = make_strategy()
    keras.utils.set_random_seed(FLAGS.seed)
    if FLAGS.mixed_precision != "none":
        keras.config.set_dtype_policy(FLAGS.mixed_precision)
    images = load_images()
    _, steps = paper_data.training_batches(images, own("batch_size"), FLAGS.seed)
    epochs, folder = own("epochs"), pathlib.Path(FLAGS.output_dir)
    method = paper_training.make_method(
        *(FLAGS.net, epochs, epochs * steps, FLAGS.rate),
        *(FLAGS.target_reduction, FLAGS.schedule == "planned"),
    )
    with strategy.scope():
        net = make_net(images)
        run_flags.wrapped(net, method)  # fails now, if it does
    run_flags.keep(folder, but=("output_dir", "devices"))
    if (folder / "slim.keras").exists():
        print(f"The run is done, see {(folder / 'result.md').resolve()}")
        return
    dense = make_dense(net, images, folder / "dense.keras", strategy)
    with strategy.scope():
        model = resrep_keras.wrap(dense, method)
    schedule = functools.partial(paper_training.cosine, FLAGS.rate)
    train(model, images, folder / "pruning", epochs, schedule, strategy)
    if is_chief(strategy):
        slim = resrep_keras.finalize(model)  # outside of the scope: a model for one device
        page = write_result(folder, dense, slim, images, method)
        resrep_keras.export(slim, folder / "slim.keras")
        print(f"\n{page}\nModels and results are in {folder.resolve()}")
    wait_for_all(strategy)


if __name__ == "__main__":
    app.run(main)
