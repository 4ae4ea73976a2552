"""One model that is measured: what is known of it so far, and what comes next."""

from collections.abc import Callable
from typing import Final

from msgspec import Struct, field
from msgspec.structs import replace

from clockwork.controller.cluster import Instance, Model
from clockwork.messages.ids import WorkerId
from clockwork.messages.models import ModelProfile
from clockwork.units import MS

LOADS: Final = 3
"""Loads per model (chosen: two count)."""
RUNS_MAX: Final = 8
"""Executions per batch size, the first one included (chosen)."""
RUNS_MIN: Final = 3
"""The same at least."""
BUDGET_NS: Final = 300 * MS
"""Time per batch size after which `RUNS_MIN` executions are enough (chosen)."""
GUESS_NS: Final = 10 * MS
"""Expected duration of what was never run (chosen)."""


class ProfileJob(Struct, eq=False):
    """One model that is measured."""

    model: Model
    # Workers that hold it.
    workers: set[WorkerId]
    # Is told the model when its turn is over, measured or not.
    done: Callable[[Model], None]
    # Where it is measured; None while there is no place.
    instance: Instance | None = None
    # Since when it waits for an idle GPU; None while it does not.
    waiting_since_ns: int | None = None
    # Places that it had, windows that were missed, and why the last place was left.
    attempts: int = 0
    missed: int = 0
    failure: str = ""
    # Batch sizes still to be measured, ascending.
    sizes: list[int] = field(default_factory=list)
    # The worker does not make inputs up.
    needs_inputs: bool = False
    loads: list[int] = field(default_factory=list)
    # Runs of the first of `sizes`, and what came of those before.
    runs: list[int] = field(default_factory=list)
    exec_ns: dict[int, int] = field(default_factory=dict)

    def begin(self) -> None:
        """Begin to measure what is not known."""
        profile = self.model.profile
        known = zip(profile.batch_sizes, profile.exec_ns, strict=True)
        self.exec_ns = {size: exec_ns for size, exec_ns in known if exec_ns}
        self.sizes = [size for size in profile.batch_sizes if size not in self.exec_ns]
        self.loads, self.runs = [], []

    def expected_ns(self) -> int:
        """Return what the next run may take, as far as earlier and smaller ones tell."""
        if self.runs:
            return self.runs[-1]
        if not self.exec_ns:
            return GUESS_NS
        smaller = max(self.exec_ns)
        return self.exec_ns[smaller] * self.sizes[0] // smaller

    def take_run(self, taken_ns: int, exec_max_ns: int) -> None:
        """Count a run; after enough of them go on to the next batch size, if there is a use."""
        runs = self.runs
        runs.append(taken_ns)
        if len(runs) < RUNS_MAX and (len(runs) < RUNS_MIN or sum(runs[1:]) < BUDGET_NS):
            return
        exec_ns = _second_longest(runs[1:])
        self.exec_ns[self.sizes.pop(0)] = exec_ns
        self.runs = []
        if exec_ns > exec_max_ns:
            self.sizes = []

    def skip_rest(self) -> None:
        """Do without the batch sizes that are left."""
        self.sizes, self.runs = [], []

    def measured(self) -> ModelProfile:
        """Return the model's profile with what was measured, and without what was not."""
        sizes = sorted(self.exec_ns)
        profile = self.model.profile
        return replace(
            profile,
            batch_sizes=tuple(sizes),
            exec_ns=tuple(self.exec_ns[size] for size in sizes),
            load_ns=profile.load_ns or _second_longest(self.loads),
        )


def _second_longest(durations: list[int]) -> int:
    return max(sorted(durations)[-2:][0], 1)
