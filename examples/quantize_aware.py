"""Prune, then train for integers: the whole way on scikit-learn's embedded digits.

    python examples/quantize_aware.py

Dense, wrapped, slim; then int8 by calibration alone, and by quantisation-aware training in tf_keras
with tensorflow-model-optimization: `pip install "resrep-keras[tfmot]"`. Prints accuracy and bytes
of each. Takes under five minutes on two cores.
"""

import importlib.util
import pathlib

import quiet_start  # noqa: F401

# isort: split
import datasets
import keras
import nets
import run_flags
from absl import app, flags

import resrep_keras
from resrep_keras.common.tables import text_table

FLAGS = flags.FLAGS
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
run_flags.count("dense_epochs", 15, "Epochs of dense training.")
run_flags.count("epochs", 30, "Epochs of training while pruning.")
run_flags.count("aware_epochs", 5, "Epochs of quantisation-aware training.")
run_flags.rate("aware_rate", 0.001, "Its learning rate: about a tenth of the last one, or less.")
run_flags.count("calibration", 200, "Training images that the ranges of activations begin with.")
flags.DEFINE_string("output_dir", "output/quantize_aware", "Where the models go.")
run_flags.whole("seed", 0, "Seed of weights and data order.")

TFMOT = "tensorflow_model_optimization"


def compile_model(model, optimizer):
    model.compile(
        optimizer=optimizer,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def falling_rate(steps):
    return keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.05, steps), momentum=0.9)


def main(_):
    if importlib.util.find_spec(TFMOT) is None:
        raise SystemExit(f'needs the package {TFMOT}: pip install "resrep-keras[tfmot]"')
    keras.utils.set_random_seed(FLAGS.seed)
    (x, y), test = datasets.load_digits()
    steps = -(-len(x) // 32)
    dense = nets.small_resnet((8, 8, 1), num_classes=10)
    method = resrep_keras.ResRep(FLAGS.target_reduction)
    run_flags.wrapped(dense, method)  # fails now, if it does
    folder = pathlib.Path(FLAGS.output_dir)
    run_flags.keep(folder)

    compile_model(dense, falling_rate(FLAGS.dense_epochs * steps))
    dense.fit(x, y, epochs=FLAGS.dense_epochs, verbose=2)
    model = resrep_keras.wrap(dense, method)
    compile_model(model, falling_rate(FLAGS.epochs * steps))
    model.fit(x, y, epochs=FLAGS.epochs, verbose=2)
    slim = resrep_keras.finalize(model)
    compile_model(slim, keras.optimizers.Adam(FLAGS.aware_rate))

    files = {
        "dense, float32": resrep_keras.export(dense, folder / "dense.tflite", test_data=test),
        "slim, float32": resrep_keras.export(slim, folder / "slim.tflite", test_data=test),
    }
    examples = x[: FLAGS.calibration]
    files["slim, int8"] = resrep_keras.export(
        slim,
        folder / "slim_int8.tflite",
        quantization="int8",
        calibration_data=examples,
        test_data=test,
    )

    # A model of Keras 2, compiled as slim is, that rounds as int8 does while it trains.
    aware = resrep_keras.tfmot.quantize_aware(slim, calibration_data=examples)
    aware.fit(x, y, epochs=FLAGS.aware_epochs, verbose=2)
    path = folder / "slim_aware.tflite"
    files["slim, int8, trained for it"] = resrep_keras.tfmot.export(
        aware, path, slim, test_data=test
    )

    rows = [(n, f"{f.quality['accuracy'][1]:.4f}", f"{f.bytes:,}") for n, f in files.items()]
    print("", *text_table(("file", "accuracy", "bytes"), rows), sep="\n")
    print(f"Models are in {folder.resolve()}")


if __name__ == "__main__":
    app.run(main)
