"""A sequence of tasks: what is trained when, what comes back, and what goes on after a kill."""

import json

import keras
import numpy as np
import pytest
from keras import layers, ops

import resrep_keras
from resrep_keras.workflow.tasks import Seed, TasksResult, accuracy, fit_tasks

NAN = np.nan
RESULT = TasksResult(
    np.array([[0.8, NAN, NAN], [0.9, 0.7, NAN]]), np.array([0.5, 0.4]), ({"loss": [1.0, 0.5]}, {})
)


def tasks_of(number=3, size=24):
    generator = np.random.default_rng(0)
    for _ in range(number):
        x = generator.normal(size=(size, 6)).astype("float32")
        yield x, (x @ generator.normal(size=(6, 3))).argmax(-1)


TASKS = list(tasks_of())


def wrapped(method=None, rate=0.1, number=3):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = layers.Dense(5, activation="relu")(inputs)
    heads = {
        f"task_{task}": layers.Dense(3, activation="softmax", name=f"task_{task}")(x)
        for task in range(number)
    }
    model = resrep_keras.wrap(keras.Model(inputs, heads), method or resrep_keras.EWC(1.0))
    model.compile(keras.optimizers.SGD(rate), "sparse_categorical_crossentropy")
    return model


def weights_of(model):
    return [ops.convert_to_numpy(weight) for weight in model.weights]


# --- the result -----------------------------------------------------------------------------------


def test_a_result_tells_its_numbers():
    assert RESULT.average_accuracy == pytest.approx((0.9 + 0.7) / 2)
    assert RESULT.forgetting == pytest.approx(0.8 - 0.9)
    assert RESULT.learning_accuracy == pytest.approx((0.8 + 0.7) / 2)
    over = RESULT.over_tasks()
    np.testing.assert_allclose(over["average_accuracy"], [0.8, 0.8])
    np.testing.assert_allclose(over["forgetting"], [0, -0.1])
    np.testing.assert_allclose(over["learning_accuracy"], [0.8, 0.75])
    assert "task 1    80.00     -10.00    75.00  40.00" in str(RESULT)


def test_a_result_is_told_as_json_and_read_again(tmp_path):
    text = RESULT.to_json(tmp_path / "result.json")
    assert json.loads((tmp_path / "result.json").read_text())["accuracies"] == [[0.8], [0.9, 0.7]]
    again = TasksResult.from_json(text)
    np.testing.assert_array_equal(again.accuracies, RESULT.accuracies)
    np.testing.assert_array_equal(again.free_capacity, RESULT.free_capacity)
    assert again.histories == RESULT.histories
    assert again.to_json() == text


# --- the run --------------------------------------------------------------------------------------


def test_it_is_the_loop_that_one_would_write():
    by_hand, model = wrapped(), wrapped()
    accuracies = np.full((3, 3), NAN)
    for task, (x, y) in enumerate(TASKS):
        seed = Seed(7 + task)
        seed.on_train_begin()
        by_hand.fit(x, y, batch_size=8, epochs=2, callbacks=[seed], verbose=0)
        resrep_keras.end_task(by_hand, x, y)
        for learned in range(task + 1):
            x, y = TASKS[learned]
            outputs = resrep_keras.task_model(by_hand, learned).predict(x, verbose=0)
            accuracies[task, learned] = (outputs.argmax(-1) == y).mean()
    result = fit_tasks(model, TASKS, 2, batch_size=8, seed=7, restart="never", verbose=0)
    np.testing.assert_array_equal(result.accuracies, accuracies)
    for weight, expected in zip(weights_of(model), weights_of(by_hand)):
        np.testing.assert_array_equal(weight, expected)
    assert [len(history["loss"]) for history in result.histories] == [2, 2, 2]
    assert result.free_capacity.shape == (3,)


class Rates(keras.callbacks.Callback):
    """Notes the learning rate that each epoch begins with."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(round(float(ops.convert_to_numpy(self.model.optimizer.learning_rate)), 6))


@pytest.mark.parametrize(
    ("restart", "rates"),
    [
        ("task", [0.8, 0.4, 0.8, 0.4, 0.2, 0.8]),
        ("fit", [0.8, 0.4, 0.8, 0.4, 0.2, 0.8]),
        ("never", [0.8, 0.4, 0.2, 0.1, 0.05, 0.025]),
    ],
)
def test_the_schedule_begins_anew(restart, rates):
    halved = keras.optimizers.schedules.ExponentialDecay(0.8, 3, 0.5, staircase=True)
    model, noted = wrapped(rate=halved), Rates()
    epochs = [2, 3, 1]
    fit_tasks(
        model,
        TASKS,
        epochs.__getitem__,
        batch_size=8,
        restart=restart,
        callbacks=[noted],
        verbose=0,
    )
    assert noted.seen == rates


def test_callbacks_of_each_task_and_a_score_of_ones_own():
    class Asked(list):
        def __getitem__(self, task):
            asked.append(task)
            return super().__getitem__(task)

    asked, noted, scored = [], {task: Rates() for task in range(3)}, []

    def score(view, x, y):
        scored.append((view.output_shape, len(y)))
        return len(scored)

    result = fit_tasks(
        wrapped(),
        Asked(TASKS),
        1,
        list(tasks_of(size=4)),
        score=score,
        callbacks=lambda task: [noted[task]],
        verbose=0,
    )
    assert asked == [0, 1, 2]  # each when it begins, and once
    assert [len(each.seen) for each in noted.values()] == [1, 1, 1]
    assert scored == 6 * [((None, 3), 4)]
    np.testing.assert_array_equal(result.accuracies, [[1, NAN, NAN], [2, 3, NAN], [4, 5, 6]])


class Killed(Exception):
    """The run ends here."""


class KillsIn(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


METHODS = {
    "si": lambda: resrep_keras.SynapticIntelligence(1.0),
    "anpyc": lambda: resrep_keras.ANPyC(1.0, percent_step=50, retrain_epochs=1),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_killed_run_goes_on_as_if_it_were_not(name, tmp_path):
    def run(model, folder=None, kills=()):
        return fit_tasks(
            model, TASKS[:2], 2, batch_size=12, seed=3, callbacks=kills, folder=folder, verbose=0
        )

    def new():
        return wrapped(METHODS[name](), number=2)

    whole, folder = new(), tmp_path / "kept"
    expected = run(whole)
    with pytest.raises(Killed):
        run(new(), folder, kills=lambda task: [KillsIn(1)] if task == 1 else [])
    assert [path.name for path in folder.iterdir()] == ["task-0"]
    model = new()
    result = run(model, folder)
    np.testing.assert_array_equal(result.accuracies, expected.accuracies)
    np.testing.assert_array_equal(result.free_capacity, expected.free_capacity)
    assert result.histories == expected.histories
    for weight, other in zip(weights_of(model), weights_of(whole)):
        np.testing.assert_array_equal(weight, other)
    again = run(new(), folder)  # nothing is left to do
    np.testing.assert_array_equal(again.accuracies, expected.accuracies)


# --- arguments ------------------------------------------------------------------------------------


class NoLength(list):
    """Tasks that do not know how many they are."""

    def __len__(self):
        raise OSError("the disk is gone")


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"tasks": NoLength()}, TypeError, "its __len__ raised OSError: the disk is gone"),
        ({"tasks": []}, ValueError, "same length, 1 or more; got 0 and 0"),
        ({"test_tasks": TASKS[:1]}, ValueError, "same length, 1 or more; got 3 and 1"),
        ({"tasks": iter(TASKS)}, TypeError, r"tasks to be a sequence of \(x, y\)"),
        ({"epochs": 0}, ValueError, "epochs to be an int of 1 or more; got 0"),
        ({"epochs": lambda task: task}, ValueError, "epochs to be an int of 1 or more; got 0"),
        ({"epochs": lambda task: 1 // task}, ValueError, "from 0 on; .* raised ZeroDivisionError"),
        ({"batch_size": 0}, ValueError, "batch_size to be an int of 1 or more"),
        ({"restart": "always"}, ValueError, "restart to be 'task', 'fit' or 'never'"),
        ({"seed": -1}, ValueError, "seed to be an int of 0 or more"),
        ({"callbacks": Rates()}, TypeError, "callbacks to be a list of callbacks"),
        ({"score": "accuracy"}, TypeError, "score to be a function"),
    ],
)
def test_bad_arguments(arguments, error, text):
    given = {"tasks": TASKS, "epochs": 1, **arguments}
    with pytest.raises(error, match=text):
        fit_tasks(wrapped(), **given)


def test_accuracy_of_ints_and_of_one_hot_labels():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, layers.Identity()(inputs))
    x = np.array([[1, 0, 0], [0, 2, 0], [0, 0, 3], [4, 0, 0]], "float32")
    assert accuracy(model, x, np.array([0, 1, 1, 0])) == 3 / 4
    assert accuracy(model, x, np.array([[0], [1], [1], [0]])) == 3 / 4
    assert accuracy(model, x, np.eye(3)[[0, 1, 1, 0]]) == 3 / 4
    with pytest.raises(ValueError, match=r"outputs of shape \(4, 3\) and labels of shape \(4, 2\)"):
        accuracy(model, x, np.zeros((4, 2)))
