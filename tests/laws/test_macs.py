"""Law: the MACs are the products of the graph that TensorFlow runs, or an exception says why."""

import keras
import pytest

import resrep_keras
from tests import awkward, paths, zoo

products = paths.benchmarks("products").products

pytestmark = pytest.mark.tensorflow_only

DILATED = "TensorFlow pads the blocks into which it cuts the inputs of a dilated convolution."
SCALES = "Keras multiplies the scales of an AdditiveAttention entry by entry, before it sums."
OF_WEIGHTS = "Products of weights alone are the same for all examples: they count nothing."
INTEGERS = "Products of integers are other operations of TensorFlow's."
FOR_THE_LOSS = "The penalty of a SelfAttentionPooling compares its heads, for the loss alone."
# Members whose graph has other products than are counted: why, and how many more.
EXCEPTIONS = {
    # 4 x 4 positions for 3 x 3, of a kernel with 3 taps, 8 inputs and 5 filters.
    "chain": (DILATED, (4 * 4 - 3 * 3) * 3 * 8 * 5),
    # 5 queries, 5 keys, 7 channels.
    "attention": (SCALES, -5 * 5 * 7),
    "dot_and_attention": (SCALES, -8 * 8 * 7),
    # 2 heads, 2 heads, 6 positions.
    "attention_pooling": (FOR_THE_LOSS, 2 * 2 * 6),
    "lora": (OF_WEIGHTS, 6 * 2 * 9),
    "quantized": (INTEGERS, -6 * 9),
}
# Members that this law cannot ask.
SILENT = {
    "text_vectorization": "how many words a text has is not known to the graph",
    "sparse_input": "its inputs are no arrays",
    "several_inputs_of_unknown_size": "their sizes are unknown",
    "unknown_length": "its size is unknown",
    "state_of_a_recurrent_layer": "it runs at one batch size only, which is not 1",
    "subclassed_with_dropout": "its call is not written out as a graph",
}


def check(name, model, inputs=None):
    more = EXCEPTIONS.get(name, ("", 0))[1]
    assert products(model, inputs) == resrep_keras.count_macs(model) + more


LARGE = ("InceptionResNetV2", "NASNetMobile")


@pytest.mark.parametrize("name", zoo.ZOO)
def test_of_the_zoo(name):
    check(name, zoo.build(name))


@pytest.mark.parametrize("name", [name for name in awkward.AWKWARD if name not in SILENT])
def test_of_awkward_models(name):
    model = awkward.build(name)
    one = keras.tree.map_structure(lambda value: value[:1], awkward.inputs_of(name, model))
    check(name, model, one)


def _application(name):
    size = families().SIZES.get(name, families().DEFAULT_SIZE)
    builder = getattr(keras.applications, name)
    return builder(weights=None, input_shape=(size, size, 3), classes=10)


def families():
    return paths.benchmarks("families")


@pytest.mark.parametrize(
    "name",
    [
        # Their blocks are those of InceptionV3, ResNet50 and Xception; 6 s each.
        pytest.param(n, marks=pytest.mark.slow if n in LARGE else ())
        for n in families().SMALLEST
    ],
)
def test_of_the_smallest_application_of_each_family(name):
    check(name, _application(name))


@pytest.mark.slow
@pytest.mark.parametrize("name", [x for x in families().ALL if x not in families().SMALLEST])
def test_of_the_other_applications(name):
    check(name, _application(name))


def test_no_exception_outlives_its_reason():
    assert EXCEPTIONS.keys() | SILENT.keys() <= zoo.ZOO.keys() | awkward.AWKWARD.keys()
