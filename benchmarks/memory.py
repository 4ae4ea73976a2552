"""Measures the controller's memory: with many models and GPUs, and with many requests in flight.

Two fresh systems of processes, one after the other:

- 4,000 models on 150 emulated GPUs under a Zipf-distributed load, until tens of thousands of model
  instances have been loaded;
- 100,000 requests without input in flight at once, with an SLO that lets all of them wait.

    python benchmarks/memory.py [--models 4000] [--gpus 150] [--in-flight 100000] [--json FILE]
"""

import argparse
import json
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import polars as pl
from rig import Process, Rig, RigConfig, make_zoo, parse_cores, pin

from clockwork.telemetry.log_reader import LogReader
from clockwork.telemetry.rows import ACTION_LOG
from clockwork.units import MIB

GPUS_PER_WORKER: Final = 50
MODELS_MB_MAX: Final = 1000.0
IN_FLIGHT_MB_MAX: Final = 500.0
POLL_S: Final = 0.25
STREAMS: Final = 100


def with_models(
    models: int, gpus: int, *, rate: float, seconds: float, zoo: Path
) -> dict[str, float]:
    """Return the controller's memory after a load over so many models and GPUs."""
    workers = -(-gpus // GPUS_PER_WORKER)
    shares = tuple(gpus // workers + (index < gpus % workers) for index in range(workers))
    with TemporaryDirectory(prefix="clockwork-bench-") as name:
        folder = Path(name)
        with Rig(RigConfig(gpus=shares), folder, environ=_environ(zoo)) as rig:
            controller = rig.processes[0]
            idle = _megabytes(controller)
            client = rig.client(
                "zipf", str(models), str(rate), "--slo=250ms", f"--duration={seconds:g}s"
            )
            client.wait(seconds + 120)
            figures = {
                "idle_mb": idle,
                "models_mb": _megabytes(controller),
                "models_peak_mb": _megabytes(controller, "VmHWM"),
            }
            summary = json.loads(rig.json_of(client).read_text())
        figures["models_share_within_slo"] = summary["good"] / summary["sent"]
        figures["instances_loaded"] = float(_loads(folder))
    return figures


def with_requests(in_flight: int, *, zoo: Path) -> dict[str, float]:
    """Return the controller's memory before and while so many requests wait."""
    with TemporaryDirectory(prefix="clockwork-bench-") as name:
        folder = Path(name)
        with Rig(RigConfig(gpus=(1,)), folder, environ=_environ(zoo)) as rig:
            controller = rig.processes[0]
            before = _megabytes(controller)
            each = str(in_flight // STREAMS)
            loop = ("simple-parametric", str(STREAMS), str(STREAMS), each, each)
            client = rig.client(*loop, "--slo=1h", "--interval=1s")
            client.wait_for("throughput=")
            during = _settled_megabytes(controller)
            client.stop()
    return {
        "before_mb": before,
        "in_flight_mb": during,
        "bytes_per_request": (during - before) * MIB / in_flight,
    }


def _settled_megabytes(process: Process) -> float:
    """Return its memory when it has stopped growing, or after a minute."""
    largest, still = 0.0, 0
    for _ in range(round(60 / POLL_S)):
        time.sleep(POLL_S)
        now = _megabytes(process)
        still = still + 1 if now <= largest + 0.5 else 0
        largest = max(largest, now)
        if still * POLL_S >= 3:
            break
    return largest


def _megabytes(process: Process, field: str = "VmRSS") -> float:
    return process.memory_bytes(field) / MIB


def _loads(folder: Path) -> int:
    """Return how many LoadWeights succeeded."""
    frames = LogReader(folder / ACTION_LOG, ("t", "action_type", "status", "worker_exec_complete"))
    is_load = (pl.col("action_type") == 1) & (pl.col("status") == 0)
    return sum(frame.filter(is_load).height for frame in frames.frames())


def _environ(zoo: Path) -> dict[str, str]:
    return {"CLOCKWORK_MODEL_DIR": str(zoo), "CLOCKWORK_DISABLE_INPUTS": "1"}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--models", type=int, default=4000)
    parser.add_argument("--gpus", type=int, default=150)
    parser.add_argument("--rate", type=float, default=3000.0, help="requests/s over the models")
    parser.add_argument("--seconds", type=float, default=30.0, help="of that load")
    parser.add_argument("--in-flight", type=int, default=100_000)
    parser.add_argument("--cores", default="", help="cores for everything, as 0,1; default: all")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    pin(parse_cores(options.cores))
    with TemporaryDirectory(prefix="clockwork-zoo-") as name:
        zoo = make_zoo(Path(name) / "zoo")
        figures = with_models(
            options.models, options.gpus, rate=options.rate, seconds=options.seconds, zoo=zoo
        )
        figures |= with_requests(options.in_flight, zoo=zoo)
    for key, value in figures.items():
        print(f"{key:>24} = {value:,.2f}")
    print(f"limits: models_peak_mb {MODELS_MB_MAX:g}, in_flight_mb {IN_FLIGHT_MB_MAX:g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
