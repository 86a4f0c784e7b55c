"""BUILD, made from the tree: one `py_library` a folder with its deps, one `py_test` a test file.

python -m tests.laws.build_file            # says whether BUILD is what the tree says
python -m tests.laws.build_file --write    # writes it
"""

import sys

from tests.laws.house import FLOORS, LEVELS, PACKAGE, ROOT, modules, own_imports

BUILD = ROOT / "BUILD"
HEAD = """\
# Made from the tree by `python -m tests.laws.build_file --write`; tests/laws/test_imports.py
# holds it. One py_library a folder, in the order of the floors, with the folders that it imports;
# one py_test a test file.

package(default_visibility = ["//visibility:public"])
"""
EXAMPLES = """
py_library(
    name = "examples",
    srcs = glob([
        "examples/*.py",
        "examples/distributed/*.py",
    ]),
    imports = ["examples"],
    deps = [":resrep_keras"],
)

py_library(
    name = "families",
    srcs = ["benchmarks/families.py"],
    imports = ["benchmarks"],
)

py_library(
    name = "torch_side",
    srcs = [
        "benchmarks/torch_side/layouts.py",
        "benchmarks/torch_side/ratios.py",
    ],
    imports = ["benchmarks"],
)
"""
# What tests read beside the files that they import.
DATA = """
        ".ci/run",
        ".mypy.ini",
        ".pytest.ini",
        ".ruff.toml",
        "BUILD",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "MANIFEST.in",
        "README.md",
        "setup.py",
    ] + glob([
        "benchmarks/**",
        "docs/**",
        "examples/**",
        "resrep_keras/**",
        "tests/**",
    ], exclude = ["**/__pycache__/**"]),"""
# Tests of these take seconds: `bazel test //... --test_tag_filters=fast`.
FAST = ("tests/common/", "tests/rules/", "tests/test_documents.py", "tests/laws/test_imports.py")


def text():
    """What BUILD has to say."""
    parts = [HEAD]
    parts += [_folder(folder) for floor in FLOORS for folder in floor if _files(folder)]
    parts += [_face(), EXAMPLES, _zoo()]
    parts += [_test(path) for path in _tests("test_*.py")]
    return "".join(parts)


def _target(folder):
    return folder.replace("/", "_")


def _files(folder):
    return [name for name, module in modules().items() if module.folder == folder]


def _source(name):
    return f"{PACKAGE.name}/{name}.py"


def _deps(names):
    folders = {modules()[other].folder for name in names for other in own_imports(name)}
    return sorted(folders - {modules()[name].folder for name in names} - {None}, key=LEVELS.get)


def _folder(folder):
    files = _files(folder)
    return _library(_target(folder), map(_source, files), map(_target, _deps(files)))


def _face():
    return _library(PACKAGE.name, [_source("__init__")], map(_target, _deps(["__init__"])))


def _library(name, sources, deps):
    deps = _list("deps", [f":{dep}" for dep in deps])
    return f'\npy_library(\n    name = "{name}",\n{_list("srcs", sources)}{deps})\n'


def _list(name, values):
    values = sorted(values)
    if len(values) < 2:
        return "".join(f'    {name} = ["{value}"],\n' for value in values)
    lines = "".join(f'        "{value}",\n' for value in values)
    return f"    {name} = [\n{lines}    ],\n"


def _tests(pattern):
    return sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob(pattern))


def _zoo():
    """What tests share."""
    own = {*_tests("test_*.py"), "tests/run.py"}
    sources = _list("srcs", set(_tests("*.py")) - own)
    deps = _list("deps", [":examples", ":families", ":resrep_keras", ":torch_side"])
    head = '\npy_library(\n    name = "zoo",\n    testonly = True,\n'
    return f"{head}{sources}    data = [{DATA}\n{deps})\n"


def _test(path):
    name = _target(path.removeprefix("tests/").removesuffix(".py"))
    sources = _list("srcs", [path, "tests/run.py"])
    tags = '    tags = ["fast"],\n' if path.startswith(FAST) else ""
    return (
        f'\npy_test(\n    name = "{name}",\n{sources}    args = ["{path}"],\n'
        f'    main = "tests/run.py",\n{tags}    deps = [":zoo"],\n)\n'
    )


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        BUILD.write_text(text(), encoding="utf-8")
    elif BUILD.read_text(encoding="utf-8") != text():
        sys.exit("BUILD is not what the tree says: python -m tests.laws.build_file --write")
