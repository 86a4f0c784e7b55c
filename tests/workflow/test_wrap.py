"""wrap as a user meets it: what stays compiled, what is left out, what is refused."""

import keras
import pytest
from keras import layers

import resrep_keras
from resrep_keras import ResRep
from tests import zoo
from tests.conditions.training import data, loss

pytestmark = pytest.mark.tensorflow_only


def test_a_compiled_dense_model_stays_compiled():
    dense = zoo.build("residual")
    rate = keras.optimizers.schedules.CosineDecay(0.03, 40)
    dense.compile(
        keras.optimizers.SGD(rate, momentum=0.7, clipnorm=1.0), loss(), metrics=["accuracy"]
    )
    model = resrep_keras.wrap(dense)
    inner = model.optimizer.inner_optimizer
    assert str(inner.get_config()) == str(dense.optimizer.get_config())
    x, y = data()
    history = model.fit(x, y, batch_size=16, epochs=5, verbose=0)
    assert "accuracy" in history.history
    resrep_keras.finalize(model, strict=True)


def test_a_loss_function_of_ones_own_stays_compiled():
    def my_loss(true, predicted):
        return keras.losses.sparse_categorical_crossentropy(true, predicted, from_logits=True)

    dense = zoo.build("residual")
    dense.compile("adam", my_loss)
    assert resrep_keras.wrap(dense).compiled


def test_excluded_layers_get_no_compactor():
    dense = zoo.build("chain")
    names = [layer.name for layer in dense.layers if isinstance(layer, layers.Conv2D)]
    model = resrep_keras.wrap(dense, ResRep(0.2, exclude=names[1:2]))
    assert f"{names[1]}_compactor" not in {layer.name for layer in model.layers}


BAD = [
    (
        lambda: resrep_keras.wrap("model"),
        TypeError,
        r"Expected model to be a built keras\.Model; got",
    ),
    (
        lambda: resrep_keras.wrap(keras.Sequential([layers.Conv2D(4, 3)])),
        ValueError,
        "Start it with keras.Input",
    ),
    (
        lambda: resrep_keras.wrap(keras.Sequential([keras.Input((3,)), layers.Dense(2)])),
        ValueError,
        "no channels that can be pruned",
    ),
    (
        lambda: resrep_keras.wrap(keras.Sequential([keras.Input((3,)), layers.ReLU()])),
        ValueError,
        "no channels that can be pruned.*no such layer",
    ),
    (lambda: resrep_keras.wrap(zoo.build("vgg"), 0.5), TypeError, "pruning method such as"),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg"), ResRep(0.999)),
        ValueError,
        r"target.*cannot be reached.*largest target_reduction is 0\.\d+",
    ),
    (
        lambda: resrep_keras.wrap(zoo.build("vgg"), ResRep(exclude=("nope",))),
        ValueError,
        "got 'nope'",
    ),
    (
        lambda: resrep_keras.wrap(resrep_keras.wrap(zoo.build("vgg"))),
        ValueError,
        "is wrapped already",
    ),
]


@pytest.mark.parametrize(("act", "error", "text"), BAD, ids=range(len(BAD)))
def test_bad_input_is_answered_in_words(act, error, text):
    with pytest.raises(error, match=text):
        act()
