"""Products without a rule are counted in what a call does, or named as unknown: never 0."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.costs.macs import MacCost
from resrep_keras.costs.params import ParamCost
from resrep_keras.graph.flow import flow
from resrep_keras.surgery.narrow import narrow, take, weight_values
from resrep_keras.surgery.remove import remove
from tests import helpers


@keras.saving.register_keras_serializable("b1")
class Mixing(layers.Layer):
    """A kernel of its own, behind a call of keras.ops, that nobody has registered a rule for."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units))
        super().build(shape)

    def call(self, x):
        return ops.relu(ops.matmul(x, self.kernel))

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("b1")
class Known(Mixing):
    """The same with rules for its channels, but none for its MACs."""

    def call(self, x):
        return ops.relu(ops.matmul(x, self.kernel)) + ops.matmul(x, self.kernel)


@flow.register
def _known_flow(layer: Known, call):
    axis = len(call.input.shape) - 1
    call.consume(call.input, axis)
    return call.site(call.produce(axis, layer.units), axis)


@narrow.register
def _known_narrow(layer: Known, part):
    kernel = take(take(weight_values(layer)[0], 0, part.keep_in[0]), 1, part.keep_out)
    return {"units": kernel.shape[1]}, [kernel]


@keras.saving.register_keras_serializable("b1")
class Repeated(Mixing):
    """How often a loop runs is not known."""

    def call(self, x):
        x = ops.while_loop(lambda y: ops.max(y) > 9.0, lambda y: (0.5 * y,), (x,))[0]
        return ops.relu(ops.matmul(x, self.kernel))


@keras.saving.register_keras_serializable("b1")
class Cell(layers.Layer):
    """A recurrent cell of one's own."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = self.state_size = self.output_size = units

    def build(self, shape):
        self.kernel = self.add_weight(shape=(shape[-1], self.units))
        self.inner = self.add_weight(shape=(self.units, self.units))
        super().build(shape)

    def call(self, x, states):
        state = ops.tanh(ops.matmul(x, self.kernel) + ops.matmul(states[0], self.inner))
        return state, [state]

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Looped(Mixing):
    """A loop of its own in Python."""

    def call(self, x):
        rows = [ops.matmul(x[:, step], self.kernel) for step in range(x.shape[1])]
        return ops.stack(rows, axis=1)


class OnArrays(Mixing):
    """A call that keras.ops know nothing of."""

    def call(self, x):
        return x @ np.asarray(self.kernel)[None].repeat(len(np.asarray(x)), 0)


def counted(function, shape=(8, 16)):
    inputs = keras.Input(shape)
    return resrep_keras.count_macs(keras.Model(inputs, function(inputs)))


def test_attention_without_projections():
    def attention(kind, **settings):
        def function(x):
            query, value, key = (layers.Dense(16)(x) for _ in range(3))
            return kind(**settings)([query, value, key])

        return function

    projections, pairs = 3 * 8 * 16 * 16, 8 * 8 * 16
    assert counted(attention(layers.Attention)) == projections + 2 * pairs == 8_192
    assert counted(attention(layers.Attention, score_mode="concat")) == projections + pairs
    assert counted(attention(layers.AdditiveAttention)) == projections + 2 * pairs
    assert counted(attention(layers.AdditiveAttention, use_scale=False)) == projections + pairs


def test_attention_that_returns_its_scores():
    def scores(x):
        return layers.MultiHeadAttention(2, 3)(x, x, return_attention_scores=True)

    projections = 4 * 8 * 16 * 2 * 3
    assert counted(scores) == projections + 2 * 8 * 8 * 2 * 3


@pytest.mark.parametrize(
    ("make", "macs"),
    [
        (lambda: Mixing(7), 8 * 16 * 7),
        (lambda: Known(7), 2 * 8 * 16 * 7),
        (lambda: Looped(7), 8 * 16 * 7),
        (lambda: keras.Sequential([Mixing(7), layers.Dense(3)]), 8 * 16 * 7 + 8 * 7 * 3),
        (lambda: layers.TimeDistributed(Mixing(7)), 8 * 16 * 7),
        (lambda: layers.RNN(Cell(5)), 8 * (16 * 5 + 5 * 5)),
        (lambda: layers.RNN(layers.LSTMCell(5)), 8 * 4 * 5 * (16 + 5)),
        (lambda: layers.RNN(layers.GRUCell(5), return_sequences=True), 8 * 3 * 5 * (16 + 5)),
        (
            lambda: layers.RNN([layers.SimpleRNNCell(5), Cell(3)]),
            8 * 5 * (16 + 5) + 8 * 3 * (5 + 3),
        ),
        (lambda: layers.Bidirectional(layers.RNN(Cell(5))), 2 * 8 * (16 * 5 + 5 * 5)),
        (
            lambda: layers.Bidirectional(
                layers.LSTM(5), backward_layer=layers.LSTM(3, go_backwards=True)
            ),
            8 * 4 * 5 * (16 + 5) + 8 * 4 * 3 * (16 + 3),
        ),
        (lambda: layers.Lambda(lambda x: ops.matmul(x, ops.swapaxes(x, 1, 2))), 8 * 8 * 16),
        (lambda: layers.Lambda(lambda x: 2 * x), 0),
    ],
)
def test_layers_without_a_rule_are_counted_in_what_their_call_does(make, macs):
    assert counted(make()) == macs


def test_half_of_the_macs_is_half_of_all_of_them():
    x = inputs = keras.Input((8, 16))
    x = layers.Dense(16, activation="relu")(x)
    x = layers.Dense(16, activation="relu")(x)
    dense = keras.Model(inputs, layers.Dense(3)(Mixing(16)(x)))
    all_of_them = 3 * 8 * 16 * 16 + 8 * 16 * 3
    assert resrep_keras.count_macs(dense) == all_of_them
    slim = resrep_keras.MagnitudePruning(0.5).prune(dense)
    left = resrep_keras.count_macs(slim)
    assert 0.4 * all_of_them < left <= 0.5 * all_of_them


def test_what_a_kernel_of_ones_own_multiplies_falls_with_the_kernel():
    x = inputs = keras.Input((8, 16))
    x = layers.Dense(12, activation="relu", name="first")(x)
    x = Known(10, name="own")(x)
    graph = resrep_keras.trace(keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x))))
    kept = helpers.random_keep(graph, [g for g in graph.groups if g.reason is None], 0)
    assert all(not kept[group.channels].all() for group in graph.groups[:2])
    slim = remove(graph, kept)
    assert MacCost(graph)(kept) == resrep_keras.count_macs(slim)
    assert ParamCost(graph)(kept) == resrep_keras.count_params(slim)


def unknown_model():
    x = inputs = keras.Input((8, 16))
    x = layers.Dense(20, activation="relu")(x)
    x = layers.Dense(12, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(3)(Repeated(6, name="repeated")(x)))


KNOWN_PART = 8 * 16 * 20 + 8 * 20 * 12 + 8 * 12 * 6 + 8 * 6 * 3
NAMED = "'repeated': in its call, .*functions of WhileLoop run is a matter of the data"


def test_what_is_not_known_is_named_and_the_rest_counted():
    dense = unknown_model()
    with pytest.warns(UserWarning, match=NAMED):
        assert resrep_keras.count_macs(dense) == KNOWN_PART
    cost = MacCost(resrep_keras.trace(dense))
    assert list(cost.unknown) == ["repeated"]


def test_wrap_and_prune_warn_once_with_the_names():
    dense = unknown_model()
    with pytest.warns(UserWarning, match=NAMED) as caught:
        resrep_keras.wrap(dense)
    assert sum("MACs" in str(warning.message) for warning in caught) == 1
    with pytest.warns(UserWarning, match=NAMED) as caught:
        resrep_keras.MagnitudePruning(0.1).prune(dense)
    assert sum("MACs" in str(warning.message) for warning in caught) == 1


def test_explain_and_report_say_unknown():
    dense = unknown_model()
    explanation = resrep_keras.explain(dense)
    said = " ".join(str(explanation).split())
    assert "Unknown: The MACs of these layers are not known and not counted: 'repeated'" in said
    assert f"All others: One forward pass takes {KNOWN_PART:,} MACs" in said
    assert "'repeated'" in json.loads(explanation.to_json())["totals"]["macs_unknown"]


@pytest.mark.tensorflow_only
def test_report_says_unknown():
    dense = unknown_model()
    report = resrep_keras.report(dense, dense, repeats=1)
    row = report.row("MACs")
    assert row.dense is None and row.slim is None and "'repeated'" in row.note
    line = next(line for line in str(report).splitlines() if line.startswith("MACs "))
    assert line.split()[1:3] == ["unknown", "unknown"]
    assert "MACs are unknown: The MACs of these layers" in str(report)


def test_a_call_that_only_runs_on_arrays_is_unknown_with_its_error():
    inputs = keras.Input((8, 16))
    model = keras.Model(inputs, layers.Dense(3)(OnArrays(7, name="arrays")(inputs)))
    with pytest.warns(UserWarning, match="'arrays': the call of OnArrays does not run on symbolic"):
        assert resrep_keras.count_macs(model) == 8 * 7 * 3


def test_sizes_that_a_call_hides_are_unknown_and_stop_nothing():
    class Hidden(Mixing):
        def call(self, x):
            return ops.matmul(layers.Reshape((-1, 16))(ops.cast(x, "float32"))[:, :4], self.kernel)

    class Lost(layers.Layer):
        def call(self, x):
            return x

        def compute_output_spec(self, x):
            return keras.KerasTensor((None, None, 16))

    class Outer(Mixing):
        def call(self, x):
            return ops.matmul(Lost()(x), self.kernel)

    class Rows(keras.Operation):
        """How many rows there are is a matter of the data."""

        def call(self, x):
            return x[:, : int(x[0, 0, 0])]

        def compute_output_spec(self, x):
            return keras.KerasTensor((x.shape[0], None, x.shape[2]))

    class Chosen(Mixing):
        def call(self, x):
            return ops.matmul(Rows()(x), self.kernel)

    assert counted(Hidden(7)) == 4 * 16 * 7
    assert counted(Outer(7)) == 8 * 16 * 7  # what it says of its shape is not what it does
    with pytest.warns(UserWarning, match="in its call: The cost of layer 'matmul"):
        assert counted(Chosen(7, name="chosen")) == 0


def test_activation_memory_of_unknown_time_is_unknown():
    from resrep_keras.costs.activations import ActivationCost
    from resrep_keras.costs.terms import UnknownSize

    inputs = keras.Input((None, 4))
    graph = resrep_keras.trace(keras.Model(inputs, layers.TimeDistributed(layers.Dense(3))(inputs)))
    with pytest.raises(UnknownSize, match="depends on its shape"):
        ActivationCost(graph)
