"""The whole way on scikit-learn's embedded digits: train, wrap, fit, finalize, report, export.

    python examples/quickstart.py
    python examples/quickstart.py --target_reduction=0.7 --epochs=40

Takes under five minutes on two cores.
"""

import pathlib

import quiet_start  # noqa: F401

# isort: split
import datasets
import keras
import nets
import run_flags
from absl import app, flags

import resrep_keras
from resrep_keras.common.files import write_figure
from resrep_keras.costs.budget import UnreachableTarget

FLAGS = flags.FLAGS
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
flags.DEFINE_float(
    "min_share",
    None,
    "Share of its channels that each layer keeps at least; by default 0.4, or the most of 0.2, 0.1 "
    "and 0 with which the target can be met.",
)
run_flags.within("min_share", lambda value: 0 <= value < 1, "a number of 0 or more, below 1")
run_flags.count("dense_epochs", 15, "Epochs of dense training.")
run_flags.count("epochs", 30, "Epochs of training while pruning.")
flags.DEFINE_string("output_dir", "output/quickstart", "Where the models and the report go.")
run_flags.whole("seed", 0, "Seed of weights and data order.")


def compile_model(model, epochs, steps_per_epoch):
    rate = keras.optimizers.schedules.CosineDecay(0.05, epochs * steps_per_epoch)
    model.compile(
        optimizer=keras.optimizers.SGD(rate, momentum=0.9),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def choose_method(net):
    """The method of the flags; asked before the training, it fails early or not at all."""
    shares = (0.4, 0.2, 0.1, 0.0) if FLAGS.min_share is None else (FLAGS.min_share,)
    for share in shares:
        method = resrep_keras.ResRep(FLAGS.target_reduction, min_share=share)
        try:
            resrep_keras.wrap(net, method)
            return method
        except UnreachableTarget as error:
            problem = error
    raise SystemExit(f"--min_share={share}: {problem}")


def main(_):
    keras.utils.set_random_seed(FLAGS.seed)
    (x, y), test = datasets.load_digits()
    steps = -(-len(x) // 32)

    dense = nets.small_resnet((8, 8, 1), num_classes=10)
    method = choose_method(dense)
    folder = pathlib.Path(FLAGS.output_dir)
    run_flags.keep(folder)
    compile_model(dense, FLAGS.dense_epochs, steps)
    dense.fit(x, y, epochs=FLAGS.dense_epochs, validation_data=test, verbose=2)

    model = resrep_keras.wrap(dense, method)
    compile_model(model, FLAGS.epochs, steps)
    model.fit(x, y, epochs=FLAGS.epochs, validation_data=test, verbose=2)
    slim = resrep_keras.finalize(model)

    for name in ("slim.keras", "slim.tflite", "slim_saved_model"):
        print(resrep_keras.export(slim, folder / name))
    int8 = {"quantization": "int8", "calibration_data": x[:200], "test_data": test}
    print(resrep_keras.export(slim, folder / "slim_int8.tflite", **int8))
    table = resrep_keras.report(dense, slim, test_data=test, layer_latency=True)
    table.save(folder / "report.json")
    table.save(folder / "report.html")
    write_figure(folder / "widths.png", table.plot())
    print(f"\n{table}\n")
    print(f"Wrapped and slim model differ by {slim.certificate.max_relative:.1e}, relative.")
    print(f"Models, report.html, report.json and widths.png are in {folder.resolve()}")


if __name__ == "__main__":
    app.run(main)
