"""What is handed to others: the wheel, and the source archive whose tests run."""

import inspect
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

import resrep_keras

ROOT = pathlib.Path(__file__).parents[1]
LEFT_OUT = shutil.ignore_patterns(
    ".git",
    ".venv*",
    "build",
    "dist",
    "output",
    "*.egg-info",
    "__pycache__",
    ".hypothesis",
    "bazel-*",
)


def run(*command, cwd):
    environment = {**os.environ, "PYTHONPATH": str(cwd)}
    result = subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The wheel and the source archive, made of a copy of the tree."""
    folder = tmp_path_factory.mktemp("packaging")
    tree = shutil.copytree(ROOT, folder / "tree", ignore=LEFT_OUT)
    calls = "; ".join(f"build.build_{kind}({str(folder)!r})" for kind in ("wheel", "sdist"))
    run("-c", f"import setuptools.build_meta as build; {calls}", cwd=tree)
    return next(folder.glob("*.whl")), next(folder.glob("*.tar.gz"))


def test_the_wheel_holds_the_library_and_nothing_else(archives):
    with zipfile.ZipFile(archives[0]) as wheel:
        names = set(wheel.namelist())
        metadata = next(name for name in names if name.endswith("/METADATA"))
        text = wheel.read(metadata).decode()
    library = {str(file.relative_to(ROOT)) for file in (ROOT / "resrep_keras").rglob("*.py")}
    assert library | {"resrep_keras/py.typed"} == {n for n in names if ".dist-info/" not in n}
    assert any(name.endswith("/LICENSE") for name in names)
    required = re.findall(r"^Requires-Dist: ([\w-]+)(?!.*extra)", text, re.MULTILINE)
    assert {"tensorflow", "keras", "numpy"} <= set(required) and "absl-py" not in required
    assert "Classifier: Typing :: Typed" in text and "\nAuthor: " in text


def test_tests_of_the_source_archive_run(archives, tmp_path):
    with tarfile.open(archives[1]) as archive:
        archive.extractall(tmp_path, filter="data")
    (tree,) = tmp_path.iterdir()
    for name in ("README.md", "LICENSE", "CHANGELOG.md", "BUILD", ".ci/run", "docs", "examples"):
        assert (tree / name).exists(), name
    tests = ("tests/common", "tests/test_documents.py", "tests/layers/test_compactor.py")
    said = run("-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *tests, cwd=tree)
    assert " passed" in said and "failed" not in said


# --- types ----------------------------------------------------------------------------------------


def _public():
    """Public functions, constructors that are written out, and the methods of `ChannelGraph`."""
    for name, value in vars(resrep_keras).items():
        if name.startswith("_") or not callable(value):
            continue
        if inspect.isfunction(value):
            yield name, value
        elif "__init__" in vars(value) and not hasattr(value, "__dataclass_fields__"):
            yield name, vars(value)["__init__"]
    for name, value in vars(resrep_keras.ChannelGraph).items():
        if not name.startswith("_") and inspect.isfunction(value):
            yield f"ChannelGraph.{name}", value


def test_what_is_public_has_types():
    without = {}
    for name, function in _public():
        signature = inspect.signature(function)
        told = [*signature.parameters.values()]
        told = told[1:] if "." in function.__qualname__ else told
        missing = [p.name for p in told if p.annotation is p.empty]
        if signature.return_annotation is signature.empty:
            missing.append("return")
        if missing:
            without[name] = missing
    assert len(list(_public())) > 25 and not without
