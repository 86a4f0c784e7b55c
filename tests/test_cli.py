"""The command line: what it takes, and what it says of what will not do."""

import subprocess
import sys

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
        "explain model.keras --input_shape 32x32",
        "benchmark",
    ],
)
def test_what_is_no_command_ends_with_2(words, capsys):
    with pytest.raises(SystemExit) as end:
        cli.main(words.split())
    assert end.value.code == 2
    assert "usage: resrep-keras" in capsys.readouterr().err


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
    ],
)
def test_a_mistake_ends_with_1_and_in_words(words, text, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.txt").write_text("")
    assert cli.main(words.split()) == 1
    told = capsys.readouterr()
    assert text in told.err and "Traceback" not in told.err and told.out == ""


def test_where_an_error_comes_from_is_shown_on_demand():
    with pytest.raises(FileNotFoundError):
        cli.main(["explain", "none.keras", "--traceback"])


def test_it_is_what_the_package_runs():
    done = subprocess.run(
        [sys.executable, "-m", "resrep_keras", "benchmark", "none.keras"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout == ""
    told = "resrep-keras benchmark: There is no file or folder 'none.keras'."
    assert done.stderr.strip().endswith(told)
