"""Training methods of one's own: which there are, and what their model is made of."""

import keras
import pytest

from resrep_keras.training.own_methods import (
    compile_objects,
    find_class,
    own_hooks,
    settings_of,
    warn_of_lost,
)


class Plain(keras.Model):
    pass


class Own(keras.Model):
    def __init__(self, *args, factor=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.factor = factor

    @property
    def metrics(self):
        return super().metrics

    def train_step(self, *args):
        return super().train_step(*args)

    def get_config(self):
        return {**super().get_config(), "factor": self.factor}


class Unknown(Own):
    def get_config(self):
        config = super().get_config()
        del config["factor"]
        return config


class Named(keras.Model):
    def __init__(self, width):
        x = keras.Input((2,))
        super().__init__(x, keras.layers.Dense(width)(x))


def built(kind, **settings):
    x = keras.Input((2,))
    return kind(x, keras.layers.Dense(1)(x), **settings)


def test_own_hooks_are_those_that_are_overridden():
    assert own_hooks(keras.Model) == own_hooks(Plain) == []
    assert own_hooks(Own) == ["metrics", "train_step"]


def test_settings_are_read_from_the_configuration():
    assert settings_of(built(Plain)) == {}
    assert settings_of(built(Own, factor=0.5)) == {"factor": 0.5}


@pytest.mark.parametrize("make", [lambda: built(Unknown), lambda: Named(1)])
def test_what_a_model_was_made_with_may_not_be_known(make):
    assert settings_of(make()) is None


def test_classes_are_found_by_their_names():
    assert find_class("mine>Own", {"mine>Own": Own}) is Own
    with pytest.raises(TypeError, match="class 'mine>Own', which is not known here"):
        find_class("mine>Own")


def test_lost_methods_are_named():
    with pytest.warns(UserWarning, match="is a Own, whose own train_step the wrapped model cannot"):
        warn_of_lost(built(Own), ["train_step"])


def test_functions_and_classes_of_ones_own_that_a_model_is_compiled_with():
    def near(y_true, y_pred):
        return y_pred

    class Near(keras.metrics.Mean):
        pass

    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", loss=[near], metrics=["mae", Near(), keras.metrics.AUC()])
    assert compile_objects(model) == {"near": near, "Near": Near}
