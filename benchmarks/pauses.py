"""Measures the longest pause of a controller that works at half of its capacity.

The controller's own watch asks for a timer every 10 ms and notes how late it comes; each interval
prints the percentiles, the maximum and the number of pauses above 5 ms. This runs a steady load,
reads those lines, and says what the longest pause was after the start-up.

A machine has pauses of its own. They are measured in the same run (`stalls.py`), and intervals in
which there were any are told apart: a pause in one of them may be the machine's. What a program
that does nothing but read the clock is kept from it (`alone`) is measured before and after.

    python benchmarks/pauses.py [--minutes 1] [--rate 32000] [--own-core] [--cores 0,1]
"""

import argparse
import json
import os
import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from load_point import latencies, read_log
from msgspec import Struct
from rig import Process, Rig, RigConfig, make_zoo, parse_cores, pin
from stalls import StallWatch, spin, stolen_ns

LINE: Final = re.compile(rb"Event loop lag p50=(\S+) p99=(\S+) max=(\S+) pauses=(\d+)\n")
PAUSE_MS_MAX: Final = 5.0
WARM_UP_S: Final = 12.0
"""Models are loaded and copied to all GPUs meanwhile."""
INTERVAL_S: Final = 2.0
"""Between two lines; shorter than the default, to tell intervals of a quiet machine apart."""
QUIET_NS: Final = 1_000_000
"""An interval without a longer stall of the machine, and without stolen time, counts as quiet."""
POLL_S: Final = 0.1


class Interval(Struct, frozen=True):
    """What one line says, and when; in ms."""

    begin_ns: int
    end_ns: int
    p99_ms: float
    max_ms: float
    pauses: int
    # Time that the machine lost to others.
    stolen_ms: float


def measure(options: argparse.Namespace, zoo: Path) -> dict[str, float]:
    """Return the figures of one run."""
    seconds = 60 * options.minutes
    environ = {"CLOCKWORK_MODEL_DIR": str(zoo), "CLOCKWORK_DISABLE_INPUTS": "1"}
    config = RigConfig(
        gpus=(options.gpus,),
        controller_arguments=(f"--interval={INTERVAL_S:g}s",),
        controller_has_core=options.own_core,
    )
    cores = sorted(os.sched_getaffinity(0))
    alone_ns = spin(cores, options.spin_seconds)
    watch = StallWatch(cores)
    with TemporaryDirectory(prefix="clockwork-bench-") as name:
        folder = Path(name)
        with watch, Rig(config, folder, environ=environ) as rig:
            times = (f"--warm-up={WARM_UP_S:g}s", f"--duration={seconds:g}s")
            client = rig.client(
                "poisson-open-loop", "100", str(options.rate), "--slo=100ms", *times
            )
            client.wait_for("Warm-up over")
            intervals = follow(client, rig.processes[0].output, cores)
            summary = json.loads(rig.json_of(client).read_text())
        figures = latencies(read_log(folder, seconds))
    alone_ns += spin(cores, options.spin_seconds)
    return figures | {
        "rate_per_s": summary["offered_per_s"],
        "share_within_slo": summary["good"] / summary["sent"],
        **lag_figures(intervals, watch),
        **alone_figures(alone_ns, core_seconds=2 * len(cores) * options.spin_seconds),
    }


def follow(client: Process, output: Path, cores: Sequence[int]) -> list[Interval]:
    """Return the intervals that a controller prints until a client has ended, but for the first."""
    intervals: list[Interval] = []
    begin_ns, stolen_before_ns = time.monotonic_ns(), stolen_ns(cores)
    with output.open("rb") as lines:
        lines.seek(0, os.SEEK_END)
        while True:
            is_over = has_ended(client)
            text = lines.read()
            # Half a line is read again.
            lines.seek(text.rfind(b"\n") + 1 - len(text), os.SEEK_CUR)
            for _, p99, largest, pauses in LINE.findall(text):
                end_ns, stolen_after_ns = time.monotonic_ns(), stolen_ns(cores)
                stolen_ms = (stolen_after_ns - stolen_before_ns) / 1e6
                lag = (float(p99), float(largest), int(pauses))
                intervals.append(Interval(begin_ns, end_ns, *lag, stolen_ms))
                begin_ns, stolen_before_ns = end_ns, stolen_after_ns
            if is_over:
                # The warm-up ended within the first one.
                return intervals[1:]


def has_ended(client: Process) -> bool:
    """Whether a client has ended, after a short wait; raise if it failed."""
    try:
        client.wait(POLL_S)
    except subprocess.TimeoutExpired:
        return False
    return True


def lag_figures(intervals: Sequence[Interval], watch: StallWatch) -> dict[str, float]:
    """Return the pauses of all intervals, and of those in which the machine was quiet."""
    # A line is seen a little after its interval has ended.
    seen_ns = round(2 * POLL_S * 1e9)
    stalls_ns = [watch.longest_ns(each.begin_ns - seen_ns, each.end_ns) for each in intervals]
    quiet = [
        each
        for each, stall_ns in zip(intervals, stalls_ns, strict=True)
        if stall_ns <= QUIET_NS and not each.stolen_ms and watch.stalls is not None
    ]
    return {
        "intervals": float(len(intervals)),
        "lag_p99_ms": max((each.p99_ms for each in intervals), default=0.0),
        "lag_max_ms": max((each.max_ms for each in intervals), default=0.0),
        "pauses": float(sum(each.pauses for each in intervals)),
        "machine_max_ms": max(stalls_ns, default=0) / 1e6,
        "machine_stolen_ms": sum(each.stolen_ms for each in intervals),
        "machine_pauses": float(sum(each > PAUSE_MS_MAX * 1e6 for each in stalls_ns)),
        "quiet_intervals": float(len(quiet)),
        "quiet_lag_max_ms": max((each.max_ms for each in quiet), default=0.0),
        "quiet_pauses": float(sum(each.pauses for each in quiet)),
    }


def alone_figures(gaps_ns: Sequence[int], *, core_seconds: float) -> dict[str, float]:
    """Return what a program that only reads the clock saw, for ten minutes on one core."""
    pauses = sum(gap_ns > PAUSE_MS_MAX * 1e6 for gap_ns in gaps_ns)
    return {
        "alone_max_ms": max(gaps_ns, default=0) / 1e6,
        "alone_pauses_in_10_min": pauses * 600 / core_seconds,
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=32_000.0, help="requests/s")
    parser.add_argument("--gpus", type=int, default=72)
    parser.add_argument("--cores", default="", help="cores for everything, as 0,1; default: all")
    parser.add_argument("--spin-seconds", type=float, default=30.0, help="before and after")
    parser.add_argument("--own-core", action="store_true", help="one for the controller alone")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    cores = parse_cores(options.cores)
    if options.own_core and len(cores) < 2:
        parser.error("--own-core needs two cores or more")
    pin(cores)
    with TemporaryDirectory(prefix="clockwork-zoo-") as name:
        figures = measure(options, make_zoo(Path(name) / "zoo"))
    for key, value in figures.items():
        print(f"{key:>22} = {value:,.3f}")
    print(f"limit: lag_max_ms {PAUSE_MS_MAX:g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
