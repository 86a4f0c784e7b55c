"""What a file answers, in batches of its size."""

import numpy as np

from resrep_keras.deploy.reading import answer_all, apart, in_batches, outputs_of


class Doubling:
    """A file that takes three examples."""

    def set_inputs(self, inputs):
        assert len(inputs) == 3
        self.values = inputs

    def invoke(self):
        self.values = 2 * self.values

    def outputs(self):
        return [self.values, self.values[:, 0]]


def test_answers_come_without_what_filled_up_the_last_batch():
    inputs = np.arange(10.0).reshape(5, 2)
    doubled, column = answer_all(Doubling(), inputs, 3)
    np.testing.assert_array_equal(doubled, 2 * inputs)
    np.testing.assert_array_equal(column, 2 * inputs[:, 0])


def test_a_function_is_asked_batch_by_batch():
    assert in_batches(lambda part: [part.sum()], np.ones((4, 2)), 2) == [[4.0], [4.0]]


def test_outputs_of_a_model_come_flat():
    assert [x.tolist() for x in outputs_of(lambda x, training: {"b": x, "a": [x + 1]}, 1.0)] == [
        2.0,
        1.0,
    ]


def test_the_largest_difference_over_all_batches():
    expected = [[np.array([1.0, 4.0]), np.array([[8.0]])], [np.array([2.0]), np.array([[8.0]])]]
    found = [[np.array([1.0, 4.0]), np.array([[8.0]])], [np.array([1.0]), np.array([[8.0]])]]
    assert apart(expected, expected).relative == 0
    assert apart(expected, found).relative == (2 - 1) / 4
    other = [[np.array([[1.0, 4.0]]), np.array([[8.0]])], found[1]]
    assert apart(expected, other).relative == float("inf")  # of another shape
