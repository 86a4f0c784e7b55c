"""The house as its files tell it: folders, imports and figures of style.

python -m tests.laws.house    # prints the figures
"""

import ast
import dataclasses
import functools
import pathlib

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "resrep_keras"

# Low to high. A file imports files of folders above it in this list, and of its own. Those of one
# line stand side by side: none imports another.
FLOORS = (
    ("keras_adapter",),
    ("common",),
    ("graph",),
    ("layers",),
    ("optimizers",),
    ("surgery",),
    ("tflite",),
    ("costs",),
    ("rules",),
    ("methods",),
    ("methods/channels", "methods/sparse", "methods/gradients", "methods/consolidation"),
    ("methods/composed",),
    ("training/early_removal",),
    ("training",),
    ("explanation",),
    ("deploy",),
    ("tfmot",),
    ("workflow",),
    ("commands",),
    ("cli",),
    ("__main__",),
)
LEVELS = {folder: level for level, folders in enumerate(FLOORS) for folder in folders}


@dataclasses.dataclass(frozen=True)
class Module:
    """One file of the library.

    Attributes:
        name: Its path in the package without the suffix, such as ``"graph/channels"``.
        path: The file.
    """

    name: str
    path: pathlib.Path

    @property
    def folder(self):
        """The entry of `FLOORS` that the file belongs to, `None` for the face."""
        names = [self.name, *(str(p) for p in pathlib.PurePath(self.name).parents)]
        return next((name for name in names if name in LEVELS), None)

    @property
    def is_face(self):
        return self.path == PACKAGE / "__init__.py"

    @functools.cached_property
    def text(self):
        return self.path.read_text(encoding="utf-8")

    @functools.cached_property
    def tree(self):
        return ast.parse(self.text)


@functools.cache
def modules():
    """Every file of the library, `{name: Module}`."""
    paths = sorted(PACKAGE.rglob("*.py"))
    names = [str(path.relative_to(PACKAGE).with_suffix("")) for path in paths]
    return {name: Module(name, path) for name, path in zip(names, paths)}


def imported(tree, top_level_only=False):
    """The dotted names that a file imports, also inside functions."""
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@functools.cache
def own_imports(name):
    """The files of the library that one of them imports, by name."""
    module = modules()[name]
    found = set()
    for dotted in imported(module.tree):
        if dotted.split(".")[0] == PACKAGE.name:
            inside = "/".join(dotted.split(".")[1:])
            found.update({inside, f"{inside}/__init__".lstrip("/")} & set(modules()))
    # `from package import file` names the package, too: its own file counts where no other is
    # meant.
    files = {other for other in found if not other.endswith("__init__")}
    packages = {other for other in found - files if not _opens(other, files)}
    return (files | packages) - {name}


def _opens(package, files):
    folder = package.removesuffix("__init__")
    return any(file.startswith(folder) for file in files)


def circle():
    """Files that import each other in a circle, the first again at the end; empty without one."""
    done, path = set(), []

    def visit(name):
        if name in path:
            return [*path[path.index(name) :], name]
        if name in done:
            return []
        path.append(name)
        for other in sorted(own_imports(name)):
            if found := visit(other):
                return found
        done.add(path.pop())
        return []

    return next(filter(None, map(visit, modules())), [])


def upward():
    """Pairs of files of which the first imports the second, which does not stand below it."""
    for name, module in modules().items():
        if module.is_face:
            continue
        for other in sorted(own_imports(name)):
            here, there = module.folder, modules()[other].folder
            if here != there and (there is None or here is None or LEVELS[there] >= LEVELS[here]):
                yield name, other


# --- figures --------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Figure:
    """One number of the house, and what it may be at most."""

    words: str
    value: float
    at_most: float
    where: str = ""

    def __str__(self):
        text = f"{self.words:<58}{self.value:>8.4g}   at most {self.at_most:g}"
        return f"{text}   {self.where}".rstrip()


PROBES = ("getattr", "hasattr", "setattr")
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def calls(names):
    """`{module: number}` of calls of some built-in functions."""
    return {
        name: sum(
            isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
            for node in ast.walk(module.tree)
        )
        for name, module in modules().items()
    }


def functions():
    """Every function with its lines, those of its docstring left out: `(lines, place)`."""
    for name, module in modules().items():
        for node in ast.walk(module.tree):
            if isinstance(node, FUNCTIONS):
                lines = node.end_lineno - node.lineno + 1
                if ast.get_docstring(node) is not None:
                    lines -= node.body[0].end_lineno - node.body[0].lineno + 1
                yield lines, f"{name}.py:{node.lineno} {node.name}"


def figures(num_exceptions):
    """What the house is measured by."""
    lines = {name: len(module.text.splitlines()) for name, module in modules().items()}
    thousands = sum(lines.values()) / 1000
    longest, function = max(functions())
    long_file = max(lines, key=lines.get)
    around = circle()
    return [
        Figure(
            "calls of getattr, hasattr, setattr per 1,000 lines",
            sum(calls(PROBES).values()) / thousands,
            2.5,
        ),
        Figure(
            "calls of isinstance per 1,000 lines",
            sum(calls(("isinstance",)).values()) / thousands,
            7,
        ),
        Figure("lines of the longest function without docstring", longest, 60, function),
        Figure("lines of the longest file", lines[long_file], 400, f"{long_file}.py"),
        Figure("files in a circle of imports", len(set(around)), 0, " > ".join(around)),
        Figure("exceptions to the order of folders", num_exceptions, 10),
    ]


def table():
    """The figures as lines of text."""
    from tests.laws.exceptions import IMPORTS

    lines = sum(len(module.text.splitlines()) for module in modules().values())
    head = f"{len(modules())} files of {PACKAGE.name}/ with {lines:,} lines"
    return "\n".join([head, *map(str, figures(len(IMPORTS)))])


if __name__ == "__main__":
    print(table())
