"""Law 7: imports obey the floors, and BUILD says the same."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "resrep_keras"

# A module imports only from lower floors, or from the modules named for it.
FLOORS = {
    "graph.channels": (1, ()),
    "graph.recording": (1, ()),
    "graph.unroll": (1, ("graph.recording",)),
    "graph.walk": (1, ("graph.recording", "graph.unroll")),
    "graph.call": (1, ("graph.channels", "graph.recording")),
    "graph.flow": (1, ()),
    "graph.rules_weights": (1, ("graph.channels", "graph.flow")),
    "graph.rules_shapes": (1, ("graph.channels", "graph.flow", "graph.recording")),
    "graph.rules_operations": (1, ("graph.channels", "graph.flow", "graph.rules_shapes")),
    "graph.rules_sequences": (1, ("graph.channels", "graph.flow", "graph.rules_weights")),
    "graph.trace": (
        1,
        (
            "graph.call",
            "graph.channels",
            "graph.flow",
            "graph.rules_operations",
            "graph.rules_sequences",
            "graph.rules_shapes",
            "graph.rules_weights",
            "graph.recording",
            "graph.walk",
        ),
    ),
    "layers.compactor": (1, ("graph.channels", "graph.flow")),
    "layers.gated": (1, ("graph.flow", "graph.rules_sequences", "layers.compactor")),
    "layers.scored": (1, ("layers.compactor",)),
    "layers.gradient_thresholds": (1, ()),
    "layers.activation_gradient": (1, ("graph.walk", "layers.gradient_thresholds")),
    "checks": (0, ()),
    "optimizers.wrapper": (1, ()),
    "optimizers.penalty": (1, ("optimizers.wrapper",)),
    "optimizers.holding": (1, ("optimizers.penalty", "optimizers.wrapper")),
    "optimizers.transfer": (1, ("optimizers.penalty",)),
    "optimizers.sparse_settings": (1, ("optimizers.masks",)),
    "optimizers.taylor": (1, ("optimizers.holding", "optimizers.penalty", "optimizers.wrapper")),
    "optimizers.sparse": (
        1,
        (
            "optimizers.masks",
            "optimizers.sparse_settings",
            "optimizers.transfer",
            "optimizers.wrapper",
            "sparsity",
        ),
    ),
    "optimizers.masks": (1, ("sparsity",)),
    "optimizers.lasso": (1, ("optimizers.holding", "optimizers.wrapper")),
    "scores": (1, ("graph.flow", "graph.rules_sequences", "graph.rules_weights", "layers.gated")),
    "schedules": (1, ()),
    "sparsity": (1, ()),
    "costs.terms": (2, ()),
    "costs.macs": (2, ("costs.terms",)),
    "costs.params": (2, ("costs.terms", "surgery.narrow", "surgery.remove")),
    "costs.activations": (2, ("costs.terms",)),
    "costs.latency": (2, ()),
    "costs.file_size": (2, ("costs.latency", "costs.params")),
    "costs.latency_model": (
        2,
        ("costs.latency", "surgery.narrow", "surgery.rebuild", "surgery.remove"),
    ),
    "surgery.rebuild": (2, ()),
    "surgery.narrow": (2, ()),
    "surgery.narrow_sequences": (2, ("surgery.narrow",)),
    "surgery.narrow_shapes": (2, ("surgery.narrow",)),
    "surgery.fold": (2, ("surgery.narrow", "surgery.rebuild")),
    "surgery.forward": (2, ()),
    "surgery.cut": (2, ("surgery.fold", "surgery.forward", "surgery.narrow", "surgery.rebuild")),
    "surgery.slots": (2, ("surgery.narrow",)),
    "surgery.remove": (
        2,
        (
            "surgery.fold",
            "surgery.forward",
            "surgery.narrow",
            "surgery.narrow_sequences",
            "surgery.narrow_shapes",
            "surgery.rebuild",
        ),
    ),
    "surgery.zero_channels": (
        2,
        ("surgery.fold", "surgery.forward", "surgery.rebuild", "surgery.remove"),
    ),
    "budget": (3, ()),
    "targets": (3, ()),
    "methods.settings": (4, ()),
    "methods.channel_state": (4, ()),
    "methods.method": (4, ()),
    "methods.channel_method": (4, ("methods.channel_state", "methods.method", "methods.settings")),
    "methods.resrep": (4, ("methods.channel_method",)),
    "methods.magnitude": (4, ("methods.one_shot",)),
    "methods.ablation": (4, ()),
    "methods.aofp": (4, ("methods.ablation", "methods.channel_method", "methods.channel_state")),
    "methods.taylor": (4, ("methods.one_shot",)),
    "methods.random_pruning": (4, ("methods.one_shot",)),
    "methods.one_shot": (4, ("methods.channel_method", "methods.channel_state")),
    "methods.network_slimming": (4, ("methods.lasso_training",)),
    "methods.lasso_training": (4, ("methods.channel_state", "methods.one_shot")),
    "methods.group_lasso": (4, ("methods.lasso_training",)),
    "methods.granet": (4, ("methods.method",)),
    "methods.gradient_places": (4, ()),
    "methods.fpgm": (4, ("methods.one_shot",)),
    "methods.composed": (4, ("methods.gradient_places", "methods.method")),
    "methods.activation_gradient": (
        4,
        ("methods.gradient_places", "methods.method", "methods.settings"),
    ),
    "redesign": (5, ()),
    "plasticity": (5, ("workflow",)),
    "gradient_report": (5, ()),
    "callback_checks": (5, ()),
    "slimming": (5, ()),
    "callbacks": (5, ("callback_checks", "slimming")),
    "checkpoints": (5, ("callback_checks", "callbacks")),
    "training": (5, ()),
    "wrapped": (5, ("callbacks", "checkpoints", "slimming", "training")),
    "workflow": (5, ("training", "wrapped")),
    "finalizing": (5, ()),
    "search": (5, ("finalizing", "workflow")),
    "export": (5, ()),
    "explain": (5, ("picture", "remedies")),
    "picture": (5, ("layout",)),
    "layout": (5, ()),
    "remedies": (5, ()),
    "report": (5, ("plots",)),
    "plots": (5, ()),
}
# Where TensorFlow and matplotlib may be used, inside functions.
HEAVY = {"tensorflow": {"export", "costs.latency"}, "matplotlib": {"plots"}}


def modules():
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "__init__.py":
            yield ".".join(path.relative_to(PACKAGE).with_suffix("").parts), path


def imports(tree, top_level_only=False):
    nodes = tree.body if top_level_only else ast.walk(tree)
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def own_imports(path):
    names = imports(ast.parse(path.read_text()))
    inside = {n.removeprefix("resrep_keras.") for n in names if n.startswith("resrep_keras.")}
    return inside & set(FLOORS)


def test_every_module_has_a_floor():
    assert {name for name, _ in modules()} == set(FLOORS)


@pytest.mark.parametrize("name", FLOORS)
def test_imports_come_from_below(name):
    path = PACKAGE / (name.replace(".", "/") + ".py")
    floor, named = FLOORS[name]
    for other in own_imports(path):
        assert FLOORS[other][0] < floor or other in named, f"{name} imports {other}"


@pytest.mark.parametrize("library", HEAVY)
def test_heavy_libraries_are_imported_late_and_in_few_places(library):
    for name, path in modules():
        tree = ast.parse(path.read_text())
        used = any(n.split(".")[0] == library for n in imports(tree))
        assert not used or name in HEAVY[library], f"{name} uses {library}"
        assert not any(n.split(".")[0] == library for n in imports(tree, top_level_only=True))


def _targets(kind):
    tree = ast.parse((ROOT / "BUILD").read_text())
    for node in tree.body:
        call = node.value if isinstance(node, ast.Expr) else None
        if isinstance(call, ast.Call) and call.func.id == kind:
            known = [k for k in call.keywords if isinstance(k.value, (ast.List, ast.Constant))]
            yield {k.arg: ast.literal_eval(k.value) for k in known}


def test_build_names_each_room_with_the_rooms_it_imports():
    rooms = {target["name"]: target for target in _targets("py_library")}
    home = {src: name for name, target in rooms.items() for src in target.get("srcs", ())}
    for name, path in modules():
        src = str(path.relative_to(ROOT))
        assert src in home, f"{src} is in no py_library of BUILD"
        needed = {home["resrep_keras/" + o.replace(".", "/") + ".py"] for o in own_imports(path)}
        needed -= {home[src]}
        deps = {dep.removeprefix(":") for dep in rooms[home[src]].get("deps", [])}
        assert needed <= deps, f"{home[src]} lacks deps {needed - deps} for {name}"


def test_build_names_each_test_file():
    targets = list(_targets("py_test"))
    assert all(target["args"][0] == target["srcs"][0] for target in targets)
    files = {target["srcs"][0] for target in targets}
    found = {str(p.relative_to(ROOT)) for p in (ROOT / "tests").rglob("test_*.py")}
    assert files == found


def test_build_hands_what_tests_share_to_all_of_them():
    (zoo,) = (target for target in _targets("py_library") if target["name"] == "zoo")
    shared = {str(p.relative_to(ROOT)) for p in (ROOT / "tests").rglob("*.py")}
    shared = {path for path in shared if not path.split("/")[-1].startswith(("test_", "run.py"))}
    assert set(zoo["srcs"]) == shared


def test_no_test_imports_another():
    for path in (ROOT / "tests").rglob("*.py"):
        imported = imports(ast.parse(path.read_text()))
        assert not [n for n in imported if n.startswith("tests.") and ".test_" in n], path
