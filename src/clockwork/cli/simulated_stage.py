"""Performs runs of experiments in virtual time, with the simulator.

Why here: the live shells and the simulator do not know each other; the command line knows both.
"""

import gc
from contextlib import closing
from pathlib import Path

from clockwork.cli.simulate import GC_THRESHOLD
from clockwork.controller.config import ControllerConfig
from clockwork.engines.emulated import DirectoryProfiles
from clockwork.errors import ClockworkError
from clockwork.live.experiments import plan
from clockwork.live.experiments.interruption import Interruption
from clockwork.live.experiments.plan import Cluster, OnProgress, Performed
from clockwork.sim.logs import Logs
from clockwork.sim.presets import rack
from clockwork.sim.run import Run
from clockwork.sim.scenario import Hardware, Scenario


class SimulatedStage:
    """Virtual time."""

    name = "simulated"

    def perform(
        self, run: plan.Run, logs: Path, progress: OnProgress, interruption: Interruption
    ) -> Performed:
        """Perform a run with its logs in the folder `logs`, and end it early when interrupted.

        Raises:
            ClockworkError: the client refused its work.
        """
        gc.set_threshold(GC_THRESHOLD)
        with closing(Logs(logs)) as files:
            simulated = Run(
                scenario_of(run),
                take_records=[files.add],
                profiles=DirectoryProfiles(page_bytes=run.cluster.page_bytes),
            )
            is_interrupted = False
            while not is_interrupted and simulated.advance():
                progress(simulated.world.elapsed_ns)
                is_interrupted = interruption.is_wanted
        sent = None
        for finished in simulated.outcomes():
            if finished.error is not None:
                raise ClockworkError(f"the client failed: {finished.error}")
            if finished.summary is not None:
                sent = finished.summary.sent
        return Performed(sent=sent, is_interrupted=is_interrupted)


def scenario_of(run: plan.Run) -> Scenario:
    """Return a run as a scenario without faults."""
    cluster = run.cluster
    hardware = Hardware(
        gpus_per_worker=cluster.gpus,
        cache_pages=cluster.cache_pages,
        page_bytes=cluster.page_bytes,
    )
    return rack(
        run.name,
        run.workload,
        hardware=hardware,
        duration_ns=run.length_ns,
        seed=run.workload.seed,
        controller=_controller(cluster),
    )


def _controller(cluster: Cluster) -> ControllerConfig:
    return ControllerConfig(
        default_slo_ns=cluster.default_slo_ns,
        schedule_ahead_ns=cluster.schedule_ahead_ns,
        max_gpus=cluster.gpus,
    )
