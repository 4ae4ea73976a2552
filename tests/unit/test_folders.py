"""Which places models may be loaded from."""

from pathlib import Path

import pytest

from clockwork.errors import ModelError
from clockwork.models.folders import ModelFolders


def test_without_folders_every_place_is_allowed(tmp_path: Path) -> None:
    """Paths come back without links."""
    (tmp_path / "link").symlink_to(tmp_path / "model")
    assert ModelFolders()(str(tmp_path / "link")) == (tmp_path / "model").resolve()


def test_a_place_below_a_folder_is_allowed(tmp_path: Path) -> None:
    """The folder itself and everything in it."""
    allowed = ModelFolders([str(tmp_path / "a"), str(tmp_path / "b")])
    for path in (tmp_path / "b", tmp_path / "b" / "c" / "d"):
        assert allowed(str(path)) == path.resolve()


def test_a_place_outside_is_refused(tmp_path: Path) -> None:
    """Neither dots, nor links, nor a folder of a similar name lead out."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to(tmp_path / "secret")
    allowed = ModelFolders([str(tmp_path / "a")])
    for path in ("a/../secret", "a/link", "a/link/x", "ab", "secret"):
        with pytest.raises(ModelError, match="is outside the model folders of this worker"):
            allowed(str(tmp_path / path))


def test_a_relative_path_is_looked_for_in_each_folder(tmp_path: Path) -> None:
    """A name alone is enough."""
    (tmp_path / "b" / "model").mkdir(parents=True)
    allowed = ModelFolders([str(tmp_path / "a"), str(tmp_path / "b")])
    assert allowed("model") == (tmp_path / "b" / "model").resolve()
    assert allowed("nowhere") == (tmp_path / "a" / "nowhere").resolve()
    with pytest.raises(ModelError, match="is outside"):
        allowed("../secret")


def test_what_is_no_path_is_refused() -> None:
    """A zero byte cannot be opened."""
    with pytest.raises(ModelError, match="is no path"):
        ModelFolders()("a\0b")


def test_uploads_are_found_by_name_first(tmp_path: Path) -> None:
    """Their folder is allowed besides the others, and is enough without any."""
    uploads, models = tmp_path / "uploads", tmp_path / "models"
    for folder in (uploads / "a", models / "a", models / "b"):
        folder.mkdir(parents=True)
    allowed = ModelFolders([str(models)], uploads=uploads)
    assert allowed("a") == (uploads / "a").resolve()
    assert allowed("b") == (models / "b").resolve()
    assert allowed(str(uploads / "a")) == (uploads / "a").resolve()
    with pytest.raises(ModelError, match="is outside"):
        allowed(str(tmp_path / "elsewhere"))
    anywhere = ModelFolders(uploads=uploads)
    assert anywhere("a") == (uploads / "a").resolve()
    assert anywhere(str(models / "b")) == (models / "b").resolve()
