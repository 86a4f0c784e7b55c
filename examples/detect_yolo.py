"""Prune a YOLO of the package kyolo, with its own loss, and compare what both models detect.

    pip install kyolo==0.1.5
    python examples/detect_yolo.py
    python examples/detect_yolo.py --model=yolo11n --target_reduction=0.7

The scenes are drawn by the program (`shape_scenes.py`): up to four shapes on a grainy ground. A
dense net is trained, goes on for as many epochs as pruning takes, and is the yardstick; pruning
starts from the same dense net. Both, and the `.tflite` file of the slim one, are measured by the
average precision of COCO. Ten minutes or so on two cores. Started again with the same flags, it
goes on where it was stopped.
"""

import json
import pathlib
import time

import quiet_start  # noqa: F401

# isort: split
import detection_metrics
import keras
import numpy as np
import run_flags
import shape_scenes
from absl import app, flags

import resrep_keras
from resrep_keras.common.files import write, write_figure, write_text
from resrep_keras.tflite.run import TFLiteRunner

try:
    import kyolo
except ImportError as error:
    raise SystemExit(
        "This example needs the package kyolo, which resrep_keras does not: "
        "pip install kyolo==0.1.5"
    ) from error

FLAGS = flags.FLAGS
flags.DEFINE_string("model", "yolov8n", "A builder of kyolo, such as 'yolov8n' or 'yolo11n'.")
run_flags.within("model", lambda name: name in kyolo.MODEL_NAMES, "a name of kyolo.MODEL_NAMES")
run_flags.count("image_size", 64, "Height and width in pixels, a multiple of 32.")
run_flags.within("image_size", lambda size: size % 32 == 0, "a multiple of 32")
run_flags.count("images", 800, "Scenes to train on.")
run_flags.count("test_images", 300, "Other scenes, to measure.")
run_flags.count("batch_size", 8, "Scenes in a step.")
run_flags.count("dense_epochs", 8, "Epochs of dense training before pruning.")
run_flags.count("epochs", 8, "Epochs of training while pruning, and of further dense training.")
run_flags.rate("rate", 2e-3, "Learning rate of Adam, which falls to 0 along a cosine.")
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
flags.DEFINE_string("output_dir", "output/detect_yolo", "Where models and the picture go.")
run_flags.whole("seed", 0, "Seed of scenes, weights and data order.")

NAMES = {"start": "dense", "dense": "dense, trained on", "slim": "slim"}


@keras.saving.register_keras_serializable("examples")
class Detector(keras.Model):
    """A net of kyolo that is trained by kyolo's loss, wrapped or not."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = kyolo.YOLODetectionLoss(nc=len(shape_scenes.CLASSES))
        return loss(y_pred, y)["loss"]


def new_net():
    shape = (FLAGS.image_size, FLAGS.image_size, 3)
    net = getattr(kyolo, FLAGS.model)(nc=len(shape_scenes.CLASSES), input_shape=shape)
    return Detector(net.inputs, net.outputs, name=FLAGS.model)


def scenes(part):
    """Scenes to train on, `part` 0, or to measure, 1."""
    number = (FLAGS.images, FLAGS.test_images)[part]
    return shape_scenes.scenes(number, FLAGS.image_size, [FLAGS.seed, part])


def fit(model, epochs):
    images, targets = scenes(0)
    steps = -(-len(images) // FLAGS.batch_size)
    rate = keras.optimizers.schedules.CosineDecay(FLAGS.rate, epochs * steps)
    model.compile(keras.optimizers.Adam(rate, clipnorm=10.0))
    model.fit(images, targets, batch_size=FLAGS.batch_size, epochs=epochs, verbose=2)


def trained():
    model = new_net()
    run_flags.wrapped(model, method())  # a target out of reach is told now
    fit(model, FLAGS.dense_epochs)
    return model


def trained_on(path):
    model = keras.models.load_model(path)
    fit(model, FLAGS.epochs)
    return model


def pruned(path):
    model = resrep_keras.wrap(keras.models.load_model(path), method())
    fit(model, FLAGS.epochs)
    return resrep_keras.finalize(model)


def method():
    return resrep_keras.ResRep(FLAGS.target_reduction, coupled=True)


def kept(path, make):
    """The model that `make` returns, written to a path once."""
    if not path.exists():
        keras.utils.set_random_seed(FLAGS.seed)
        begin = time.process_time()
        model = make()
        print(f"{path.name}: {time.process_time() - begin:.0f} s of processor time", flush=True)
        write(path, model.save, keras.models.load_model)
    return keras.models.load_model(path)


def detections(outputs):
    """What a net's outputs tell of each image: x1, y1, x2, y2, score, class."""
    decode = kyolo.YOLOPostprocessor(
        nc=len(shape_scenes.CLASSES), conf_threshold=0.01, iou_threshold=0.6, max_detections=100
    )
    return kyolo.detections_to_list(decode(outputs))


def predicted(model, images):
    return detections(model.predict(images, batch_size=50, verbose=0))


def predicted_by_file(model, path, images):
    """The same of the `.tflite` file of a model, an image at a time."""
    runner, rows = TFLiteRunner(path.read_bytes()), []
    for image in images:
        runner.set_inputs({model.inputs[0].name: image[None]})
        runner.invoke()
        outputs = runner.outputs()
        rows.append([outputs[name] for name in model.output_names])
    return detections([np.concatenate(part) for part in zip(*rows)])


def measured(found, targets):
    precisions = detection_metrics.average_precisions(found, targets)
    return {"ap50": float(precisions[0]), "ap": float(precisions.mean())}


def draw(images, targets, found, path):
    truth = [
        np.column_stack([boxes, np.ones(len(boxes)), labels])[mask > 0]
        for boxes, labels, mask in zip(*(targets[key] for key in ("boxes", "labels", "mask")))
    ]
    rows = {"drawn": truth, **{NAMES[key]: found[key] for key in ("dense", "slim")}}
    title = f"{FLAGS.model}: test scenes, and what was detected with a score of 0.3 or more"
    figure = detection_metrics.figure(images[:6], rows, shape_scenes.CLASSES, title)
    write_figure(path, figure)


def main(_):
    folder = pathlib.Path(FLAGS.output_dir)
    run_flags.keep(folder)
    start = folder / "start.keras"
    makers = {"start": trained, "dense": lambda: trained_on(start), "slim": lambda: pruned(start)}
    models = {name: kept(folder / f"{name}.keras", make) for name, make in makers.items()}
    images, targets = scenes(1)
    found = {name: predicted(model, images) for name, model in models.items()}
    results = {
        name: measured(found[name], targets)
        | {
            "macs": resrep_keras.count_macs(model),
            "parameters": resrep_keras.count_params(model),
        }
        for name, model in models.items()
    }
    file = folder / "slim.tflite"
    difference = resrep_keras.export(models["slim"], file)
    by_file = predicted_by_file(models["slim"], file, images)
    results["tflite"] = measured(by_file, targets) | {
        "difference": difference,
        "bytes": file.stat().st_size,
    }
    draw(images, targets, found, folder / "detections.png")
    write_text(folder / "results.json", json.dumps(results, indent=1) + "\n")
    for name, row in results.items():
        print(NAMES.get(name, name), row)
    print(f"Models, results.json and detections.png are in {folder.resolve()}")


if __name__ == "__main__":
    app.run(main)
