"""repair: layers that have lost inputs are fitted anew to what they made before."""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.flow import rule_of
from resrep_keras.graph.other_weights import other_weights
from resrep_keras.graph.recording import symbolic_tensors
from resrep_keras.graph.sharing import sharing, variables_read
from resrep_keras.keras_adapter import is_frozen, is_layer, weights_of_operation
from resrep_keras.surgery.examples import batch_size
from resrep_keras.surgery.forward import play
from resrep_keras.surgery.linear import linear_of
from resrep_keras.surgery.statistics import takes_statistics

RIDGE = 1e-3  # of the mean of the diagonal
ROWS_PER_INPUT = 10  # of a layer, at most
FEW_ROWS = 2**14  # which are read in any case, as far as there are so many
FEW_EXAMPLES = 256  # from which they are drawn in any case
AT_ONCE = 2**23  # numbers of rows that are made at a time
PASSES = 20  # over the examples, about


def repair(graph, kept, before, after, examples):
    """Fit the layers of a model that has lost channels to what they made before.

    With the rows `X` that a layer reads in the narrow model, in which all layers in front of it are
    repaired already, and `Y` what it made in the whole one, for the outputs that are left:

    ```
    matrix += (X'X + ridge * I)^-1 X' (Y - X matrix)
    ```

    `ridge` is a thousandth of the mean of the diagonal of `X'X`. Where a layer has a bias, or a
    batch normalisation right behind it, means are taken off both, and the bias, or the moving
    average, takes up their difference.

    Args:
        graph: `ChannelGraph` of the whole model.
        kept: Bool, one for each of its channel ids.
        before: `Recording` of the whole model, or of a copy of it.
        after: `Recording` of the narrow one, whose layers have the same names; their weights
            change.
        examples: The `Examples`.

    Returns:
        The names of the layers that were fitted.
    """
    fitted = []
    for group in _groups(_to_repair(before, after, graph.frozen)):
        moments = {pair.name: _Moments(pair, _outputs(graph, pair.name, kept)) for pair in group}
        _gather(before, after, moments, examples)
        fitted += [name for name, each in moments.items() if each.solve()]
    return tuple(fitted)


def _outputs(graph, name, kept):
    """Bool `(outputs,)`: what is left of the outputs of a layer."""
    call = graph.calls_by_name[name]
    return graph.kept_labels(call.outputs[0].labels_along(call.axis_out), kept)


# --- which layers ---------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, eq=False)
class _Pair:
    """A layer of both models."""

    name: str
    before: object  # its `Linear`s
    after: object
    inputs: int
    normalization: object = None  # that of the narrow model right behind it, if it may change


def _to_repair(before, after, spared):
    """The layers behind what is gone that can be fitted, in the order of their last calls."""
    whole = {}
    for recorded in before.calls:
        whole.setdefault(recorded.name, []).append(recorded)
    shared, normalizations = sharing(after.all_calls()), _normalizations(after, spared)
    changed, found, calls = set(), {}, {}
    for recorded in after.calls:
        calls[recorded.name] = number = calls.get(recorded.name, 0) + 1
        earlier = whole.get(recorded.name, ())[number - 1 : number]
        if not _is_changed(recorded, earlier, changed):
            continue
        changed.update(id(tensor) for tensor in keras.tree.flatten(recorded.outputs))
        fits = earlier and id(recorded.operation) not in shared and recorded.name not in spared
        behind = normalizations.get(recorded.name)
        pair = _pair(earlier[0], recorded, behind) if fits and recorded.inner is None else None
        if pair is not None:
            found.pop(recorded.name, None)
            found[recorded.name] = pair
    return list(found.values())


def _normalizations(recording, spared):
    """``{layer name: batch normalisation}`` that alone reads what a layer makes."""
    readers = {}
    for recorded in recording.calls:
        for tensor in symbolic_tensors(recorded.args, recorded.kwargs):
            readers.setdefault(id(tensor), []).append(recorded)
    found = {}
    for recorded in recording.calls:
        behind = [readers.get(id(x), ()) for x in keras.tree.flatten(recorded.outputs)]
        if len(behind) == len(behind[0]) == 1 and takes_statistics(behind[0][0], spared):
            found[recorded.name] = behind[0][0].operation
    # One that is called twice, or behind a layer that is, stands for no single layer.
    names = [recorded.name for recorded in recording.calls]
    return {
        name: layer
        for name, layer in found.items()
        if names.count(name) == 1 and names.count(layer.name) == 1
    }


def _is_changed(recorded, earlier, changed):
    """Whether a call may make something else than in the whole model."""
    tensors = symbolic_tensors(recorded.args, recorded.kwargs)
    if any(id(tensor) in changed for tensor in tensors) or not earlier:
        return True
    others = symbolic_tensors(earlier[0].args, earlier[0].kwargs)
    narrowed = [tuple(x.shape) for x in tensors] != [tuple(x.shape) for x in others]
    return narrowed and bool(variables_read(recorded))


def _pair(earlier, recorded, behind):
    layers = earlier.operation, recorded.operation
    if not all(map(is_layer, layers)) or any(map(other_weights, layers)) or is_frozen(layers[1]):
        return None
    linear = [rule_of(linear_of, layer)(layer) for layer in layers]
    if None in linear or any(
        variable.constraint is not None or not keras.backend.is_float_dtype(variable.dtype)
        for variable in weights_of_operation(layers[1])
    ):
        return None
    return _Pair(recorded.name, *linear, linear[1].inputs, behind)


def _groups(pairs):
    """Layers that are fitted in one pass: no more moments at once than the widest layer has."""
    most = max((pair.inputs**2 for pair in pairs), default=0)
    longest = -(-len(pairs) // PASSES)
    groups, held = [], 0
    for pair in pairs:
        if not groups or held + pair.inputs**2 > most or len(groups[-1]) == longest:
            groups.append([])
            held = 0
        groups[-1].append(pair)
        held += pair.inputs**2
    return groups


# --- moments --------------------------------------------------------------------------------------


class _Moments:
    """Sums over rows, from which a layer is fitted.

    Args:
        pair: The `_Pair`.
        kept: Bool `(outputs,)`, which of its outputs are left.
    """

    def __init__(self, pair, kept):
        self.pair, self._kept = pair, kept
        self.wanted = max(FEW_ROWS, ROWS_PER_INPUT * pair.inputs)
        self._targets = []  # of the calls of this batch
        self._squares = np.zeros((pair.inputs, pair.inputs))
        self._products = self._sums = self._missing = 0.0
        self._rows = 0

    def aim(self, x, share, generator):
        """Note what the layer makes in the whole model.

        Args:
            x: What it reads.
            share: Share of the examples that are in it.
            generator: Draws the output positions.
        """
        linear = self.pair.before
        grid = linear.reader.grid(x.shape)
        number, wanted = int(np.prod(grid)), -(-self.wanted * share // 1)
        flat = np.arange(number)
        if number > wanted:
            flat = generator.choice(number, int(wanted), replace=False)
        parts = np.array_split(flat, -(-len(flat) * self.pair.inputs // AT_ONCE))
        found = []
        for part in parts:
            places = np.unravel_index(part, grid)
            made = linear.outputs(linear.reader.rows(x, places))
            found.append((places, made[:, self._kept]))
        self._targets.append(found)

    def add(self, x):
        """Note what the layer reads in the narrow model, and how far it is from its aim."""
        linear = self.pair.after
        for places, target in self._targets.pop(0):
            rows = linear.reader.rows(x, places)
            missing = target - linear.outputs(rows)
            self._squares += rows.T @ rows
            self._products = self._products + (rows.T @ missing).astype("float64")
            self._sums = self._sums + rows.sum(axis=0, dtype="float64")
            self._missing = self._missing + missing.sum(axis=0, dtype="float64")
            self._rows += len(rows)

    def solve(self):
        """Fit the layer; whether there was anything to fit."""
        squares, products = self._squares / self._rows, self._products / self._rows
        rows, missing = self._sums / self._rows, self._missing / self._rows
        linear = self.pair.after
        behind = self.pair.normalization
        if linear.bias is not None or behind is not None:
            squares -= np.outer(rows, rows)
            products -= np.outer(rows, missing)
        ridge = RIDGE * np.diag(squares).mean()
        if not (np.isfinite(squares).all() and np.isfinite(products).all() and ridge > 0):
            return False
        squares[np.diag_indices_from(squares)] += ridge
        change = np.linalg.solve(squares, products)
        offsets = missing - rows @ change
        linear.add(change, offsets)
        if linear.bias is None and behind is not None:
            mean = np.asarray(ops.convert_to_numpy(behind.moving_mean), np.float64)
            behind.moving_mean.assign((mean - offsets).astype("float32"))
        return True


def _gather(before, after, moments, examples):
    """Fill the `_Moments` of some layers, over as many examples as they need."""
    whole, narrow = (_up_to(recording, moments) for recording in (before, after))
    size, most = batch_size(before), _enough(narrow, moments, len(examples))
    for number, (inputs, _) in enumerate(examples.batches(size, most)):
        share = min(size, most - number * size) / most
        generator = np.random.default_rng(number)
        aim = functools.partial(_Moments.aim, share=share, generator=generator)
        play(whole, inputs, around=_looking(moments, aim))
        play(narrow, inputs, around=_looking(moments, _Moments.add))


def _enough(recording, moments, number):
    """How many examples have as many rows as are wanted."""
    needed = FEW_EXAMPLES
    for recorded in recording.calls:
        if recorded.name in moments:
            each = moments[recorded.name]
            shape = symbolic_tensors(recorded.args, recorded.kwargs)[0].shape
            if None in shape[1:]:
                return number
            grid = each.pair.after.reader.grid((1, *shape[1:]))
            needed = max(needed, -(-each.wanted // int(np.prod(grid))))
    return min(number, needed)


def _up_to(recording, names):
    """The recording up to the last call of some layers, without outputs."""
    last = max(k for k, recorded in enumerate(recording.calls) if recorded.name in names)
    return dataclasses.replace(recording, calls=recording.calls[: last + 1], outputs=())


def _looking(moments, see):
    """What stands for calls: it shows what the layers in `moments` read."""

    def around(recorded, run, *args, **kwargs):
        if recorded.name in moments:
            x = ops.convert_to_numpy(keras.tree.flatten((args, kwargs))[0])
            see(moments[recorded.name], x)
        return run(recorded, *args, **kwargs)

    return around
