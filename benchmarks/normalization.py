"""Which normalisation of the scores should be the default: raw norms, per layer, or per cost saved.

    python benchmarks/normalization.py --data_dir=<folder of idx files>

Each seed trains one dense net on a part of Fashion-MNIST; each normalisation goes on from it with the
same recipe and removes the same share of the MACs. Finished runs are kept in the work folder. Writes
`benchmarks/results/normalization.json` and `.md`.
"""

import json
import os
import pathlib
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))

import datasets
import keras
import nets
import numpy as np
from absl import app, flags
from common import machine

import resrep_keras

FLAGS = flags.FLAGS
flags.DEFINE_string("data_dir", "/usr/share/datasets/fashion-mnist", "Folder of the idx files.")
flags.DEFINE_string("work_dir", "/tmp/resrep_normalization", "Where finished runs are kept.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds to train.")
flags.DEFINE_list("normalizations", ["none", "layer", "cost"], "What to compare.")
flags.DEFINE_integer("images", 10_000, "Training images.")
flags.DEFINE_integer("dense_epochs", 6, "Epochs of the dense net.")
flags.DEFINE_integer("epochs", 10, "Epochs of each pruning run.")
flags.DEFINE_float("target_reduction", 0.6, "Share of the MACs to remove.")
flags.DEFINE_bool("write", True, "Whether to write the result files.")

BATCH = 128
RESULTS = pathlib.Path(__file__).parent / "results"


def fit(model, data, epochs, seed):
    """SGD with momentum 0.9, weight decay 5e-3 and a cosine rate from 0.05; the test accuracy."""
    (x, y), (test_x, test_y) = data
    keras.utils.set_random_seed(1000 + seed)
    rate = keras.optimizers.schedules.CosineDecay(0.05, epochs * -(-len(x) // BATCH))
    model.compile(
        keras.optimizers.SGD(rate, momentum=0.9, weight_decay=5e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=True,
    )
    model.fit(x, y, batch_size=BATCH, epochs=epochs, verbose=0)
    predicted = model.predict(test_x, batch_size=1000, verbose=0).argmax(-1)
    return round(100 * float((predicted == test_y).mean()), 2)


def dense_run(data, seed):
    path = pathlib.Path(FLAGS.work_dir) / f"dense_{seed}.keras"
    if not path.exists():
        keras.utils.set_random_seed(seed)
        model = nets.small_resnet((28, 28, 1), 10)
        fit(model, data, FLAGS.dense_epochs, seed)
        beside = path.with_name(f"fresh_{path.name}")
        model.save(beside)
        os.replace(beside, path)
    return keras.models.load_model(path, compile=False)


def pruning_run(data, seed, normalization):
    path = pathlib.Path(FLAGS.work_dir) / f"{normalization}_{seed}.json"
    if not path.exists():
        method = resrep_keras.ResRep(FLAGS.target_reduction, normalization=normalization)
        model = resrep_keras.wrap(dense_run(data, seed), method)
        accuracy = fit(model, data, FLAGS.epochs, seed)
        slim = resrep_keras.finalize(model, strict=True)
        widths = [w.shape[-1] for w in slim.weights if w.path.endswith("kernel")]
        left = round(slim.certificate.macs_left, 4)
        beside = path.with_suffix(".tmp")
        beside.write_text(json.dumps({"accuracy": accuracy, "macs_left": left, "widths": widths}))
        os.replace(beside, path)
    return json.loads(path.read_text())


def as_markdown(result):
    lines = [
        f"Made by `{result['command']}` on {result['machine']}; {len(result['seeds'])} seeds, mean and "
        f"sample standard deviation; {result['images']:,} images, {result['epochs'][0]} dense and "
        f"{result['epochs'][1]} pruning epochs, target_reduction={result['target_reduction']}.",
        "",
        "| `normalization` | test accuracy (%) | by seed | narrowest layer, by seed |",
        "|---|---|---|---|",
    ]
    for name, runs in result["runs"].items():
        values = [run["accuracy"] for run in runs]
        spread = np.std(values, ddof=1) if len(values) > 1 else 0.0
        lines.append(
            f"| `{name}` | {np.mean(values):.2f} ± {spread:.2f} | "
            f"{', '.join(f'{v:.2f}' for v in values)} | "
            f"{', '.join(str(min(run['widths'])) for run in runs)} |"
        )
    return "\n".join(lines) + "\n"


def main(_):
    pathlib.Path(FLAGS.work_dir).mkdir(parents=True, exist_ok=True)
    (x, y), test = datasets.load("fashion_mnist", FLAGS.data_dir)
    data = (x[: FLAGS.images], y[: FLAGS.images]), test
    runs = {name: [] for name in FLAGS.normalizations}
    for seed in map(int, FLAGS.seeds):
        for name in FLAGS.normalizations:
            runs[name].append(pruning_run(data, seed, name))
            print(f"seed {seed}: {name}: {runs[name][-1]}", flush=True)
    result = {
        "command": "python benchmarks/normalization.py",
        "machine": machine(),
        "seeds": FLAGS.seeds,
        "images": FLAGS.images,
        "epochs": [FLAGS.dense_epochs, FLAGS.epochs],
        "target_reduction": FLAGS.target_reduction,
        "runs": runs,
    }
    print(as_markdown(result))
    if FLAGS.write:
        (RESULTS / "normalization.json").write_text(json.dumps(result, indent=1) + "\n")
        (RESULTS / "normalization.md").write_text(as_markdown(result))


if __name__ == "__main__":
    app.run(main)
