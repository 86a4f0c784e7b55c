"""Products with a layer's own weights are those of an `EinsumDense`, and are written so.

What `own_weights` puts in the place of a weight is a tensor like any other, of which a rule would
have to narrow two axes at once where a product reads one and makes the other. As the kernel of an
`EinsumDense` it is read and made as any kernel. A vector that is added behind becomes its bias.
"""

import dataclasses
import string

import keras

from resrep_keras.graph.own_weights import build_with, is_holder
from resrep_keras.graph.recording import is_symbolic, symbolic_tensors
from resrep_keras.keras_adapter import operation_class

ADD, EINSUM, MATMUL = map(operation_class, ("add", "einsum", "matmul"))
SQUEEZE, TRANSPOSE = map(operation_class, ("squeeze", "transpose"))


class OwnProducts:
    """Writes products with own weights as layers: the same one for each call of their layer.

    Args:
        calls: The `RecordedCall`s inside of a call.
        outputs: The symbolic outputs of the call.
        known: The layers that were made so far, to which new ones are added.
    """

    def __init__(self, calls, outputs, known):
        self._calls, self._known = list(calls), known
        self._outputs = {id(x) for x in keras.tree.flatten(outputs)}
        self._makers = {id(x): c for c in calls for x in keras.tree.flatten(c.outputs)}
        self._readers = {}
        for recorded in calls:
            for tensor in symbolic_tensors(recorded.args, recorded.kwargs):
                self._readers.setdefault(id(tensor), []).append(recorded)

    def calls(self):
        """The calls, some of them those of an `EinsumDense`; what none needs is left out."""
        found, gone = [], set()
        for recorded in self._calls:
            if id(recorded) in gone:
                continue
            product = self._product(recorded)
            if product is None:
                found.append(recorded)
                continue
            joined, added = product
            gone |= set() if added is None else {id(added)}
            found.append(joined)
        return self._needed(found)

    def _product(self, recorded):
        """The call of an `EinsumDense`, and the sum which that makes, too, or `None`."""
        if type(recorded.operation) not in (EINSUM, MATMUL) or recorded.kwargs:
            return None
        if len(recorded.args) != 2 or not all(map(is_symbolic, recorded.args)):
            return None
        held = [self._held(tensor) for tensor in recorded.args]
        if (held[0] is None) == (held[1] is None):
            return None
        terms = _terms(recorded)
        own = 0 if held[1] is None else 1
        if terms is None or (type(recorded.operation) is MATMUL and not own):
            return None
        holder, turned = held[own]
        read, kernel, made = terms[1 - own], terms[own], terms[2]
        kernel = kernel[::-1] if turned else kernel
        if not _is_plain(read, kernel, made):
            return None
        tensor = recorded.args[1 - own]
        added, bias = self._added(recorded, holder)
        outputs = recorded.outputs if added is None else added.outputs
        layer = self._layer(holder, f"{read},{kernel}->{made}", outputs.shape[1:], bias, tensor)
        changes = {"operation": layer, "name": layer.name, "args": (tensor,), "outputs": outputs}
        return dataclasses.replace(recorded, **changes), added

    def _held(self, tensor):
        """The holder of the weight that a tensor is, and whether it is turned; else `None`."""
        maker, turned = self._makers.get(id(tensor)), False
        if not self._is_read_once(tensor):
            return None
        if maker is not None and type(maker.operation) is TRANSPOSE and len(tensor.shape) == 2:
            turned = maker.operation.axes in (None, (1, 0), [1, 0])
            tensor = maker.args[0]
            maker = self._makers.get(id(tensor)) if turned else None
            if not self._is_read_once(tensor):
                return None
        if maker is None or type(maker.operation) is not SQUEEZE:
            return None
        held = self._makers.get(id(maker.args[0]))
        if held is None or not is_holder(held.operation):
            return None
        return held.operation, turned

    def _is_read_once(self, tensor):
        return len(self._readers.get(id(tensor), ())) == 1 and id(tensor) not in self._outputs

    def _added(self, recorded, holder):
        """The sum of a product and an own vector along its last axis, and the vector's holder."""
        if not self._is_read_once(recorded.outputs):
            return None, None
        (reader,) = self._readers[id(recorded.outputs)]
        if type(reader.operation) is not ADD or reader.kwargs or len(reader.args) != 2:
            return None, None
        others = [x for x in reader.args if x is not recorded.outputs]
        held = self._held(others[0]) if len(others) == 1 and is_symbolic(others[0]) else None
        if held is None or held[0].trainable != holder.trainable:
            return None, None
        fits = tuple(held[0].kernel.shape) == (recorded.outputs.shape[-1],)
        return (reader, held[0]) if fits else (None, None)

    def _layer(self, holder, equation, shape, bias, tensor):
        key = id(holder.kernel), bias and id(bias.kernel), equation
        if key not in self._known:
            self._known[key] = _dense(holder, equation, shape, bias, tensor)
        return self._known[key]

    def _needed(self, calls):
        """Those calls that something reads."""
        read, found = set(self._outputs), []
        for recorded in reversed(calls):
            if any(id(x) in read for x in keras.tree.flatten(recorded.outputs)):
                read |= set(map(id, symbolic_tensors(recorded.args, recorded.kwargs)))
                found.append(recorded)
        return found[::-1]


def _terms(recorded):
    """The letters of both operands of a product and of what it makes; `None` of other forms."""
    if type(recorded.operation) is EINSUM:
        text = recorded.operation.subscripts.replace(" ", "")
        before, arrow, made = text.partition("->")
        terms = before.split(",")
        return (*terms, made) if arrow and "." not in text and len(terms) == 2 else None
    first, second = (len(x.shape) for x in recorded.args)
    if second != 2 or first < 2:
        return None
    lead = string.ascii_lowercase[: first - 1]
    return f"{lead}x", "xy", f"{lead}y"


def _is_plain(read, kernel, made):
    """Whether an `EinsumDense` takes such letters: examples first, and nothing twice."""
    apart = all(len(set(term)) == len(term) for term in (read, kernel, made))
    known = set(made) <= {*read, *kernel}
    return apart and known and read[0] == made[0] and read[0] not in kernel


def _dense(holder, equation, shape, bias, tensor):
    """An `EinsumDense` whose kernel, and bias, are those of what held them."""
    letter = equation[-1]
    layer = keras.layers.EinsumDense(
        equation,
        output_shape=tuple(shape),
        bias_axes=None if bias is None else letter,
        kernel_regularizer=holder.kernel_regularizer,
        kernel_constraint=holder.kernel_constraint,
        kernel_initializer="ones",
        bias_regularizer=None if bias is None else bias.kernel_regularizer,
        bias_constraint=None if bias is None else bias.kernel_constraint,
        name=holder.name,
        dtype=holder.dtype_policy,
        trainable=holder.trainable,
    )
    build_with(layer, [holder.kernel, *([] if bias is None else [bias.kernel])], tensor.shape)
    return layer
