"""What is written passes through no name that somebody could guess, or own already."""

import stat

import pytest

import resrep_keras
from tests import zoo


@pytest.fixture(scope="module")
def explanation():
    return resrep_keras.explain(zoo.build("chain"))


@pytest.mark.parametrize("write", ["to_json", "to_svg"])
def test_a_file_and_a_link_beside_the_path_stay(tmp_path, explanation, write):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "page.tmp").symlink_to("victim")
    (tmp_path / "page.svg.tmp").write_text("mine, too")
    for name in ("page", "page.svg"):
        text = vars(type(explanation))[write](explanation, tmp_path / name)
        assert (tmp_path / name).read_text(encoding="utf-8") == text
    assert (tmp_path / "victim").read_text() == "mine"
    assert (tmp_path / "page.tmp").is_symlink()
    assert (tmp_path / "page.svg.tmp").read_text() == "mine, too"
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("write", ["to_json", "to_svg"])
def test_rights_are_those_of_any_file(tmp_path, explanation, write):
    (tmp_path / "plain").write_text("")
    vars(type(explanation))[write](explanation, tmp_path / "page")
    rights = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert rights["page"] == rights["plain"]


@pytest.mark.tensorflow_only
@pytest.mark.parametrize("suffix", [".keras", ".tflite", ""])
def test_rights_of_exported_files(tmp_path, suffix):
    (tmp_path / "plain").write_text("")
    (tmp_path / "folder").mkdir()
    path = tmp_path / f"slim{suffix}"
    resrep_keras.export(zoo.build("chain"), path)
    for inner in (path, *path.rglob("*")):
        like = tmp_path / ("folder" if inner.is_dir() else "plain")
        assert stat.S_IMODE(inner.stat().st_mode) == stat.S_IMODE(like.stat().st_mode), inner
