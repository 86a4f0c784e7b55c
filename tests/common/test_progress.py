"""Long work tells how far it is, where somebody looks."""

import keras
import pytest

from resrep_keras.common.progress import check_verbose, in_sight, silence, tell


def shown(capsys, **settings):
    assert list(in_sight([1, 2, 3], "Counting", **settings)) == [1, 2, 3]
    return capsys.readouterr()


def test_a_line_on_the_standard_error_where_it_is_asked_for(capsys):
    told = shown(capsys, verbose=1)
    assert "Counting" in told.err and "100%" in told.err and told.out == ""


def test_silence_where_nobody_looks_or_none_is_wanted(capsys):
    assert "".join(shown(capsys)) == ""  # no terminal
    assert "".join(shown(capsys, verbose=0)) == ""


def test_a_terminal_is_told_unless_keras_is_to_be_silent(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")  # by which rich takes the captured error for one
    assert "Counting" in shown(capsys).err
    with silence():
        assert "".join(shown(capsys)) == ""
        with silence(False):
            assert not keras.config.is_interactive_logging_enabled()
        assert not keras.config.is_interactive_logging_enabled()
    assert keras.config.is_interactive_logging_enabled()


def test_a_line_that_is_told(capsys):
    long = "x" * 300
    tell(f"[red]done[/red] {long}", verbose=1)
    assert capsys.readouterr().err == f"[red]done[/red] {long}\n"
    tell("nobody looks")
    tell("nobody wants it", verbose=0)
    assert "".join(capsys.readouterr()) == ""


@pytest.mark.parametrize("value", ["loud", 2, None, 0.5])
def test_other_settings_are_refused(value):
    with pytest.raises(ValueError, match="Expected verbose to be 'auto', 0 or 1; got"):
        check_verbose(value)
