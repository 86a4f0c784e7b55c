"""explain(model): which channels can be pruned, which cannot, and why."""

import dataclasses
import json

import keras

from resrep_keras.common.checks import check_path
from resrep_keras.common.files import write_text
from resrep_keras.common.types import InputShape
from resrep_keras.explanation.picture import draw
from resrep_keras.explanation.rows import layer_rows, pin_rows
from resrep_keras.explanation.totals import Totals, totals_of
from resrep_keras.explanation.words import in_words
from resrep_keras.graph.opened import may_be_opened
from resrep_keras.graph.trace import told_at_its_sizes, trace


@dataclasses.dataclass(frozen=True)
class Explanation:
    """What `explain` has found out; `print` it, or see `to_json` and `to_svg`.

    Args:
        rows: A `LayerRow` for each layer that makes channels: how many of them may go, with which
            others, or what keeps them.
        pins: A `PinRow` for each place that pins channels.
        totals: The `Totals`: counts over all rows, and how far costs can fall.
        graph: The `ChannelGraph`.
    """

    rows: tuple
    pins: tuple
    totals: Totals
    graph: object = dataclasses.field(repr=False, compare=False)

    def __str__(self):
        return in_words(self.rows, self.pins, self.totals)

    def to_json(self, path=None):
        """Return the explanation as a JSON text, and write it to `path` where given.

        Args:
            path: File to write; what stands there is replaced. Defaults to none.

        Returns:
            A JSON text with `rows`, `pins` and `totals`.

        Raises:
            OSError: The file cannot be written.

        Example:

        >>> rows = json.loads(resrep_keras.explain(model).to_json())["rows"]
        """
        parts = {
            "rows": [row.to_dict() for row in self.rows],
            "pins": [pin.to_dict() for pin in self.pins],
            "totals": self.totals.to_dict(),
        }
        return _written(json.dumps(parts, indent=1), path)

    def to_svg(self, path=None):
        """Return a picture of the model's calls and channel groups, and write it to `path`.

        Args:
            path: File to write; what stands there is replaced. Defaults to none.

        Returns:
            The text of an SVG file; see `resrep_keras.explanation.picture.draw`.

        Raises:
            OSError: The file cannot be written.

        Example:

        >>> resrep_keras.explain(model).to_svg("model.svg")
        """
        return _written(draw(self.graph), path)


def explain(model: keras.Model, input_shape: InputShape = None, exact: bool = True) -> Explanation:
    """Say for each layer whether its channels can be pruned, and if not, which node keeps them.

    Use it before training: it runs no data, changes nothing, and says how much can be removed.

    Args:
        model: A built `keras.Model`; see `trace`.
        input_shape: Shape without the batch axis, for a model with unknown sizes. Defaults to the
            model's own.
        exact: Whether to pin channels whose removal changes outputs, because something is computed
            over all channels together (layer normalisation). Defaults to `True`.

    Returns:
        An `Explanation`: a table to print, a JSON text and a picture.

    Raises:
        TypeError: Not a Keras model.
        ValueError: A model without a graph (never built, or of a subclass that only runs on
            arrays).

    Example:

    >>> explanation = resrep_keras.explain(keras.applications.ResNet50(weights=None))
    >>> print(explanation)
    >>> explanation.totals.largest_target_reduction["coupled=True"]
    """
    graph = trace(model, input_shape, exact, spare_frozen=True)
    if not may_be_opened(model, input_shape):
        graph = told_at_its_sizes(graph, exact)
    rows = layer_rows(graph)
    return Explanation(rows, pin_rows(graph, rows), totals_of(graph, rows), graph)


def _written(text, path):
    """Return `text`, and write it to `path` where given."""
    if path is not None:
        write_text(check_path("path", path), text)
    return text
