"""An explanation in words."""

import json

import keras
from keras import layers

from resrep_keras.explanation.explain import explain
from resrep_keras.explanation.words import WIDTH


def test_long_names_and_notes_stay_on_one_line():
    inputs = x = keras.Input((4,))
    for number in range(9):
        y = layers.Dense(4, name=f"a_layer_whose_name_is_longer_than_any_column_{number}")(x)
        x = y if number == 0 else layers.Add()([x, y])
    explanation = explain(keras.Model(inputs, layers.Dense(2)(x)))
    table = str(explanation).split("\n\n")[0].splitlines()
    assert len(table) == 1 + 10
    assert max(map(len, table)) <= WIDTH
    assert table[1].startswith("a_layer_whose_name_..._than_any_column_0  ")  # the number is seen
    assert len(json.loads(explanation.to_json())["rows"][0]["partners"]) == 8
