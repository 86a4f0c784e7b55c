"""Nothing of the user's is deleted: a path that holds something else is refused in words."""

import pytest

import resrep_keras
from tests import zoo

pytestmark = pytest.mark.tensorflow_only


@pytest.fixture(scope="module")
def model():
    return zoo.build("chain")


def files_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("name", ["results", "m.keras", "m.tflite"])
def test_a_folder_of_the_users_stays(model, tmp_path, name):
    (tmp_path / name / "inside").mkdir(parents=True)
    (tmp_path / name / "notes.txt").write_text("mine")
    (tmp_path / name / "inside" / "variables.index").write_text("mine")
    before = files_of(tmp_path)
    with pytest.raises(ValueError, match=f"{name}'.*left as (it is|they are)"):
        resrep_keras.export(model, tmp_path / name)
    assert files_of(tmp_path) == before


def test_an_empty_folder_is_not_replaced_by_a_file(model, tmp_path):
    (tmp_path / "m.keras").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        resrep_keras.export(model, tmp_path / "m.keras")
    assert (tmp_path / "m.keras").is_dir()


def test_a_file_is_not_replaced_by_a_folder(model, tmp_path):
    (tmp_path / "results").write_text("mine")
    with pytest.raises(ValueError, match=r"results' is a file"):
        resrep_keras.export(model, tmp_path / "results")
    assert files_of(tmp_path) == {"results": b"mine"}


def test_a_saved_model_is_replaced_until_something_of_the_users_is_in_it(model, tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    for _ in range(2):
        assert resrep_keras.export(model, path) <= 1e-5
    for place in (path / "notes.txt", path / "variables" / "notes.txt", path / "mine" / "x"):
        place.parent.mkdir(exist_ok=True)
        place.write_text("mine")
        before = files_of(tmp_path)
        with pytest.raises(ValueError, match="holds other files"):
            resrep_keras.export(model, path)
        assert files_of(tmp_path) == before
        place.unlink()
        if place.parent.name == "mine":
            place.parent.rmdir()
    assert resrep_keras.export(model, path) <= 1e-5


@pytest.mark.parametrize("name", ["assets", "variables"])
def test_a_folder_with_a_name_of_a_saved_model_is_none(model, tmp_path, name):
    (tmp_path / "site" / name).mkdir(parents=True)
    (tmp_path / "site" / name / "variables.css").write_text("mine")
    with pytest.raises(ValueError, match="holds other files"):
        resrep_keras.export(model, tmp_path / "site")
    assert files_of(tmp_path) == {f"site/{name}/variables.css": b"mine"}


@pytest.mark.parametrize("write", ["to_json", "to_svg"])
def test_what_explain_and_report_write_replaces_files_only(model, tmp_path, write):
    (tmp_path / "page").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        vars(type(resrep_keras.explain(model)))[write](
            resrep_keras.explain(model), tmp_path / "page"
        )
    assert (tmp_path / "page").is_dir()
