"""A plain run of a scenario, without judges: what `clockwork simulate` and benchmarks do.

The run ends when every client has its answers, or at the scenario's `duration_ns`.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

from clockwork.engines.emulated import DirectoryProfiles, ProfileSource
from clockwork.messages.actions import ActionType
from clockwork.messages.client_io import Finished
from clockwork.messages.records import ActionRecord, Record, RequestRecord
from clockwork.messages.status import ActionStatus, Status
from clockwork.sim.faults import Faults
from clockwork.sim.host import Tap
from clockwork.sim.profiles import read_model
from clockwork.sim.scenario import Scenario
from clockwork.sim.world import (
    SLICE_NS,
    MakeController,
    TakeLine,
    TakeRecords,
    World,
    make_controller,
)
from clockwork.units import SECOND

ANSWER_NS: Final = 2 * SECOND
"""After the clients were told to stop, until they must have all answers: they wait 1 s."""


class Totals(Struct):
    """What telemetry counts, over all clients."""

    # Requests answered, those that succeeded, and those of them that were late.
    requests: int = 0
    succeeded: int = 0
    late: int = 0
    cold_starts: int = 0
    # Infer actions that succeeded, all actions.
    batches: int = 0
    actions: int = 0

    def add(self, records: Sequence[Record]) -> None:
        """Count some records."""
        for record in records:
            if type(record) is RequestRecord:
                self.requests += 1
                self.cold_starts += record.is_coldstart
                if record.result is Status.SUCCESS:
                    self.succeeded += 1
                    self.late += not record.deadline_met
            elif type(record) is ActionRecord:
                self.actions += 1
                has_run = record.status is ActionStatus.SUCCESS
                self.batches += has_run and record.action_type is ActionType.INFER


class Run:
    """A scenario under way."""

    def __init__(
        self,
        scenario: Scenario,
        *,
        taps: Sequence[Tap] = (),
        take_records: Sequence[TakeRecords] = (),
        take_line: TakeLine | None = None,
        make_controller: MakeController = make_controller,
        profiles: ProfileSource | None = None,
    ) -> None:
        """Start all processes; `advance` lets time pass.

        Args:
            take_records: take telemetry, once per slice.
            take_line: takes the controller's console lines.
            profiles: what paths of models stand for; default: see `sim.profiles`.
        """
        self._take_records = take_records
        self.totals = Totals()
        page_bytes = scenario.hardware.page_bytes
        self.world = World(
            scenario,
            profiles or DirectoryProfiles(page_bytes=page_bytes, read=read_model),
            taps=taps,
            take_records=self._take,
            take_line=take_line,
            make_controller=make_controller,
        )
        self._faults = Faults(self.world)
        self._are_stopped = False
        self.has_ended = False

    def advance(self) -> bool:
        """Let one slice of virtual time pass; return False when the run has ended."""
        world = self.world
        world.run(SLICE_NS)
        duration_ns = world.scenario.duration_ns
        if world.elapsed_ns >= duration_ns and not self._are_stopped:
            self._are_stopped = True
            self._faults.heal()
            world.stop_clients()
        is_over = world.elapsed_ns >= duration_ns + ANSWER_NS
        self.has_ended = is_over or world.have_clients_ended
        return not self.has_ended

    def outcomes(self) -> list[Finished]:
        """Return how each client's last process ended, of those that did."""
        finished = [client.finished for client in self.world.clients]
        return [each for each in finished if each is not None]

    def _take(self, records: list[Record]) -> None:
        self.totals.add(records)
        for take in self._take_records:
            take(records)
