"""Whether a layer without a rule reads channels, or makes them, along known axes of its weights.

Found by trying: what it makes where some channels are zero, a copy makes of the others; and a copy
that makes fewer channels makes the same ones.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from resrep_keras.graph.flow import activate, activation_of, rule_of, without_rule
from resrep_keras.graph.probe import in_words
from resrep_keras.rules.multiplied import terms_of
from resrep_keras.surgery.choosing import (
    as_selected,
    axes_that_shrink,
    choices,
    chosen,
    copy_for,
    key_of,
    kinds_for,
    narrowed,
    shapes_for,
    ways_to_take,
)
from resrep_keras.surgery.narrow import weight_values
from resrep_keras.surgery.outputs import Mixed, Scaled, Selected
from resrep_keras.surgery.trial import KINDS, Unlike, alike

NORMAL = KINDS.index("normal")


@dataclasses.dataclass(frozen=True)
class Reads:
    """Channels of one input that weights read; where they are zero, they may go.

    Args:
        position: The input.
        axis, width: Their axis, and how many they are.
        weights: For each weight, the axes along which it has an entry for each channel.
        key: The entry of the configuration that holds their number; `None` where none does.
    """

    position: int
    axis: int
    width: int
    weights: tuple
    key: str | None


@dataclasses.dataclass(frozen=True)
class Makes:
    """Channels of the output that weights make.

    Args:
        axis, width, weights, key: As in `Reads`.
        mixes: Whether the weights take up any matrix behind them, and not only factors.
        taking: For each weight, whether it takes that up.
        activates: Whether the layer's `activation` comes last, and goes behind the compactor.
    """

    axis: int
    width: int
    weights: tuple
    key: str
    mixes: bool
    taking: tuple
    activates: bool


@dataclasses.dataclass(frozen=True)
class ReadsAndMakes:
    """What a layer does that mixes channels by its weights.

    Args:
        reads: A `Reads` for each input whose channels may go.
        makes: `Makes`, or `None` where all channels stay that it makes.
        kept: ``{position of an input: why its channels stay}``.
        kept_outputs: Why the channels that it makes stay; `None` where they may go, or there are
            none.
        cost: What the layer multiplies, see `find_cost`.
    """

    reads: tuple
    makes: Makes | None
    kept: dict
    kept_outputs: str | None
    cost: dict | None = None

    rows_stay = False  # not known

    @property
    def whole(self):
        """Whether nothing was found out that keeps channels."""
        return not self.kept and self.kept_outputs is None

    @property
    def what_weights_read(self):
        """What two calls of one layer must have in common."""
        return tuple((r.position, r.axis, r.weights, r.key) for r in self.reads), self.makes

    def narrow(self, layer, part):
        """The answer of `narrow`."""
        values, config = weight_values(layer), {}
        for read in self.reads:
            keep = part.keep_in[read.position]
            values = narrowed(values, read.weights, Selected(keep))
            if read.key is not None:
                config[read.key] = int(keep.sum())
        if self.makes is not None:
            values = narrowed(values, self.makes.weights, part.keep_out, self.makes.taking)
            config[self.makes.key] = part.keep_out.width
        return config, values

    def terms(self, call):
        """The answer of `macs`; `None` where it is not known."""
        axes = {read.position: read.axis for read in self.reads}
        if self.makes is not None:
            axes["out"] = self.makes.axis
        return None if self.cost is None else terms_of(self.cost, call, axes)

    def making(self, layer):
        """The answer of `producing_weights`: the largest of the weights that make channels."""
        if self.makes is None:
            return None
        pairs = [
            (np.asarray(ops.convert_to_numpy(w)), axes)
            for w, axes in zip(layer.weights, self.makes.weights)
        ]
        made = [np.moveaxis(array, axes[0], -1) for array, axes in pairs if len(axes) == 1]
        return max(made, key=np.size, default=None)

    def flows(self, call):
        """The answer of `flow`."""
        for position, tried in self.kept.items():
            call.pin(call.inputs[position], *without_rule(call.operation, call, tried))
        for read in self.reads:
            call.consume(call.inputs[read.position], read.axis)
        if self.makes is None:
            told = ()
            if self.kept_outputs is not None:
                told = without_rule(call.operation, call, self.kept_outputs)
            made = [call.neutral(shape, *told) for shape in call.output_shapes]
            return [call.pin(each, *told) for each in made] if told else made
        made = call.produce(self.makes.axis, self.makes.width)
        made = call.site(made, self.makes.axis, diagonal=not self.makes.mixes, shifts=False)
        return activate(call, made, activation_of(call.operation)) if self.makes.activates else made


# --- what is read ---------------------------------------------------------------------------------


def find_reading(trial, position, axis, width):
    """Find out by trying whether channels of one input may go where they are zero: `Reads`.

    Raises:
        Unlike: They may not, in words that go on from "choosing channels".
    """
    picked = choices(width)
    copies, key = copy_for(trial, {position: axis}, width, list(map(len, picked)))
    weights = axes_that_shrink(trial, copies[0], width, len(picked[0]))
    for number, (copy, choice) in enumerate(zip(copies, picked)):
        _check_shapes(trial, copy)
        for kind in kinds_for(number):
            _check_reading(trial, copy, (position, axis, choice), weights, kind, False)
    if trial.may_train:
        copy, choice = copies[0], picked[0]
        _check_reading(trial, copy, (position, axis, choice), weights, NORMAL, True)
    return Reads(position, axis, width, weights, key)


def _check_shapes(trial, copy):
    for whole, spec in zip(trial.output_shapes, copy.specs):
        pairs = list(zip(whole, spec.shape))[1:]
        if len(spec.shape) != len(whole) or any(b is not None and a != b for a, b in pairs):
            raise Unlike("before it changes the shape of what it makes")


def _check_reading(trial, copy, where, weights, kind, training):
    position, axis, choice = where
    zeroed = _zeroed(trial.inputs[kind], position, axis, choice)
    before = trial.run(zeroed, trial.weights[kind], training=training)
    arrays = chosen(zeroed, {position: axis}, choice)
    keep = as_selected(choice, trial.inputs[kind][position].shape[axis])
    shorter = narrowed(trial.weights[kind], weights, keep)
    after = trial.run(arrays, shorter, copy, training=training)
    if all(alike(a, b) is not False for a, b in zip(before, after)):
        return
    if not training:
        raise Unlike("before it gives other values, also where all others are zero")
    again = trial.run(zeroed, trial.weights[kind], training=True, seed=1)
    if all(alike(a, b) for a, b in zip(before, again)):
        raise Unlike("before it gives other values in training")


def _zeroed(arrays, position, axis, choice):
    """Arrays with all channels of one at zero but the chosen ones."""
    keep = np.isin(np.arange(arrays[position].shape[axis]), choice)
    shape = [1] * len(arrays[position].shape)
    shape[axis] = keep.size
    found = list(arrays)
    found[position] = ops.where(keep.reshape(shape), arrays[position], 0)
    return found


# --- what is made ---------------------------------------------------------------------------------


def find_making(trial):
    """Find out by trying how the channels that a layer makes may go: `Makes`.

    Raises:
        Unlike: They may not, in words that go on from "choosing channels".
    """
    if len(trial.outputs[NORMAL]) != 1:
        raise Unlike("behind it: it has several outputs")
    whole = trial.output_shapes[0]
    reasons = []
    for axis in dict.fromkeys((len(whole) - 1, *range(1, len(whole)))):
        width = whole[axis]
        tried = width > 1 and width == trial.outputs[NORMAL][0].shape[axis]
        try:
            key = key_of(trial.operation, width) if tried else None
            if key is not None:
                return _making(trial, axis, width, key)
        except Unlike as unlike:
            known = str(unlike).startswith("behind it")
            reasons.append(str(unlike) if known else f"behind it {unlike}")
    if reasons:
        raise Unlike(reasons[0])
    raise Unlike(
        f"behind it: of its settings, not exactly one is the number {whole[-1]} of channels"
    )


def _making(trial, axis, width, key):
    """`Makes` for channels along one axis of the output."""
    shapes = [tuple(tensor.shape) for tensor in trial.tensors]
    weights = None
    for number, choice in enumerate(choices(width)):
        copy = trial.copy({key: len(choice)}, shapes)
        if _axes(trial, copy) != (axis,):
            raise Unlike(f"behind it: with {key}={len(choice)} it changes other axes, too")
        weights = axes_that_shrink(trial, copy, width, len(choice))
        keep = as_selected(choice, width)
        for kind in kinds_for(number):
            _check_making(trial, copy, weights, keep, axis, kind)
    if not any(weights):
        raise Unlike(f"behind it: {key} changes none of its weights")
    untold = ""
    try:
        tail = _tail(trial)
    except _Raises as raises:  # nothing is known of what comes last: no weight need take it up
        tail, untold = None, f" ({raises})"
    for mixes in (True, False):
        taking = _taking(trial, (axis, width, key, weights), mixes, tail or {})
        if taking is not None:
            return Makes(axis, width, weights, key, mixes, taking, activates=tail is not None)
    raise Unlike(f"behind it: no factor of its outputs can be taken up by its weights{untold}")


class _Raises(Exception):
    """A function of the layer has raised where it was tried alone: the text says what."""


def _axes(trial, copy):
    """The axes along which the output of a copy differs; `None` where its rank does."""
    whole, spec = trial.output_shapes[0], tuple(copy.specs[0].shape)
    if len(whole) != len(spec):
        return None
    pairs = list(enumerate(zip(whole, spec)))[1:]
    return tuple(axis for axis, (old, new) in pairs if new is not None and old != new)


def _check_making(trial, copy, weights, keep, axis, kind):
    shorter = narrowed(trial.weights[kind], weights, keep)
    found = trial.run(trial.inputs[kind], shorter, copy)[0]
    if alike(keep.take(trial.outputs[kind][0], axis), found) is False:
        raise Unlike("behind it gives other values: its outputs depend on how many they are")


def _tail(trial):
    """The changes that take away the activation that a layer applies last; `None` without one."""
    function = rule_of(activation_of, trial.operation)(trial.operation)
    if function is None:
        return None
    linear = {"activation": None}
    shapes = [tuple(tensor.shape) for tensor in trial.tensors]
    try:
        if function is keras.activations.linear:  # another one shows where it is applied
            pairs = (
                (None, trial.copy({"activation": "softplus"}, shapes)),
                keras.activations.softplus,
            )
        else:
            pairs = (trial.copy(linear, shapes), None), function
    except Unlike:
        return None
    (before, behind), function = pairs
    for inputs, weights in zip(trial.inputs, trial.weights):
        made = [trial.run(inputs, weights, copy)[0] for copy in (before, behind)]
        tensor = ops.convert_to_tensor(made[0])
        try:
            applied = ops.convert_to_numpy(function(tensor))
        except Exception as error:  # a user's own function, which may not be made for this
            raise _Raises(f"its activation, tried alone, raises {in_words(error)}") from error
        if alike(made[1], applied) is False:
            return None
    return linear


def _taking(trial, made, mixes, tail):
    """Which weights take up a matrix behind the outputs, or a factor of each; `None` for none."""
    axis, width, key, weights = made
    generator = np.random.default_rng(4)
    mask = np.isin(np.arange(width), choices(width)[0])
    keep = Scaled(mask, generator.uniform(-2.0, -0.5, width))
    if mixes:
        keep = Mixed(mask, generator.normal(size=(width, width)) / np.sqrt(width))
    shapes = [tuple(tensor.shape) for tensor in trial.tensors]
    try:
        whole = trial.copy(tail, shapes) if tail else None
        copy = trial.copy({**tail, key: keep.width}, shapes)
    except Unlike:
        return None
    before = keep.take(trial.run(trial.inputs[NORMAL], trial.weights[NORMAL], whole)[0], axis)
    for taking in ways_to_take(weights):
        shorter = narrowed(trial.weights[NORMAL], weights, keep, taking)
        after = trial.run(trial.inputs[NORMAL], shorter, copy)[0]
        if alike(before.astype(after.dtype), after):
            return taking
    return None


# --- both at once ---------------------------------------------------------------------------------


def check_both(trial, reads, makes):
    """See whether a copy reads and makes fewer channels at once.

    Raises:
        Unlike: Both at once are not the same as one after the other.
    """
    shapes = [tuple(tensor.shape) for tensor in trial.tensors]
    changes, weights, arrays = {}, trial.weights[NORMAL], trial.inputs[NORMAL]
    zeroed = arrays
    for read in reads:
        choice = choices(read.width)[0]
        here = {read.position: read.axis}
        shapes[read.position] = shapes_for(trial, here, len(choice))[read.position]
        zeroed = _zeroed(zeroed, read.position, read.axis, choice)
        arrays = chosen(arrays, here, choice)
        weights = narrowed(weights, read.weights, as_selected(choice, read.width))
        changes.update({} if read.key is None else {read.key: len(choice)})
    keep = None
    if makes is not None:
        keep = as_selected(choices(makes.width)[0], makes.width)
        weights = narrowed(weights, makes.weights, keep)
        if makes.key in changes:
            raise Unlike("before and behind it changes the same setting")
        changes[makes.key] = keep.width
    copy = trial.copy(changes, shapes)
    before = trial.run(zeroed, trial.weights[NORMAL])
    before = before if keep is None else [keep.take(before[0], makes.axis)]
    after = trial.run(arrays, weights, copy)
    if any(alike(a, b) is False for a, b in zip(before, after)):
        raise Unlike("before and behind it at once gives other values")
