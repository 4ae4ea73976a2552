"""Model directories that arrive over the network: whole and checked, or not there at all.

An upload is written to a directory of its own below ``.clockwork-uploads`` of the upload folder,
where nobody looks for models, and becomes ``NAME`` of that folder by one rename when every file has
its announced checksum and ``model.json`` agrees with it. What is left of uploads that never ended
is removed when a store opens; a lock that dies with its process tells them from uploads that
another worker of this machine is still writing.

Names are checked here again, whoever checked them before: this is where they become paths.

Not here: who calls this and when (the worker's shell; one thread), flow control (the controller).
"""

import fcntl
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from clockwork.errors import ConfigurationError, ModelError
from clockwork.messages.role import Payload
from clockwork.messages.uploads import FILES_MAX, UploadFile
from clockwork.models.format import MODEL_NAME, read_model_file, sha256_of
from clockwork.parts.names import explain_name, is_file_name
from clockwork.units import format_bytes

UNFINISHED: Final = ".clockwork-uploads"
"""Where uploads are until they are complete."""
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


def find_upload_folder(upload_dir: str, model_dirs: Sequence[str]) -> Path | None:
    """Return where uploads go: `upload_dir`, which is made, or the first writable model folder.

    Raises:
        ConfigurationError: `upload_dir` is given, but cannot be made or written.
    """
    if upload_dir:
        folder = Path(upload_dir).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"upload_dir {folder}: {error.strerror}") from None
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigurationError(f"upload_dir {folder} cannot be written")
        return folder
    for name in model_dirs:
        if os.path.isdir(name) and os.access(name, os.W_OK | os.X_OK):
            return Path(name).absolute()
    return None


class UploadStore:
    """The uploads of one worker. Every method but the constructor raises ModelError on failure."""

    def __init__(
        self, folder: Path | None, *, size_max: int, model_dirs: Sequence[str] = ()
    ) -> None:
        """Open the store, and remove what is left of uploads that never ended.

        Args:
            folder: where models go; None: nowhere, so that every upload is refused.
            size_max: largest model in bytes.
            model_dirs: further folders that may have a model of that name already.
        """
        self._folder = folder
        self._size_max = size_max
        self._places = [*([folder] if folder else []), *map(Path, model_dirs)]
        self._open: dict[str, _Upload] = {}
        if folder is not None:
            _remove_leftovers(folder / UNFINISHED)

    def begin(self, name: str, files: Sequence[UploadFile]) -> bool:
        """Make place for a model; return True if this very model is there already."""
        if self._folder is None:
            raise ModelError(
                "this worker has no place for uploads: start it with --upload-dir DIR, or with "
                "--model-dirs and a folder that it may write"
            )
        _check(name, files, self._size_max)
        self._drop(name)
        for place in self._places:
            if os.path.lexists(place / name):
                if _is_same(place / name, files):
                    return True
                raise ModelError(
                    f"{place / name} exists and is another model: choose another name, or remove "
                    "it there"
                )
        _check_space(self._folder, sum(file.size_bytes for file in files))
        try:
            self._open[name] = _Upload(self._folder, name, files)
        except OSError as error:
            raise ModelError(f"cannot write to {self._folder}: {error.strerror}") from None
        return False

    def append(self, name: str, file_index: int, offset: int, payload: Payload) -> None:
        """Write the next bytes of an upload; if that fails, nothing is left of it."""
        upload = self._upload(name)
        try:
            upload.append(file_index, offset, payload)
        except OSError as error:
            self._drop(name)
            raise ModelError(f"cannot write {name}: {error.strerror}") from None
        except ModelError:
            self._drop(name)
            raise

    def finish(self, name: str) -> None:
        """Check an upload and make it a model; if that fails, nothing is left of it."""
        upload = self._upload(name)
        try:
            upload.check()
            upload.publish()
        except OSError as error:
            raise ModelError(f"cannot keep {name}: {error.strerror}") from None
        finally:
            self._drop(name)

    def drop(self, name: str) -> None:
        """Remove what has arrived of an upload; nothing happens if there is none."""
        self._drop(name)

    def drop_all(self) -> None:
        """Remove all that has arrived of unfinished uploads."""
        for name in list(self._open):
            self._drop(name)

    def _upload(self, name: str) -> "_Upload":
        upload = self._open.get(name)
        if upload is None:
            raise ModelError(f"no upload of {name[:80]!r} is under way on this worker: begin anew")
        return upload

    def _drop(self, name: str) -> None:
        upload = self._open.pop(name, None)
        if upload is not None:
            upload.close()


class _Upload:
    """One upload on its way."""

    def __init__(self, folder: Path, name: str, files: Sequence[UploadFile]) -> None:
        self._target = folder / name
        self._files = tuple(files)
        parent = folder / UNFINISHED
        parent.mkdir(exist_ok=True)
        self._place = Path(tempfile.mkdtemp(prefix=f"{name}.", dir=parent))
        # Held until `close`: it tells other workers that this directory is no leftover.
        self._lock = os.open(self._place, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The file that is being written, by index, and what is known of it.
        self._index = -1
        self._file: BinaryIO | None = None
        self._size_bytes = 0
        self._sha256 = hashlib.sha256()

    def append(self, file_index: int, offset: int, payload: Payload) -> None:
        if file_index != self._index:
            self._next_until(file_index)
        file = self._files[self._index]
        if offset != self._size_bytes or offset + len(payload) > file.size_bytes:
            raise ModelError(
                f"{file.name}: bytes {offset} to {offset + len(payload)} came, expected from "
                f"{self._size_bytes} to {file.size_bytes} at most"
            )
        assert self._file is not None
        self._file.write(payload)
        self._sha256.update(payload)
        self._size_bytes += len(payload)

    def check(self) -> None:
        """Check that all files are whole and fit together."""
        self._next_until(len(self._files))
        sha256_by_name = {file.name: file.sha256 for file in self._files}
        model = read_model_file(self._place)
        needed = {name for code in (model.code, *model.tuned.values()) if code for name in
                  (code.file, code.weights_file)}  # fmt: skip
        for name in sorted(needed | model.checksums.keys()):
            if name not in sha256_by_name:
                raise ModelError(f"{MODEL_NAME} speaks of {name}, which was not sent")
            if sha256_by_name[name] != model.checksums[name]:
                raise ModelError(f"{name} has another checksum than {MODEL_NAME} says")

    def publish(self) -> None:
        """Make the directory visible under its name."""
        os.chmod(self._place, 0o755)
        try:
            os.rename(self._place, self._target)
        except OSError:
            # Another worker that shares the folder was faster.
            if not _is_same(self._target, self._files):
                raise
        _sync(self._target.parent)

    def close(self) -> None:
        """Remove what was not published."""
        if self._file is not None:
            self._file.close()
        shutil.rmtree(self._place, ignore_errors=True)
        os.close(self._lock)
        with suppress(OSError):
            self._place.parent.rmdir()

    def _next_until(self, file_index: int) -> None:
        """Finish the file that is being written, and go on to a later one; those between are empty.

        Files are announced in the order in which they come.
        """
        if not self._index < file_index <= len(self._files):
            raise ModelError(f"file {file_index} of {len(self._files)} came after {self._index}")
        while self._index < file_index:
            self._finish_file()
            self._index += 1
            self._size_bytes = 0
            self._sha256 = hashlib.sha256()
            if self._index < len(self._files):
                self._file = (self._place / self._files[self._index].name).open("xb")

    def _finish_file(self) -> None:
        if self._file is None:
            return
        file = self._files[self._index]
        self._file.flush()
        # Without it a power failure after the rename could leave a model with holes.
        os.fsync(self._file.fileno())
        self._file.close()
        self._file = None
        if self._size_bytes != file.size_bytes:
            raise ModelError(f"{file.name} ended after {self._size_bytes} of {file.size_bytes} B")
        if self._sha256.hexdigest() != file.sha256:
            raise ModelError(f"{file.name} was changed on the way: its checksum is another one")


def _check(name: str, files: Sequence[UploadFile], size_max: int) -> None:
    names = [file.name for file in files]
    for each in (name, *names):
        if not is_file_name(each):
            raise ModelError(explain_name(each))
    if MODEL_NAME not in names or len(set(names)) != len(names) or len(names) > FILES_MAX:
        raise ModelError(f"{name} is no model directory: it has the files {', '.join(names[:8])}")
    for file in files:
        if file.size_bytes < 0 or not _SHA256.fullmatch(file.sha256):
            raise ModelError(f"{file.name} has {file.size_bytes} bytes, sha256 {file.sha256[:80]}")
    total = sum(file.size_bytes for file in files)
    if total > size_max:
        raise ModelError(
            f"{name} has {format_bytes(total)}, this worker takes up to {format_bytes(size_max)}: "
            "start it with a larger --upload-max"
        )


def _check_space(folder: Path, need: int) -> None:
    free = shutil.disk_usage(folder).free
    if need > free:
        raise ModelError(
            f"{folder} has {format_bytes(free)} left, the model needs {format_bytes(need)}"
        )


def _is_same(directory: Path, files: Sequence[UploadFile]) -> bool:
    """Return whether a directory has just these files; reads all of them if sizes agree."""
    try:
        return all(
            (directory / file.name).stat().st_size == file.size_bytes for file in files
        ) and all(sha256_of(directory / file.name) == file.sha256 for file in files)
    except (OSError, ModelError):
        return False


def _remove_leftovers(folder: Path) -> None:
    try:
        places = list(folder.iterdir())
    except OSError:
        return
    for place in places:
        with suppress(OSError):
            lock = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(place, ignore_errors=True)
            finally:
                os.close(lock)
    with suppress(OSError):
        folder.rmdir()


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
