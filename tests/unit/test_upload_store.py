"""Uploads on disk: whole and checked, or not there; nothing outside of the folder."""

import hashlib
import os
from pathlib import Path

import msgspec
import pytest

from clockwork.errors import ConfigurationError, ModelError
from clockwork.messages.uploads import UploadFile
from clockwork.models.format import Code, ModelFile, write_model_file
from clockwork.models.uploads import UNFINISHED, UploadStore, find_upload_folder
from clockwork.units import MIB

CONTENT = {"code.onnx": b"code", "weights.bin": b"w" * 1000, "empty.txt": b""}


def sha256(data: bytes) -> str:
    """Return a checksum as files announce it."""
    return hashlib.sha256(data).hexdigest()


def model(folder: Path, **changes: object) -> dict[str, bytes]:
    """Return the files of a model by name, ``model.json`` first."""
    folder.mkdir(exist_ok=True)
    file = ModelFile(
        format=1,
        name="m",
        inputs=(),
        outputs=(),
        batch_sizes=(1,),
        weights_bytes=1000,
        code=Code("code.onnx", "weights.bin", 1000, ()),
        checksums={name: sha256(data) for name, data in CONTENT.items()},
    )
    write_model_file(folder, msgspec.structs.replace(file, **changes))
    return {"model.json": (folder / "model.json").read_bytes(), **CONTENT}


def announced(content: dict[str, bytes]) -> list[UploadFile]:
    """Return what is announced of files."""
    return [UploadFile(name, len(data), sha256(data)) for name, data in content.items()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where uploads go."""
    path = tmp_path / "uploads"
    path.mkdir()
    return path


@pytest.fixture
def store(folder: Path) -> UploadStore:
    """A store of up to 1 MiB per model."""
    return UploadStore(folder, size_max=MIB)


@pytest.fixture
def content(tmp_path: Path) -> dict[str, bytes]:
    """The files of a good model."""
    return model(tmp_path / "source")


def send(store: UploadStore, content: dict[str, bytes], name: str = "m", step: int = 300) -> None:
    """Send all bytes of files in pieces."""
    for index, data in enumerate(content.values()):
        for offset in range(0, len(data), step):
            store.append(name, index, offset, memoryview(data)[offset : offset + step])


def test_a_whole_upload_becomes_a_model(
    store: UploadStore, folder: Path, content: dict[str, bytes]
) -> None:
    """Nobody sees anything of it before; afterwards all files are there and nothing else."""
    assert not store.begin("m", announced(content))
    send(store, content)
    assert os.listdir(folder) == [UNFINISHED]
    store.finish("m")
    assert {path.name: path.read_bytes() for path in (folder / "m").iterdir()} == content
    assert os.listdir(folder) == ["m"]
    assert (folder / "m").stat().st_mode & 0o777 == 0o755
    assert store.begin("m", announced(content))


def test_the_same_model_in_another_folder_is_there(
    tmp_path: Path, folder: Path, content: dict[str, bytes]
) -> None:
    """Wherever the worker would find it by its name."""
    other = tmp_path / "models"
    (other / "m").mkdir(parents=True)
    for name, data in content.items():
        (other / "m" / name).write_bytes(data)
    store = UploadStore(folder, size_max=MIB, model_dirs=[str(other)])
    assert store.begin("m", announced(content))
    (other / "m" / "weights.bin").write_bytes(b"v" * 1000)
    with pytest.raises(ModelError, match="exists and is another model"):
        store.begin("m", announced(content))


@pytest.mark.parametrize("name", ["../m", "/m", ".m", "a/b", "", "m\n", "a\0b", "..", "x" * 129])
def test_names_that_lead_elsewhere_are_refused(
    store: UploadStore, folder: Path, content: dict[str, bytes], name: str
) -> None:
    """Of models and of files alike, whoever checked them before."""
    with pytest.raises(ModelError, match="is no name for a model"):
        store.begin(name, announced(content))
    with pytest.raises(ModelError, match="is no name for a model"):
        store.begin("m", [*announced(content), UploadFile(name, 1, sha256(b""))])
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([UploadFile("weights.bin", 1, sha256(b""))], "m is no model directory"),
        ([UploadFile("model.json", 1, sha256(b""))] * 2, "m is no model directory"),
        ([UploadFile("model.json", -1, sha256(b""))], "has -1 bytes"),
        ([UploadFile("model.json", 1, "abc")], "sha256 abc"),
        ([UploadFile("model.json", 2 * MIB, sha256(b""))], "m has 2MiB, this worker takes up to"),
    ],
)
def test_announcements_that_make_no_sense_are_refused(
    store: UploadStore, folder: Path, files: list[UploadFile], words: str
) -> None:
    """Before anything is written."""
    with pytest.raises(ModelError, match=words):
        store.begin("m", files)
    assert os.listdir(folder) == []


def test_a_model_larger_than_the_disk_is_refused(folder: Path) -> None:
    """Free space is looked at before the first byte comes."""
    store = UploadStore(folder, size_max=1 << 62)
    with pytest.raises(ModelError, match="left, the model needs"):
        store.begin("m", [UploadFile("model.json", 1 << 61, sha256(b""))])


def test_bytes_that_were_changed_are_found(
    store: UploadStore, folder: Path, content: dict[str, bytes]
) -> None:
    """The file is named, and nothing is left."""
    store.begin("m", announced(content))
    store.append("m", 0, 0, content["model.json"])
    store.append("m", 1, 0, b"code")
    store.append("m", 2, 0, b"v" * 1000)
    with pytest.raises(ModelError, match=r"weights\.bin was changed on the way"):
        store.finish("m")
    assert os.listdir(folder) == []


def test_a_short_upload_is_no_model(
    store: UploadStore, folder: Path, content: dict[str, bytes]
) -> None:
    """An end that comes too early leaves nothing."""
    store.begin("m", announced(content))
    send(store, {**content, "weights.bin": b"w" * 999})
    with pytest.raises(ModelError, match=r"weights\.bin ended after 999 of 1000"):
        store.finish("m")
    assert os.listdir(folder) == []


@pytest.mark.parametrize(
    ("file_index", "offset", "size"), [(0, 1, 1), (0, 0, 100_000), (4, 0, 1), (-1, 0, 1)]
)
def test_bytes_out_of_turn_end_the_upload(
    store: UploadStore,
    folder: Path,
    content: dict[str, bytes],
    file_index: int,
    offset: int,
    size: int,
) -> None:
    """Nothing is left, and further bytes are refused."""
    store.begin("m", announced(content))
    with pytest.raises(ModelError):
        store.append("m", file_index, offset, bytes(size))
    assert os.listdir(folder) == []
    with pytest.raises(ModelError, match="no upload of 'm' is under way"):
        store.append("m", 0, 0, b"x")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"checksums": {**{n: sha256(d) for n, d in CONTENT.items()}, "more.bin": "0" * 64}},
         "speaks of more.bin, which was not sent"),
        ({"checksums": {n: sha256(d + b"!") for n, d in CONTENT.items()}},
         "code.onnx has another checksum than model.json says"),
        ({"format": 99}, "has format 99"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_together_are_no_model(
    store: UploadStore, folder: Path, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    """``model.json`` is read before anybody else can."""
    content = model(tmp_path / "source", **changes)
    store.begin("m", announced(content))
    send(store, content)
    with pytest.raises(ModelError, match=words):
        store.finish("m")
    assert os.listdir(folder) == []


def test_what_is_dropped_leaves_nothing(
    store: UploadStore, folder: Path, content: dict[str, bytes]
) -> None:
    """One upload, all of them, and those that there are not."""
    for name in ("a", "b", "c"):
        store.begin(name, announced(content))
    store.drop("a")
    store.drop("nothing")
    assert len(os.listdir(folder / UNFINISHED)) == 2
    store.drop_all()
    assert os.listdir(folder) == []
    store.begin("a", announced(content))
    store.begin("a", announced(content))
    assert len(os.listdir(folder / UNFINISHED)) == 1


def test_leftovers_of_the_dead_are_removed_those_of_the_living_stay(
    folder: Path, content: dict[str, bytes]
) -> None:
    """Another store on the same folder keeps its unfinished upload."""
    other = UploadStore(folder, size_max=MIB)
    other.begin("m", announced(content))
    left = folder / UNFINISHED / "dead.x1"
    left.mkdir()
    (left / "weights.bin").write_bytes(b"w")
    (folder / UNFINISHED / "link").symlink_to(folder)
    UploadStore(folder, size_max=MIB)
    assert sorted(name.split(".")[0] for name in os.listdir(folder / UNFINISHED)) == ["link", "m"]
    send(other, content)
    other.finish("m")
    assert (folder / "m" / "model.json").exists()


def test_two_workers_of_one_folder_may_receive_the_same_model(
    folder: Path, content: dict[str, bytes]
) -> None:
    """Who is second finds that it is there."""
    stores = [UploadStore(folder, size_max=MIB) for _ in range(2)]
    for store in stores:
        store.begin("m", announced(content))
        send(store, content)
    for store in stores:
        store.finish("m")
    assert os.listdir(folder) == ["m"]


def test_a_folder_that_vanished_is_named(
    store: UploadStore, folder: Path, content: dict[str, bytes]
) -> None:
    """The system's own words say why."""
    store.begin("m", announced(content))
    for path in (folder / UNFINISHED).iterdir():
        path.rmdir()
    with pytest.raises(ModelError, match="cannot write m: No such file"):
        store.append("m", 0, 0, b"x")


def test_uploads_go_to_their_option_or_the_first_writable_folder(tmp_path: Path) -> None:
    """The option's folder is made; without any there is none."""
    made = find_upload_folder(str(tmp_path / "new" / "uploads"), [])
    assert made == tmp_path / "new" / "uploads"
    assert made.is_dir()
    assert find_upload_folder("", [str(tmp_path / "missing"), str(made)]) == made
    assert find_upload_folder("", []) is None
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="upload_dir"):
        find_upload_folder(str(tmp_path / "file" / "x"), [])


def test_without_a_folder_uploads_are_refused(content: dict[str, bytes]) -> None:
    """The message names the options."""
    with pytest.raises(ModelError, match="start it with --upload-dir DIR"):
        UploadStore(None, size_max=MIB).begin("m", announced(content))
