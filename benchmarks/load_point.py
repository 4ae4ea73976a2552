"""One measured point: a rig under an open-loop load, as its clients and its logs saw it."""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import polars as pl
from msgspec import Struct
from rig import Meter, Rig, RigConfig

from clockwork.telemetry.log_reader import LogReader
from clockwork.telemetry.rows import REQUEST_LOG
from clockwork.units import MS, SECOND

DRAIN_S: Final = 45.0
PERCENTS: Final = {"p50_ms": 50.0, "p99_ms": 99.0, "p9999_ms": 99.99}
LOG_COLUMNS: Final = ("t", "result", "latency", "deadline_met")


class Load(Struct, frozen=True, kw_only=True):
    """What is offered."""

    rate_per_s: float
    # All clients together.
    models: int = 100
    clients: int = 2
    slo_ms: float = 100.0
    seconds: float = 6.0
    warm_up_s: float = 6.0
    sends_inputs: bool = False
    # Inputs are LZ4 blocks.
    compresses: bool = False
    seed: int = 0
    # Name of a model of the zoo to use instead of ResNet-50.
    model: str = ""


class Point(Struct, frozen=True, kw_only=True):
    """What came of it; counts and rates are those of the clients, after the warm-up."""

    rate_per_s: float
    # Requests per second that the clients really offered.
    offered_per_s: float
    goodput_per_s: float
    # Of all that were sent: succeeded within the SLO, counted from the scheduled arrival.
    share_within_slo: float
    # Latency at the clients.
    client_p50_ms: float
    client_p99_ms: float
    # From the controller's request log.
    log_share_within_slo: float
    p50_ms: float
    p99_ms: float
    p9999_ms: float
    max_ms: float
    # CPU seconds per second, by process and by "process/thread".
    cores: dict[str, float]

    @property
    def controller_us(self) -> float:
        """CPU microseconds of the controller per request."""
        return self.cores["controller"] * 1e6 / self.offered_per_s


def measure(config: RigConfig, load: Load, *, zoo: Path) -> Point:
    """Return what a fresh rig did under a load that is even over the models."""
    return _measure(config, load, zoo=zoo, workload="poisson-open-loop", keep=None)


def measure_zipf(config: RigConfig, load: Load, *, zoo: Path, keep: Path | None = None) -> Point:
    """Return what a fresh rig did under a load that prefers some models.

    Args:
        keep: where a copy of the logs goes.
    """
    return _measure(config, load, zoo=zoo, workload="zipf", keep=keep)


def _measure(
    config: RigConfig, load: Load, *, zoo: Path, workload: str, keep: Path | None
) -> Point:
    environ = {
        "CLOCKWORK_MODEL_DIR": str(zoo),
        "CLOCKWORK_DISABLE_INPUTS": "0" if load.sends_inputs else "1",
    }
    with TemporaryDirectory(prefix="clockwork-bench-") as name:
        folder = Path(name)
        with Rig(config, folder, environ=environ) as rig:
            clients = [
                rig.client(workload, *_arguments(load, index)) for index in range(load.clients)
            ]
            with Meter([*rig.processes, *clients]) as meter:
                for client in clients:
                    client.wait(load.warm_up_s + load.seconds + DRAIN_S)
                time.sleep(0.2)
        summaries = [json.loads(rig.json_of(client).read_text()) for client in clients]
        frame = read_log(folder, load.seconds)
        if keep is not None:
            name = f"slo{load.slo_ms:g}-rate{load.rate_per_s:.0f}"
            shutil.copytree(folder, keep / name, dirs_exist_ok=True)
    return _point(load, summaries, frame, meter)


def read_log(folder: Path, seconds: float) -> pl.DataFrame:
    """Return the requests that arrived in the last so many seconds of a run."""
    frame = pl.concat(LogReader(folder / REQUEST_LOG, LOG_COLUMNS).frames())
    last_ns = frame["t"].max()
    assert isinstance(last_ns, int), "nothing was logged"
    return frame.filter(pl.col("t") >= last_ns - round(seconds * SECOND))


def latencies(frame: pl.DataFrame) -> dict[str, float]:
    """Return percentiles and maximum, in ms, of the requests that succeeded; 0 without any."""
    latency = frame.filter(pl.col("result") == 0)["latency"]
    figures = {
        name: (latency.quantile(percent / 100, "nearest") or 0) / MS
        for name, percent in PERCENTS.items()
    }
    largest = latency.max()
    return figures | {"max_ms": (largest if isinstance(largest, int) else 0) / MS}


def _arguments(load: Load, index: int) -> Sequence[str]:
    model = (f"--models={load.model}",) if load.model else ()
    return (
        str(load.models // load.clients),
        str(load.rate_per_s / load.clients),
        f"--slo={load.slo_ms:g}ms",
        f"--warm-up={load.warm_up_s:g}s",
        f"--duration={load.seconds:g}s",
        f"--seed={load.seed * 100 + index}",
        *model,
        *(("--compress",) if load.compresses else ()),
    )


def _point(
    load: Load, summaries: Sequence[dict[str, Any]], frame: pl.DataFrame, meter: Meter
) -> Point:
    sent = sum(each["sent"] for each in summaries)
    good = sum(each["good"] for each in summaries)
    first_ns, last_ns = frame["t"].min(), frame["t"].max()
    assert isinstance(first_ns, int)
    assert isinstance(last_ns, int)
    latency = [each["latency"] or {"p50_ns": 0, "p99_ns": 0} for each in summaries]
    return Point(
        rate_per_s=load.rate_per_s,
        offered_per_s=sum(each["offered_per_s"] for each in summaries),
        goodput_per_s=sum(each["goodput_per_s"] for each in summaries),
        share_within_slo=good / max(sent, 1),
        client_p50_ms=max(each["p50_ns"] for each in latency) / MS,
        client_p99_ms=max(each["p99_ns"] for each in latency) / MS,
        log_share_within_slo=frame["deadline_met"].to_numpy().mean(),
        cores=meter.cores(first_ns, last_ns),
        **latencies(frame),
    )
