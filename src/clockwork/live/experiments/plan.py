"""What an experiment is: runs to perform, figures that come of their logs, and what to say of them.

Why records: an experiment only plans and evaluates. Who performs a run is a stage's matter (live
processes, a simulator), and both write the same logs, so that nothing here knows the difference.

Source: SPEC section 10 for all set-ups; scale 1 is the paper's.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from msgspec import Struct
from msgspec.structs import replace

from clockwork.client.azure import Trace
from clockwork.client.catalogue import find_workload
from clockwork.client.named import Setting as WorkloadSetting
from clockwork.client.named import Value
from clockwork.client.workload import Workload
from clockwork.live.experiments.interruption import Interruption
from clockwork.units import MIB, MS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EMULATED_CACHE_BYTES: Final = 1376 * 16 * MIB
"""Weights cache of the original's default configuration, for a V100 with 32 GB."""
PAPER_PEAK_PER_S: Final = 16 / 0.0173
"""Requests per second of ResNet-50 on a V100 in batches of 16, by the published table."""


class Cluster(Struct, frozen=True, kw_only=True):
    """The machines of a run: one worker with so many GPUs, and a controller's options."""

    gpus: int = 1
    # Whether the worker computes. Otherwise its GPUs are emulated.
    is_real: bool = False
    cores_per_gpu: int = 1
    # Of each GPU.
    cache_bytes: int = EMULATED_CACHE_BYTES
    page_bytes: int = 16 * MIB
    default_slo_ns: int = 100 * MS
    schedule_ahead_ns: int = 10 * MS

    @property
    def cache_pages(self) -> int:
        """Pages of each GPU's weights cache."""
        return self.cache_bytes // self.page_bytes


class Run(Struct, frozen=True, kw_only=True):
    """One run of one workload on a fresh cluster."""

    # Of its folder.
    name: str
    # For people.
    label: str
    cluster: Cluster
    workload: Workload
    # How long it will send.
    length_ns: int
    sends_inputs: bool = False


class Models(Struct, frozen=True, kw_only=True):
    """The models at hand, and the kind of device that they are for."""

    # Path by name.
    zoo: Mapping[str, str]
    # The one that stands where the paper has ResNet-50.
    base: str
    is_real: bool
    # Of the base model: execution time by batch size, duration of a load, and its pages.
    exec_ns: Mapping[int, int]
    load_ns: int
    pages: int
    page_bytes: int

    @property
    def peak_per_s(self) -> float:
        """Requests per second of the base model on one GPU with the best batch size."""
        return max(size * 1e9 / exec_ns for size, exec_ns in self.exec_ns.items())


class Setting(Struct, frozen=True, kw_only=True):
    """What the user chose, and what there is."""

    scale: float
    seed: int
    models: Models
    sends_inputs: bool = False
    # For experiments that replay one.
    trace: Trace | None = None

    def cluster(self, gpus: int, *, models_held: int | None = None) -> Cluster:
        """Return the emulated GPUs of the paper, or one real device.

        Args:
            models_held: copies of the base model that the cache of a real device holds, where
                memory is too dear to hold as many as a V100 does; None: 64.
        """
        models = self.models
        if not models.is_real:
            return Cluster(gpus=gpus)
        pages = (models_held or 64) * models.pages
        page_bytes = models.page_bytes
        return Cluster(is_real=True, cache_bytes=pages * page_bytes, page_bytes=page_bytes)

    def rate(self, per_s: float, gpus: int) -> float:
        """Return the rate that is to this machine what `per_s` is to so many GPUs of the paper."""
        if not self.models.is_real:
            return per_s
        return per_s * self.models.peak_per_s / (gpus * PAPER_PEAK_PER_S)

    def workload(self, name: str, values: Mapping[str, Value], *, of_base: bool = True) -> Workload:
        """Return a named workload for these models and this seed.

        Args:
            of_base: its models are copies of the base model; otherwise all of the zoo.
        """
        named = find_workload(name)
        assert named is not None, f"no workload {name}"
        setting = WorkloadSetting(
            zoo=self.models.zoo,
            chosen=(self.models.base,) if of_base else (),
            trace=self.trace,
            seed=self.seed,
        )
        return replace(named.make(values, setting), seed=self.seed)


class Done(Struct, frozen=True):
    """A run that was performed, wholly or in part; its request log has rows."""

    run: Run
    # Folder of its logs.
    logs: Path


class Evaluation(Struct, frozen=True):
    """What came out of an experiment."""

    # Becomes part of ``summary.json``.
    figures: Struct
    # What this run shows, a sentence or two each.
    findings: Sequence[str]
    # By name of file. Called within `plot_style.style`.
    drawings: "Mapping[str, Callable[[], Figure]]"


class Experiment(Struct, frozen=True, kw_only=True):
    """A figure of the paper and how to make it again."""

    name: str
    title: str
    # What the paper shows.
    paper: str
    # What is not as in the paper, whatever the scale; one point each.
    differences: Sequence[str] = ()
    # Ends within about five minutes on two cores.
    default_scale: float
    # Whether it makes sense with real models on this machine.
    can_be_real: bool = True
    # Functions of the trace that it replays, by scale; None: it replays none.
    trace_functions: Callable[[float], int] | None = None
    plan: Callable[[Setting], list[Run]]
    # Gets at least one run.
    evaluate: Callable[[Setting, Sequence[Done]], Evaluation]


class Performed(Struct, frozen=True):
    """How a run ended."""

    # Requests that the client sent; None if it never began.
    sent: int | None
    is_interrupted: bool = False


OnProgress = Callable[[int], None]
"""Is told how many nanoseconds of a run's sending are over."""


class Stage(Protocol):
    """Performs runs."""

    # For people: "live", "simulated".
    name: str

    def perform(
        self, run: Run, logs: Path, progress: OnProgress, interruption: Interruption
    ) -> Performed:
        """Perform a run with its logs in the folder `logs`, and end it early when interrupted.

        Raises:
            ClockworkError: something did not start, ended by itself, or refused its work.
        """
        ...
