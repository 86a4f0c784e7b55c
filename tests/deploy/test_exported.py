"""What `export` returns: a number, its parts, and sentences."""

import copy
import json
import pathlib
import pickle

from resrep_keras.deploy.exported import Exported, bytes_of


def made(**settings):
    path = pathlib.Path("slim.tflite")
    return Exported(
        0.0123, path=path, format="TFLite file", bytes=1_234, compared="data", **settings
    )


def test_it_is_its_difference_as_a_number():
    found = made()
    assert found == 0.0123 and found < 0.02 and f"{found:.0e}" == "1e-02"
    assert found.difference == 0.0123 and json.dumps(found) == "0.0123"


def test_it_prints_as_sentences():
    assert str(made()) == (
        "slim.tflite: TFLite file, 1,234 bytes.\n"
        "Its outputs differ from the model's by at most 1.2e-02 of the largest value, on data."
    )
    text = str(
        made(
            quality={"accuracy": (0.91512, 0.9), "loss": (2.0, 3.0)},
            seconds=0.000411,
            batch_size=1,
            threads=1,
            float32_bytes=4_936,
            inner_floats=("a", "b", "c", "d"),
        )
    )
    assert "1,234 bytes, 25 % of the float32 file." in text
    assert "On test_data: accuracy 0.9 (model 0.9151), loss 3 (model 2)." in text
    assert "0.411 ms for 1 example, on one thread." in text
    assert "Computed in float32 still: 4 (a, b, c, ...)." in text
    several = str(made(seconds=0.5, batch_size=4))
    assert "500 ms for 4 examples." in several


def test_no_difference_is_told_as_such():
    path = pathlib.Path("m.keras")
    found = Exported(0.0, path=path, format="Keras file", bytes=1, compared="random inputs")
    assert "Its outputs are those of the model, on random inputs." in str(found)


def test_it_can_be_copied_and_pickled():
    found = made(quality={"loss": (1.0, 2.0)})
    for other in (copy.copy(found), pickle.loads(pickle.dumps(found))):
        assert other == found and str(other) == str(found) and repr(other) == repr(found)


def test_bytes_of_a_folder_are_those_of_its_files(tmp_path):
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "b").write_bytes(b"45")
    assert bytes_of(tmp_path) == 3 + 2 and bytes_of(tmp_path / "a") == 3
