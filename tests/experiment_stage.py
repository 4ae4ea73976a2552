"""What tests of experiments share: a small setting, a stage that makes logs up, an audience."""

from collections.abc import Callable, Iterable
from pathlib import Path

from telemetry_records import action, request

from clockwork.client.trace_generator import generate
from clockwork.errors import ClockworkError
from clockwork.live.experiments.interruption import Interruption
from clockwork.live.experiments.plan import (
    Experiment,
    Models,
    OnProgress,
    Performed,
    Run,
    Setting,
)
from clockwork.live.experiments.write_up import RunSummary
from clockwork.messages.records import RequestRecord
from clockwork.models.zoo.shipped import MODEL_TABLE
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG, header, rows
from clockwork.units import MIB, MS

NAMES = [line.split(",")[1] for line in MODEL_TABLE.read_text().splitlines()[1:]]
EXEC_NS = {1: 273 * MS // 100, 2: 405 * MS // 100, 4: 587 * MS // 100, 16: 173 * MS // 10}


def models(*, is_real: bool = False) -> Models:
    """Return the published models without their files; or a device of half their speed."""
    return Models(
        zoo={name: f"/zoo/{name}" for name in NAMES},
        base="resnet50_v2",
        is_real=is_real,
        exec_ns={size: (2 if is_real else 1) * exec_ns for size, exec_ns in EXEC_NS.items()},
        load_ns=8 * MS,
        pages=7,
        page_bytes=16 * MIB,
    )


def setting(
    experiment: Experiment, *, scale: float | None = None, is_real: bool = False
) -> Setting:
    """Return a setting, with a small trace."""
    return Setting(
        scale=scale or experiment.default_scale,
        seed=3,
        models=models(is_real=is_real),
        trace=generate(functions=300, minutes=480, seed=3),
    )


def write_logs(folder: Path, requests: Iterable[RequestRecord]) -> None:
    """Write a request log, and an action log with a single Infer."""
    folder.mkdir(parents=True, exist_ok=True)
    found = list(requests)
    (folder / REQUEST_LOG).write_bytes(header(RequestRecord) + rows(found))
    one = action(status=0)
    (folder / ACTION_LOG).write_bytes(header(type(one)) + rows([one]))


class PretendStage:
    """Writes the same made-up requests for each run, and may fail or be interrupted."""

    name = "pretended"

    def __init__(
        self,
        requests: Callable[[Run], Iterable[RequestRecord]] = lambda _: [request(), request(MS)],
        *,
        fails_in: str | None = None,
        interrupted_in: str | None = None,
    ) -> None:
        """Begin; the two are names of runs."""
        self._requests = requests
        self._fails_in = fails_in
        self._interrupted_in = interrupted_in
        self.performed: list[str] = []

    def perform(
        self, run: Run, logs: Path, progress: OnProgress, interruption: Interruption
    ) -> Performed:
        """Write the logs of a run."""
        self.performed.append(run.name)
        if run.name == self._fails_in:
            raise ClockworkError("the worker ended with signal 9")
        found = list(self._requests(run))
        write_logs(logs, found)
        progress(run.length_ns)
        return Performed(sent=len(found), is_interrupted=run.name == self._interrupted_in)


class SilentAudience:
    """Remembers what it is told."""

    def __init__(self, on_progress: OnProgress = lambda _: None) -> None:
        """Begin; `on_progress` hears of every run's progress."""
        self._on_progress = on_progress
        self.begun: list[str] = []
        self.done: list[RunSummary] = []

    def on_run(self, number: int, count: int, run: Run) -> OnProgress:
        """Note that a run begins."""
        self.begun.append(f"{number}/{count} {run.name}")
        return self._on_progress

    def on_done(self, run: RunSummary) -> None:
        """Note what came of it."""
        self.done.append(run)
