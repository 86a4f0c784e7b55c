"""Only keras_adapter.py knows how Keras is built: no other file uses what Keras does not export."""

import ast

import pytest

from tests.laws.house import imported, modules

ADAPTER = "keras_adapter"
OTHERS = [name for name in modules() if name != ADAPTER]
# What is Keras's own way of doing things, or a backend's; the adapter has a function for each.
INSIDE = {
    "__dict__",
    "StatelessScope",
    "distribute_strategy",
    "get_strategy",
    "inner_optimizers",
    "jax_state_sync",
    "num_replicas_in_sync",
    "setrecursionlimit",
}


def _is_private(name):
    return name.startswith("_") and not name.startswith("__")


def _targets(node):
    """The names that an assignment or definition gives to attributes."""
    if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
        yield node.attr
    elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        yield node.name
        yield from (a.target.id for a in node.body if isinstance(a, ast.AnnAssign))


OWN = {
    name for m in modules().values() for node in ast.walk(m.tree) for name in _targets(node)
}  # attributes that the library itself makes


def offences(tree):
    """What a file uses that Keras does not export, as text with its line."""
    for name in imported(tree):
        if name.startswith(("keras.src", "keras_core")):
            yield f"import {name}"
    for node in ast.walk(tree):
        line = getattr(node, "lineno", None)
        if isinstance(node, ast.Attribute):
            if node.attr in INSIDE or (_is_private(node.attr) and node.attr not in OWN):
                yield f"{line}: .{node.attr}"
        elif isinstance(node, ast.Constant) and node.value in INSIDE:
            yield f"{line}: '{node.value}'"
        elif isinstance(node, ast.Call):
            made = isinstance(node.func, ast.Name) and node.func.id == "type"
            if (made and len(node.args) == 3) or ast.unparse(node.func) == "types.new_class":
                yield f"{line}: a class made at run time"
        elif isinstance(node, ast.Name) and node.id == "__import__":
            yield f"{line}: __import__"


@pytest.mark.parametrize("name", OTHERS)
def test_only_the_adapter_knows_how_keras_is_built(name):
    assert list(offences(modules()[name].tree)) == []


@pytest.mark.parametrize(
    "text",
    [
        "from keras.src.models.functional import Functional",
        "import keras.src.ops",
        "model._layers",
        "self._no_such_attribute",
        "model.__dict__",
        "object.__setattr__(model, '__dict__', {})",
        "type('Name', (A, B), {})",
        "with keras.StatelessScope(): pass",
        "getattr(model, 'jax_state_sync', None)",
    ],
)
def test_the_law_sees(text):
    assert list(offences(ast.parse(text)))


def test_the_law_is_not_blind_to_the_adapter():
    found = " ".join(offences(modules()[ADAPTER].tree))
    assert "keras.src" in found and "__dict__" in found and "made at run time" in found
