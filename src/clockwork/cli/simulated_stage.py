"""Performs runs of experiments in virtual time, with the simulator.

Why here: the live shells and the simulator do not know each other; the command line knows both.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from clockwork.controller.config import ControllerConfig
from clockwork.engines.emulated import DirectoryProfiles
from clockwork.errors import ClockworkError
from clockwork.live.experiments.plan import Cluster, OnProgress, Performed, Run
from clockwork.messages.controller_io import Say
from clockwork.messages.records import ActionRecord, Record, RequestRecord
from clockwork.sim.scenario import Hardware, Scenario
from clockwork.sim.world import World
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG, header, rows
from clockwork.units import SECOND

LOOK_NS: Final = SECOND // 2
"""Virtual time between two reports of progress."""
LOADING_NS: Final = 120 * SECOND
"""Virtual time that a run may take beyond its sending: loading models, last answers."""
CONSOLE_LOG: Final = "console.log"


class SimulatedStage:
    """Virtual time."""

    name = "simulated"

    def perform(self, run: Run, logs: Path, progress: OnProgress) -> Performed:
        """Perform a run with its logs in the folder `logs`, and end it early upon Ctrl-C.

        Raises:
            ClockworkError: the client refused its work.
        """
        with (
            (logs / REQUEST_LOG).open("wb") as requests,
            (logs / ACTION_LOG).open("wb") as actions,
            (logs / CONSOLE_LOG).open("w", encoding="utf-8") as console,
        ):
            take = _writer(requests.write, actions.write)
            world = World(
                scenario(run),
                DirectoryProfiles(page_bytes=run.cluster.page_bytes),
                take_records=take,
                take_line=lambda said: _say(said, console.write),
            )
            is_interrupted = _pass_time(world, run, progress)
        [client] = world.clients
        finished = client.finished
        if finished is not None and finished.error is not None:
            raise ClockworkError(f"the client failed: {finished.error}")
        summary = finished.summary if finished is not None else None
        return Performed(
            sent=None if summary is None else summary.sent, is_interrupted=is_interrupted
        )


def scenario(run: Run) -> Scenario:
    """Return a run as a scenario without faults."""
    cluster = run.cluster
    return Scenario(
        name=run.name,
        seed=run.workload.seed,
        hardware=Hardware(
            gpus_per_worker=cluster.gpus,
            cache_pages=cluster.cache_pages,
            page_bytes=cluster.page_bytes,
        ),
        controller=_controller(cluster),
        workloads=(run.workload,),
        sends_inputs=run.sends_inputs,
        duration_ns=run.length_ns + LOADING_NS,
    )


def _controller(cluster: Cluster) -> ControllerConfig:
    return ControllerConfig(
        default_slo_ns=cluster.default_slo_ns,
        schedule_ahead_ns=cluster.schedule_ahead_ns,
        max_gpus=cluster.gpus,
    )


def _pass_time(world: World, run: Run, progress: OnProgress) -> bool:
    """Run until the client has ended; return whether the user wanted it to end."""
    end_ns = run.length_ns + LOADING_NS
    try:
        while not world.have_clients_ended and world.elapsed_ns < end_ns:
            world.run(LOOK_NS)
            progress(world.elapsed_ns)
    except KeyboardInterrupt:
        # What the last step was about is lost; all before it is told.
        world.flush()
        return True
    return False


def _writer(
    write_requests: Callable[[bytes], object], write_actions: Callable[[bytes], object]
) -> Callable[[list[Record]], None]:
    def take(records: list[Record]) -> None:
        of_requests = [each for each in records if type(each) is RequestRecord]
        of_actions = [each for each in records if type(each) is not RequestRecord]
        if of_requests:
            write_requests(rows(of_requests))
        if of_actions:
            write_actions(rows(of_actions))

    write_requests(header(RequestRecord))
    write_actions(header(ActionRecord))
    return take


def _say(said: Say, write: Callable[[str], object]) -> None:
    write(f"controller   | {said.text}{said.end}")
