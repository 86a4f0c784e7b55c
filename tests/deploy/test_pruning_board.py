"""A pruning run in TensorBoard: what is written is read back."""

import sys

import keras
import numpy as np
import pytest

import resrep_keras
from resrep_keras.methods.pruning_log import log_of
from tests import helpers, zoo

reader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def wrapped(method=None):
    model = resrep_keras.wrap(zoo.build("chain"), method or resrep_keras.ResRep(0.4))
    model.compile("sgd", "mse", metrics=["mae"])
    return model


def fit(model, board, epochs=6, **settings):
    x = helpers.example_inputs(model, 16)
    y = np.zeros((16, *model.output_shape[1:]), "float32")
    settings = {"batch_size": 4, "verbose": 0, "callbacks": [board], **settings}
    model.fit(x, y, epochs=epochs, **settings)


def written(folder):
    """What TensorBoard finds in a folder."""
    found = reader.EventAccumulator(
        str(folder / "pruning"), size_guidance={reader.TENSORS: 0, reader.IMAGES: 0}
    )
    found.Reload()
    return found


def curve(found, tag):
    """`(steps, values)` of a scalar."""
    import tensorflow as tf

    return [(e.step, tf.make_ndarray(e.tensor_proto).item()) for e in found.Tensors(tag)]


def test_scalars_are_those_of_the_log(tmp_path):
    model = wrapped()
    fit(model, resrep_keras.PruningBoard(tmp_path))
    found, log = written(tmp_path), log_of(model)
    told = curve(found, "pruning/macs_left")
    assert told == [
        (entry.step, pytest.approx(entry.values["macs_left"], rel=1e-6)) for entry in log.entries
    ]
    assert told[0] == (0, 1.0) and told[-1][1] <= 0.6
    remember = curve(found, "channels/remember")
    assert remember == [(entry.step, entry.norms.num_kept) for entry in log.entries]
    last = log.entries[-1].norms
    assert curve(found, "norms/remember, median")[-1][1] == pytest.approx(last.kept[2], rel=1e-5)
    assert curve(found, "norms/forget, largest")[-1][1] == 0
    total = curve(found, "norms/sum, which the penalty presses")
    assert total[0][1] == remember[0][1]  # each is 1 at the start
    assert total[-1][1] == pytest.approx(last.total, rel=1e-5)
    assert "pruning/loss" not in found.Tags()["tensors"]  # that of Keras's own callback


def test_histograms_of_each_compactor_and_two_figures(tmp_path):
    import tensorflow as tf

    model = wrapped()
    fit(model, resrep_keras.PruningBoard(tmp_path), epochs=5)
    found = written(tmp_path)
    compactors = [x for x in model.layers if isinstance(x, resrep_keras.Compactor)]
    assert len(compactors) >= 3
    for layer in compactors:
        events = found.Tensors(f"norms/{layer.name}")
        assert [event.step for event in events] == [0, 1, 2, 3, 4]
        buckets = tf.make_ndarray(events[-1].tensor_proto)  # left, right, count
        assert buckets[:, 2].sum() == layer.kernel.shape[-1]
    for name in ("channels that remember and forget", "quality and cost"):
        (event,) = found.Tensors(name)
        width, height, picture = tf.make_ndarray(event.tensor_proto)
        assert int(width) >= 800 and int(height) >= 400 and picture.startswith(b"\x89PNG")


def test_nothing_is_written_twice_where_a_run_goes_on(tmp_path):
    model = wrapped(resrep_keras.ResRep(0.4, total_steps=24))
    board = resrep_keras.PruningBoard(tmp_path, histograms=False, figures=False)
    fit(model, board, epochs=3)
    fit(model, board, epochs=6, initial_epoch=3)
    told = curve(written(tmp_path), "channels/remember")
    noted = [(e.step, e.norms.num_kept) for e in log_of(model).entries]
    assert len(told) == len(noted) and set(told) == set(noted)
    assert sorted(step for step, _ in told) == [step for step, _ in noted]
    tags = written(tmp_path).Tags()["tensors"]
    assert not [t for t in tags if "compactor" in t or t.startswith(("quality", "channels that"))]


def test_methods_without_compactors_have_their_own_logs(tmp_path):
    model = wrapped(resrep_keras.GraNet(0.5))
    fit(model, resrep_keras.PruningBoard(tmp_path), epochs=2)
    found = written(tmp_path)
    assert len(curve(found, "pruning/sparsity")) == 2
    assert found.Tags()["tensors"].count("quality and cost") == 1


def test_in_a_loop_of_ones_own(tmp_path):
    model = wrapped()
    board = resrep_keras.PruningBoard(tmp_path, figures=False)
    pruning = resrep_keras.PruningCallback()
    callbacks = keras.callbacks.CallbackList([pruning, board], model=model, epochs=4, steps=2)
    callbacks.on_train_begin()
    for epoch in range(4):
        callbacks.on_epoch_begin(epoch)
        for batch in range(2):
            callbacks.on_train_batch_end(batch)
        callbacks.on_epoch_end(epoch)
    callbacks.on_train_end()
    told = curve(written(tmp_path), "channels/remember")
    assert told == [(e.step, e.norms.num_kept) for e in log_of(model).entries]


def test_it_stands_beside_the_callback_of_keras(tmp_path):
    model = wrapped()
    boards = [keras.callbacks.TensorBoard(tmp_path), resrep_keras.PruningBoard(tmp_path)]
    fit(model, None, callbacks=boards, epochs=5)
    assert {path.name for path in tmp_path.iterdir()} >= {"train", "pruning"}


def test_what_cannot_work_is_told_before_the_first_step(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="holds no pruning method"):
        resrep_keras.PruningBoard(tmp_path).set_model(zoo.build("chain"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="Expected a folder to write in"):
        fit(wrapped(), resrep_keras.PruningBoard(tmp_path / "file"), epochs=5)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'"resrep-keras\[reports\]", or give figures=False'):
        resrep_keras.PruningBoard(tmp_path)
    assert resrep_keras.PruningBoard(tmp_path, figures=False).figures is False
