"""Devices that compute nothing and take exactly as long as measured.

`EmulatedEngine` says how long a task takes and what it yields. It has no clock and no threads:
who drives it (`live.devices`, the simulator) lets that time pass. Where profiles come from is the
driver's choice: `DirectoryProfiles` reads model directories, a simulation may make them up.

Source: SPEC 5.9. As there: no jitter, no contention, outputs of zeros that do not depend on the
inputs, none for a request without input. Unlike there: a batch size that was never measured is
not offered (there it has a stale time), and compressed inputs are not counted as raw ones.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec.structs import replace

from clockwork.engines.engine import EngineError
from clockwork.errors import ModelError
from clockwork.messages.actions import Timing
from clockwork.messages.ids import CodeId
from clockwork.messages.models import GpuState, ModelProfile
from clockwork.messages.role import Payload
from clockwork.messages.status import ActionStatus
from clockwork.messages.worker_io import (
    InferTask,
    InferTaskDone,
    LoadModelTask,
    LoadWeightsTask,
    LoadWeightsTaskDone,
)
from clockwork.models.format import EMULATED, MODEL_NAME, ModelFile, profile_of, read_model_file

CLOCK_MHZ: Final = 1380
"""The clock that is reported: the original's V100, which does not change."""

ProfileSource = Callable[[LoadModelTask], ModelProfile]
"""Returns a model's profile with the batch sizes that the task allows; raises EngineError."""


class EmulatedEngine:
    """Any number of emulated GPUs of one worker."""

    def __init__(
        self, *, gpus: Sequence[GpuState], page_bytes: int, profiles: ProfileSource
    ) -> None:
        self._gpus = list(gpus)
        self._page_bytes = page_bytes
        self._profiles = profiles
        self._codes: dict[CodeId, _Code] = {}
        # Read by everybody and written by nobody: all outputs are slices of it.
        self._zeros = memoryview(b"")

    @property
    def page_bytes(self) -> int:
        """Bytes of one page of the weights caches."""
        return self._page_bytes

    def gpus(self) -> list[GpuState]:
        """Return the GPUs and their sizes; nothing warm."""
        return list(self._gpus)

    def load_model(self, task: LoadModelTask) -> ModelProfile:
        """Return a model's profile and keep its durations under `task.code_id`.

        Raises:
            EngineError: there is no such model, or it was never measured.
        """
        profile = measured_part(self._profiles(task), task.path)
        code = self._codes[task.code_id] = _Code(profile)
        zeros_bytes = profile.batch_sizes[-1] * code.output_bytes
        if zeros_bytes > len(self._zeros):
            self._zeros = memoryview(bytes(zeros_bytes))
        return profile

    def duration_ns(self, task: LoadWeightsTask | InferTask) -> int:
        """Return how long a task takes; an infer as long as its padded batch."""
        code = self._codes[task.code_id]
        if isinstance(task, InferTask):
            return code.exec_ns[task.padded_size]
        return code.load_ns

    def done(
        self, task: LoadWeightsTask | InferTask, *, begin_ns: int, end_ns: int
    ) -> LoadWeightsTaskDone | InferTaskDone:
        """Return what a task that ran from `begin_ns` to `end_ns` yields."""
        timing = Timing(begin_ns, end_ns, end_ns - begin_ns)
        if not isinstance(task, InferTask):
            return LoadWeightsTaskDone(task.task_id, timing)
        return InferTaskDone(
            task_id=task.task_id,
            copy_input=Timing(begin_ns, begin_ns, 0),
            exec=timing,
            copy_output=Timing(end_ns, end_ns, 0),
            clock_before_mhz=CLOCK_MHZ,
            clock_mhz=CLOCK_MHZ,
            outputs=self._outputs(task),
        )

    def release(self, code_id: CodeId) -> None:
        """Forget a model's durations."""
        del self._codes[code_id]

    def _outputs(self, task: InferTask) -> tuple[Payload, ...]:
        if not len(task.payload):
            return ()
        return (self._zeros[: task.batch_size * self._codes[task.code_id].output_bytes],)


class DirectoryProfiles:
    """Profiles from model directories, each read once and again only when it has changed."""

    def __init__(
        self,
        *,
        page_bytes: int,
        read: Callable[[Path], ModelFile] = read_model_file,
        check_path: Callable[[str], Path] = Path,
    ) -> None:
        """Begin with nothing read.

        Args:
            page_bytes: size of a page of the weights caches.
            read: reads one directory, or whatever the paths name; raises ModelError.
            check_path: returns the place that a path names; raises ModelError if models may not
                be loaded from there.
        """
        self._page_bytes = page_bytes
        self._read = read
        self._check_path = check_path
        # By path: when it was last changed, and what it said. One small entry per path asked for.
        self._files: dict[str, tuple[int, ModelFile]] = {}
        # By path and limits: made from which file. Copies of a model share the record.
        self._profiles: dict[tuple[str, int, int], tuple[ModelFile, ModelProfile]] = {}

    def __call__(self, task: LoadModelTask) -> ModelProfile:
        """Return the profile of the model at `task.path`.

        Raises:
            EngineError: the path is not allowed, or there is no model.
        """
        try:
            file = self._file(task.path)
        except ModelError as error:
            raise EngineError(ActionStatus.INVALID_MODEL_PATH, str(error)) from error
        key = (task.path, task.batch_max, task.exec_max_ns)
        known = self._profiles.get(key)
        if known is not None and known[0] is file:
            return known[1]
        profile = profile_of(
            file,
            page_bytes=self._page_bytes,
            device_kind=EMULATED,
            batch_max=task.batch_max,
            exec_max_ns=task.exec_max_ns,
        )
        self._profiles[key] = (file, profile)
        return profile

    def _file(self, text: str) -> ModelFile:
        path = self._check_path(text)
        changed_at_ns = _changed_at_ns(path)
        known = self._files.get(text)
        if known is not None and known[0] == changed_at_ns:
            return known[1]
        file = self._read(path)
        self._files[text] = (changed_at_ns, file)
        return file


def measured_part(profile: ModelProfile, path: str) -> ModelProfile:
    """Return `profile` with only those batch sizes whose execution time is known.

    Raises:
        EngineError: none is known.
    """
    kept = [index for index, exec_ns in enumerate(profile.exec_ns) if exec_ns > 0]
    if not kept:
        text = f"No measurements for {path}: run it once on a real device, or add them"
        raise EngineError(ActionStatus.UNKNOWN_MODEL, text)
    if len(kept) == len(profile.batch_sizes):
        return profile
    return replace(
        profile,
        batch_sizes=tuple(profile.batch_sizes[index] for index in kept),
        exec_ns=tuple(profile.exec_ns[index] for index in kept),
    )


class _Code:
    """What the emulation needs of a model."""

    __slots__ = ("exec_ns", "load_ns", "output_bytes")

    def __init__(self, profile: ModelProfile) -> None:
        self.exec_ns: Mapping[int, int] = dict(
            zip(profile.batch_sizes, profile.exec_ns, strict=True)
        )
        self.load_ns = profile.load_ns
        self.output_bytes = profile.output_bytes


def _changed_at_ns(path: Path) -> int:
    """Return when ``model.json`` was last changed; 0 if there is none, which reading will tell."""
    try:
        return (path / MODEL_NAME).stat().st_mtime_ns
    except OSError:
        return 0
