"""No method, cache or search keeps a model alive that nobody else holds."""

import gc
import warnings
import weakref

import keras
import pytest

import resrep_keras
from tests import zoo
from tests.conditions import training
from tests.methods.table import ROWS
from tests.sampling import sample


def freed(*models):
    """Weak references to models and their layers, once nobody else holds these."""
    return [weakref.ref(each) for model in models for each in (model, *model.layers)]


def alive(references):
    keras.utils.clear_session()
    gc.collect()
    return [reference() for reference in references if reference() is not None]


@pytest.mark.parametrize("row", sample(ROWS, every=4), ids=lambda row: row.name)
def test_models_of_every_method_are_freed(row):
    def run():
        dense = zoo.build("residual")
        wrapped = resrep_keras.wrap(dense, row.trained())
        wrapped.compile(keras.optimizers.SGD(0.01), training.loss())
        training.fit(wrapped, epochs=8)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # whether the target is met
            slim = resrep_keras.finalize(wrapped)
        return freed(dense, wrapped, slim)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "AOFP's moves")
        references = run()
    assert alive(references) == []


def test_what_is_traced_explained_and_refused_is_freed():
    def run():
        model = zoo.build("operations")
        resrep_keras.trace(model)
        resrep_keras.explain(model)
        resrep_keras.count_macs(model)
        with pytest.raises(ValueError, match="target"):
            resrep_keras.wrap(model, resrep_keras.ResRep(0.999))
        return freed(model)

    assert alive(run()) == []


def test_a_function_that_was_tried_is_freed():
    def run():
        def function(x):
            return 2.0 * x

        inputs = keras.Input((4,))
        x = keras.layers.Dense(8)(inputs)
        model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Activation(function)(x)))
        resrep_keras.trace(model)
        return [weakref.ref(function), *freed(model)]

    assert alive(run()) == []
