"""The command line: what it takes, and what it says of what will not do."""

import subprocess
import sys
import zipfile

import pytest

from resrep_keras import cli


@pytest.mark.parametrize(
    "words",
    [
        "",
        "shrink model.keras",
        "prune model.keras",
        "prune model.keras slim.keras --method l3",
        "prune model.keras slim.keras --at_most macs",
        "prune model.keras slim.keras --at_most flops=3",
        "prune model.keras slim.keras --target_reduction much",
        "prune model.keras slim.keras --target_reduction macs=much",
        "prune model.keras slim.keras --min_share few",
        "prune model.keras slim.keras --min_channels stem*=few",
        "prune model.keras slim.keras --channel_multiple some",
        "prune model.keras slim.keras --scope stem",
        "explain model.keras --input_shape 32x32",
        "export model.keras slim.tflite --batch_size one",
        "benchmark",
    ],
)
def test_what_is_no_command_ends_with_2(words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    assert end.value.code == 2
    told = capsys.readouterr().err
    assert "usage: resrep-keras" in told and "invalid _" not in told


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("explain none.keras", "explain: There is no file or folder 'none.keras'"),
        ("explain here.txt", r"a file .keras or .h5; got 'here.txt'"),
        ("explain .", "'.' is no SavedModel that tells its layers"),
        ("benchmark none.tflite", "benchmark: There is no file or folder 'none.tflite'"),
        ("explain here.txt --import_module no_such_module", "No module named 'no_such_module'"),
        (
            "prune here.txt out.keras --target_reduction 0.3 --target_reduction macs=0.2",
            "Expected --target_reduction to be one share, or NAME=SHARE",
        ),
        ("prune here.txt out.keras --target_reduction 3", "Expected target_reduction"),
        (
            "prune here.txt out.keras --min_channels 3 --min_channels stem=4",
            "Expected --min_channels to be one value, or PATTERN=VALUE for each layer; got 2",
        ),
        ("explain none.keras --picture model.png", "a path that ends in .svg; got 'model.png'"),
        ("explain here.keras", "'here.keras' is no whole file .keras"),
        ("explain parts.keras", "Keras cannot read a model in 'parts.keras': KeyError"),
        ("explain here.h5", "Keras cannot read a model in 'here.h5': OSError"),
        ("explain none.keras --import_module divides", "'divides' cannot be imported: ZeroDivi"),
        ("explain none.keras --import_module leaves", "'leaves' cannot be imported: SystemExit: 7"),
        ("benchmark here.txt --repeats 0", "Expected repeats to be an int of 1 or more"),
        ("benchmark here.txt --batch_size 0", "Expected batch_size to be an int of 1 or more"),
    ],
)
def test_a_mistake_ends_with_1_and_in_words(words, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("here.txt", "here.keras", "here.h5"):
        (tmp_path / name).write_text("")
    (tmp_path / "divides.py").write_text("1 / 0")
    (tmp_path / "leaves.py").write_text("raise SystemExit(7)")
    with zipfile.ZipFile(tmp_path / "parts.keras", "w") as file:
        file.writestr("metadata.json", "{}")
    assert cli.main(words.split()) == 1
    told = capsys.readouterr()
    assert text in told.err and "Traceback" not in told.err and told.out == ""


def test_where_an_error_comes_from_is_shown_on_demand():
    with pytest.raises(FileNotFoundError):
        cli.main(["explain", "none.keras", "--traceback"])


def test_an_error_of_the_library_is_shown_whole(monkeypatch):
    def fails(*_):
        raise AssertionError("of ours")

    monkeypatch.setattr(cli.actions, "explain_command", fails)
    with pytest.raises(AssertionError, match="of ours"):
        cli.main(["explain", "none.keras"])


def test_it_is_what_the_package_runs():
    done = subprocess.run(
        [sys.executable, "-m", "resrep_keras", "benchmark", "none.keras"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    told = "resrep-keras benchmark: There is no file or folder 'none.keras'."
    assert done.stderr.strip().endswith(told)
