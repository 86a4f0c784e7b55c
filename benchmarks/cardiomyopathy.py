"""The classifier of `examples/cardiomyopathy.py` on synthetic tissue: told apart, seen, pruned.

    python benchmarks/cardiomyopathy.py

Backbone and head are small; every number is about synthetic tiles, and nothing clinical follows.
For each seed it trains attention over tiles and two baselines, prunes the first, and measures
patients that were not trained on. It ends with an error where a bar is missed. Finished models, and
what was measured of each, are kept in `--work_dir`. Training runs on any backend, and TensorFlow
need not be there:

    KERAS_BACKEND=jax python benchmarks/cardiomyopathy.py --phase=train --work_dir=<folder>
    python benchmarks/cardiomyopathy.py --phase=evaluate --work_dir=<folder>
"""

import json
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
sys.path.append(str(pathlib.Path(__file__).parents[1] / "examples"))

import cardiomyopathy_nets as nets
import keras
import numpy as np
import patient_metrics
import run_flags
import synthetic_tissue
import tissue
from absl import app, flags
from common import RESULTS, machine, write_result

import resrep_keras
from resrep_keras.common.files import write, write_text
from resrep_keras.common.tables import markdown_table

FLAGS = flags.FLAGS
flags.DEFINE_enum("phase", "all", ["all", "train", "evaluate"], "What to do.")
flags.DEFINE_string("work_dir", None, "Where models are kept; by default a temporary folder.")
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of patients, weights and data order.")
flags.DEFINE_integer("patients", 120, "Patients to train on.", lower_bound=4)
flags.DEFINE_integer("test_patients", 200, "Patients to measure.", lower_bound=4)
flags.DEFINE_integer("size", 80, "Height and width of a tile in pixels.", lower_bound=32)
flags.DEFINE_integer("width", 12, "Channels of the first mixed block's branches.", lower_bound=2)
flags.DEFINE_integer("epochs", 25, "Epochs of training.", lower_bound=1)
flags.DEFINE_integer("prune_epochs", 25, "Epochs of training while pruning.", lower_bound=1)
flags.DEFINE_float("rate", 2e-3, "Learning rate of Adam, which falls to 0 along a cosine.")
flags.DEFINE_integer("workers", 1, "Threads that make batches.", lower_bound=1)
flags.DEFINE_bool("write", True, "Whether to write the result files.")

LENGTH, REDUCTION = 6, 0.5
MODELS = {
    "attention": "BiLSTM, self-attention",
    "slim": "BiLSTM, self-attention, pruned",
    "last": "BiLSTM, last states",
    "average": "mean of the tiles",
}
BARS = {
    "AUC of the attention model": ("at least 0.9, in each seed", lambda r: least(r, "auc") >= 0.9),
    "attention on telling tiles": (
        "above equal shares, in each seed",
        lambda r: all(seed["gain"] > 1 for seed in r["attention"]),
    ),
    "MACs of the slim model": (
        "at most half of the dense",
        lambda r: all(s["macs"] <= d["macs"] / 2 for d, s in zip(r["attention"], r["slim"])),
    ),
    "AUC of the slim model": (
        "at most 0.02 below the dense, in each seed",
        lambda r: all(s["auc"] >= d["auc"] - 0.02 for d, s in zip(r["attention"], r["slim"])),
    ),
    "TFLite": (
        "the slim model's decision on every test patient",
        lambda r: all(seed["tflite_agrees"] == seed["patients"] for seed in r["slim"]),
    ),
}


def least(results, measure):
    return min(seed[measure] for seed in results["attention"])


# --- training -------------------------------------------------------------------------------------


def work_dir():
    name = pathlib.Path(tempfile.gettempdir()) / "resrep_cardiomyopathy"
    return pathlib.Path(FLAGS.work_dir or name)


def patients(seed):
    """Patients to train on, and others to measure."""
    everyone = synthetic_tissue.patients(
        FLAGS.patients + FLAGS.test_patients, FLAGS.size, LENGTH, seed
    )
    return everyone[: FLAGS.patients], everyone[FLAGS.patients :]


def fit(model, people, epochs, seed):
    data = tissue.Batches(people, FLAGS.size, LENGTH, 8, True, seed, workers=FLAGS.workers)
    rate = keras.optimizers.schedules.CosineDecay(FLAGS.rate, epochs * len(data))
    model.compile(keras.optimizers.Adam(rate), keras.losses.BinaryCrossentropy(from_logits=True))
    return model.fit(data, epochs=epochs, verbose=0).history["loss"][-1]


def trained(name, seed, people):
    keras.utils.set_random_seed(seed)
    if name == "slim":
        dense = keras.models.load_model(place("attention", seed), compile=False)
        model = resrep_keras.wrap(dense, resrep_keras.ResRep(REDUCTION))
        loss = fit(model, people, FLAGS.prune_epochs, seed + 1000)
        model = resrep_keras.finalize(model)
    else:
        model = nets.classifier(nets.slim_inception(FLAGS.size, FLAGS.width), LENGTH, name)
        loss = fit(model, people, FLAGS.epochs, seed)
    print(f"seed {seed}: {MODELS[name]}: loss {loss:.4f}", flush=True)
    return model


def place(name, seed):
    return work_dir() / f"{name}_{seed}.keras"


def train():
    for seed in map(int, FLAGS.seeds):
        missing = [name for name in MODELS if not place(name, seed).exists()]
        people = patients(seed)[0] if missing else None
        for name in missing:
            model = trained(name, seed, people)
            write(place(name, seed), model.save)


# --- evaluation -----------------------------------------------------------------------------------


def evaluate(name, seed, test, data):
    model = keras.models.load_model(place(name, seed), compile=False)
    labels = [patient.label for patient in test]
    scores = model.predict(data, verbose=0)[:, 0]
    measures = patient_metrics.measured(labels, scores)
    found = {
        **{key: value.value for key, value in measures.items()},
        **{f"{key}_interval": [value.low, value.high] for key, value in measures.items()},
        "confusion": patient_metrics.confusion(labels, scores > 0).tolist(),
        "patients": len(labels),
        "macs": resrep_keras.count_macs(model),
        "params": resrep_keras.count_params(model),
    }
    if name in ("attention", "slim"):
        inputs = [data[i][0] for i in range(len(data))]
        attention = nets.attention_of(model).predict(data, verbose=0)
        present = np.concatenate([x["present"] for x in inputs])
        found["gain"] = patient_metrics.gain(attention, [p.tells for p in test], present)
    if name == "slim":
        found["tflite_agrees"] = agreeing(model, data, scores, work_dir() / f"slim_{seed}.tflite")
    return found


def agreeing(model, data, scores, path):
    """On how many patients a `.tflite` file decides as the model does."""
    from resrep_keras.tflite.run import TFLiteRunner

    resrep_keras.export(model, path)
    runner, same, number = TFLiteRunner(path.read_bytes()), 0, 0
    for batch in range(len(data)):
        inputs, _ = data[batch]
        for row in range(len(inputs["present"])):
            runner.set_inputs({key: value[row : row + 1] for key, value in inputs.items()})
            runner.invoke()
            (score,) = runner.outputs().values()
            same += bool((score.item() > 0) == (scores[number] > 0))
            number += 1
    return same


def draw(seed):
    """Tiles, attention and decision of the slim model for the first two patients of each class."""
    model = keras.models.load_model(place("slim", seed), compile=False)
    shown = patients(seed)[1][:4]
    inputs, _ = tissue.Batches(shown, FLAGS.size, LENGTH, 4)[0]
    scores = model.predict(inputs, verbose=0)[:, 0]
    attention = nets.attention_of(model).predict(inputs, verbose=0)
    rows = [
        (patient, inputs["tiles"][i][there], attention[i][there], scores[i])
        for i, (patient, there) in enumerate(zip(shown, inputs["present"]))
    ]
    figure = patient_metrics.attention_figure(
        rows, synthetic_tissue.CLASSES, "SYNTHETIC tiles: attention of the pruned classifier"
    )
    write(RESULTS / "cardiomyopathy.png", lambda fresh: save_small(figure, fresh))


def save_small(figure, path):
    """A figure as a PNG of 64 colours: the grain of the tiles would else take a megabyte."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.fromarray(np.asarray(canvas.buffer_rgba()))
    image.convert("RGB").quantize(64).save(path, "PNG", optimize=True)


def results():
    found = {name: [] for name in MODELS}
    for seed in map(int, FLAGS.seeds):
        test = patients(seed)[1]
        data = tissue.Batches(test, FLAGS.size, LENGTH, 20)
        for name in MODELS:
            path = work_dir() / f"measured_{name}_{seed}.json"
            if not path.exists():
                write_text(path, json.dumps(evaluate(name, seed, test, data)))
            found[name].append(json.loads(path.read_text()))
            print(f"seed {seed}: {name}: {found[name][-1]}", flush=True)
    return found


# --- the page -------------------------------------------------------------------------------------


def interval(row, key):
    low, high = row[f"{key}_interval"]
    return f"{row[key]:.3f} ({low:.3f} to {high:.3f})"


def as_markdown(result):
    header = ("model", "seed", "AUC", "sensitivity", "specificity", "confusion", "million MACs")
    table = []
    for name, rows in result["models"].items():
        for seed, row in zip(result["seeds"], rows):
            cells = [interval(row, key) for key in ("auc", "sensitivity", "specificity")]
            (tn, fp), (fn, tp) = row["confusion"]
            cells += [f"{tp} / {fn} / {fp} / {tn}", f"{row['macs'] / 1e6:.2f}"]
            cells += [f"{row['gain']:.2f}" if "gain" in row else ""]
            table.append((MODELS[name], seed, *cells))
    bars = [(name, *pair) for name, pair in result["bars"].items()]
    agrees = ", ".join(f"{r['tflite_agrees']} of {r['patients']}" for r in result["models"]["slim"])
    return "\n".join(
        [
            "# The classifier of patients on synthetic tissue",
            "",
            f"Made by `{result['command']}`; evaluated on {result['machine']}. **All tiles are "
            "synthetic**: no patient's tissue was seen, and nothing clinical follows.",
            "",
            f"{result['patients']} patients to train on and {result['test_patients']} others to "
            f"measure, anew in each seed, with 4 to {LENGTH} tiles of {result['size']} pixels, of "
            "which 1 to 3 tell the class. In brackets 95 % intervals over test patients "
            "(bootstrap, 2,000 draws by class). Positive is the patchy class. *Confusion*: true "
            "positives, false negatives, false positives, true negatives, in patients. *MACs*: of "
            "one patient. *Gain*: mean attention on telling tiles, in times of equal shares.",
            "",
            *markdown_table((*header, "gain"), table),
            "",
            f"The `.tflite` file decides as the slim model on {agrees} test patients.",
            "",
            *markdown_table(("what", "bar", "met"), bars),
            "",
        ]
    )


def main(_):
    run_flags.keep(work_dir(), but=("work_dir", "phase", "seeds", "workers", "write"))
    if FLAGS.phase != "evaluate":
        train()
    if FLAGS.phase == "train":
        return
    found = results()
    bars = {name: (bar, "yes" if holds(found) else "no") for name, (bar, holds) in BARS.items()}
    result = {
        "command": "python benchmarks/cardiomyopathy.py",
        "machine": machine(),
        "seeds": FLAGS.seeds,
        **{
            name: FLAGS[name].value
            for name in "patients test_patients size width epochs prune_epochs rate".split()
        },
        "models": found,
        "bars": bars,
    }
    page = as_markdown(result)
    print(page)
    if FLAGS.write:
        write_result(result, page)
        draw(int(FLAGS.seeds[0]))
    missed = [name for name, (_, word) in bars.items() if word == "no"]
    if missed:
        raise SystemExit(f"Missed: {', '.join(missed)}.")


if __name__ == "__main__":
    app.run(main)
