"""A weighted layer that Keras does not have becomes prunable by three registrations.

    python examples/own_layer.py
    python examples/own_layer.py --dense_epochs=1 --epochs=5

The layer is a weight-normalised convolution. `docs/extending.md` explains its rules. Takes under a
minute on two cores.
"""

import pathlib

import quiet_start  # noqa: F401

# isort: split
import datasets
import keras
import numpy as np
import run_flags
from absl import app, flags
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.macs import labels_along, macs, positions_of, times
from resrep_keras.costs.terms import Term
from resrep_keras.graph.flow import activate, flow
from resrep_keras.graph.labels import State
from resrep_keras.surgery.narrow import narrow, weights_of, with_bias

FLAGS = flags.FLAGS
run_flags.share("target_reduction", 0.5, "Share of the MACs to remove.")
run_flags.count("dense_epochs", 10, "Epochs of dense training.")
run_flags.count("epochs", 20, "Epochs of training while pruning.")
flags.DEFINE_string("output_dir", "output/own_layer", "Where the slim model goes.")
run_flags.whole("seed", 0, "Seed of weights and data order.")


@keras.saving.register_keras_serializable("own_layer")
class WeightNormConv2D(layers.Layer):
    """Convolution whose kernel is a direction and a length for each output channel.

    ```
    kernel[..., j] = scale[j] * direction[..., j] / ||direction[..., j]||
    ```

    Args:
        filters: Number of output channels.
        kernel_size: Height and width of the kernel. Defaults to `3`.
        strides: Defaults to `1`. The padding is `"same"`, the channels come last.
        use_bias: Whether to add a bias. Defaults to `True`.
        activation: Function applied to the result. Defaults to `None`.
        **kwargs: Arguments of `keras.layers.Layer`.

    Reference:
        Salimans and Kingma, "Weight Normalization", NIPS 2016, equation 2.
    """

    def __init__(self, filters, kernel_size=3, strides=1, use_bias=True, activation=None, **kwargs):
        super().__init__(**kwargs)
        self.filters = filters
        self.kernel_size = kernel_size
        self.strides = strides
        self.use_bias = use_bias
        self.activation = keras.activations.get(activation)

    def build(self, input_shape):
        shape = (self.kernel_size, self.kernel_size, input_shape[-1], self.filters)
        # Norms are taken in float32, also where the layer computes in float16.
        self.direction = self.add_weight(
            shape=shape, initializer="he_normal", autocast=False, name="direction"
        )
        self.scale = self.add_weight(
            shape=(self.filters,), initializer="ones", autocast=False, name="scale"
        )
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.filters,), initializer="zeros", name="bias")

    @property
    def kernel(self):
        """The kernel that inputs meet; `MagnitudePruning` scores channels by it."""
        direction = ops.convert_to_tensor(self.direction)
        squares = ops.sum(ops.square(direction), axis=(0, 1, 2))
        return self.scale * direction * ops.rsqrt(ops.maximum(squares, 1e-12))

    def call(self, inputs):
        kernel = ops.cast(self.kernel, inputs.dtype)
        outputs = ops.conv(inputs, kernel, self.strides, "same", data_format="channels_last")
        outputs = outputs + self.bias if self.use_bias else outputs
        return self.activation(outputs)

    def compute_output_shape(self, input_shape):
        height, width = (n and -(-n // self.strides) for n in input_shape[1:3])
        return (input_shape[0], height, width, self.filters)

    def get_config(self):
        return {
            **super().get_config(),
            "filters": self.filters,
            "kernel_size": self.kernel_size,
            "strides": self.strides,
            "use_bias": self.use_bias,
            "activation": keras.activations.serialize(self.activation),
        }


def pass_channels(layer, call):
    """`flow`: all input channels are read, `filters` new ones are made."""
    call.consume(call.input, 3, folds=State.CONSTANT, padded=layer.kernel_size > 1)
    made = call.site(call.produce(3, layer.filters), 3)
    return activate(call, made, layer.activation)


def with_fewer_channels(layer, part):
    """`narrow`: norms run over all inputs, so the kernel is narrowed and then split anew."""
    old = weights_of(layer)
    lengths = np.sqrt(np.square(old["direction"]).sum(axis=(0, 1, 2)))
    kernel = old["direction"] * old["scale"] / np.maximum(lengths, 1e-6)
    kernel, bias = with_bias(part, kernel, old.get("bias"), in_axis=2, out_axis=3)
    lengths = np.sqrt(np.square(kernel).sum(axis=(0, 1, 2)))
    config = {"filters": kernel.shape[3], "use_bias": bias is not None}
    return config, [kernel, lengths] + ([] if bias is None else [bias])


def multiply_accumulates(layer, call):
    """`macs`: one for each output position, tap, input and output channel."""
    positions = positions_of(call.output_shape, 3)
    factors = labels_along(call.input, 3), labels_along(call.outputs[0], 3)
    return Term(times(positions, layer.kernel_size**2), factors)


def register_rules():
    """The three registrations, from outside the library."""
    flow.register(WeightNormConv2D)(pass_channels)
    narrow.register(WeightNormConv2D)(with_fewer_channels)
    macs.register(WeightNormConv2D)(multiply_accumulates)


def small_net(input_shape=(8, 8, 1), num_classes=10):
    """Three weight-normalised convolutions and a classifier."""
    x = inputs = keras.Input(input_shape)
    x = WeightNormConv2D(16, activation="relu", name="first")(x)
    x = WeightNormConv2D(32, strides=2, activation="relu", name="second")(x)
    x = WeightNormConv2D(32, activation="relu", name="third")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(num_classes, name="logits")(x), name="own_layer")


def status(model, name):
    """What `explain` says of one layer; what a layer without rules makes has no row."""
    found = {row.layer: row.status for row in resrep_keras.explain(model).rows}
    pins = {pin.layer: pin.text for pin in resrep_keras.trace(model).pins}
    return found.get(name) or f"pinned ({pins[name]})"


def compile_model(model, epochs, steps_per_epoch):
    model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(5e-3, epochs * steps_per_epoch)
        ),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )


def main(_):
    keras.utils.set_random_seed(FLAGS.seed)
    (x, y), (test_x, test_y) = datasets.load_digits()
    steps = -(-len(x) // 32)

    def accuracy(model):
        return (model.predict(test_x, verbose=0).argmax(-1) == test_y).mean()

    dense = small_net()
    print(f"Before registration: 'second' is {status(dense, 'second')}")
    register_rules()
    print(f"After registration: 'second' is {status(dense, 'second')}\n")
    print(f"{resrep_keras.explain(dense)}\n")

    method = resrep_keras.ResRep(FLAGS.target_reduction, min_share=0.2)
    run_flags.wrapped(dense, method)  # fails now, if it does
    run_flags.keep(pathlib.Path(FLAGS.output_dir))
    compile_model(dense, FLAGS.dense_epochs, steps)
    dense.fit(x, y, epochs=FLAGS.dense_epochs, verbose=0)
    model = resrep_keras.wrap(dense, method)
    compile_model(model, FLAGS.epochs, steps)
    model.fit(x, y, epochs=FLAGS.epochs, verbose=0)
    slim = resrep_keras.finalize(model)
    if not slim.certificate.max_relative < 1e-4:
        raise SystemExit(f"The rules are not exact: {slim.certificate}")

    # The slim model has layers of this file's kind: it loads where this file is imported.
    path = pathlib.Path(FLAGS.output_dir) / "slim.keras"
    resrep_keras.export(slim, path)
    reloaded = keras.models.load_model(path)
    widths = {layer.name: layer.filters for layer in slim.layers if hasattr(layer, "filters")}
    print(f"dense model: {resrep_keras.count_macs(dense):,} MACs, accuracy {accuracy(dense):.3f}")
    print(f"slim model: {resrep_keras.count_macs(slim):,} MACs, accuracy {accuracy(slim):.3f}")
    print(f"reloaded from {path}: accuracy {accuracy(reloaded):.3f}")
    print(f"Channels left: {widths}")
    print(f"Wrapped and slim model differ by {slim.certificate.max_relative:.1e}, relative.")


if __name__ == "__main__":
    app.run(main)
