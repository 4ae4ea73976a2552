"""Measures the longest pause of a controller that works at about half of its capacity.

The controller's own watch asks for a timer every 10 ms and notes how late it comes; each interval
prints the percentiles, the maximum and the number of pauses above 5 ms. This runs a steady load,
reads those lines, and says what the longest pause was after the first interval (start-up).

    python benchmarks/pauses.py [--minutes 1] [--rate 12500] [--cores 0,1] [--json FILE]
"""

import argparse
import json
import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from load_point import latencies, read_log
from rig import Rig, RigConfig, make_zoo, parse_cores, pin

LINE: Final = re.compile(r"Event loop lag p50=(\S+) p99=(\S+) max=(\S+) pauses=(\d+)")
PAUSE_MS_MAX: Final = 5.0
WARM_UP_S: Final = 12.0
"""More than one interval: models are loaded and copied to all GPUs meanwhile."""


def measure(options: argparse.Namespace, zoo: Path) -> dict[str, float]:
    """Return the figures of one run."""
    seconds = 60 * options.minutes
    environ = {"CLOCKWORK_MODEL_DIR": str(zoo), "CLOCKWORK_DISABLE_INPUTS": "1"}
    with TemporaryDirectory(prefix="clockwork-bench-") as name:
        folder = Path(name)
        with Rig(RigConfig(gpus=(options.gpus,)), folder, environ=environ) as rig:
            times = (f"--warm-up={WARM_UP_S:g}s", f"--duration={seconds:g}s")
            client = rig.client(
                "poisson-open-loop", "100", str(options.rate), "--slo=100ms", *times
            )
            client.wait_for("Warm-up over")
            # The interval in which the warm-up ends is left out.
            skipped = len(lags(rig.processes[0].output)) + 1
            client.wait(seconds + 60)
            summary = json.loads(rig.json_of(client).read_text())
            rows = lags(rig.processes[0].output)[skipped:]
        figures = latencies(read_log(folder, seconds))
    return figures | {
        "rate_per_s": summary["offered_per_s"],
        "share_within_slo": summary["good"] / summary["sent"],
        "intervals": float(len(rows)),
        "lag_p99_ms": max((p99 for _, p99, _, _ in rows), default=0.0),
        "lag_max_ms": max((largest for _, _, largest, _ in rows), default=0.0),
        "pauses": sum(count for _, _, _, count in rows),
    }


def lags(output: Path) -> list[tuple[float, ...]]:
    """Return p50, p99, max (ms) and pauses of each interval that was printed."""
    return [tuple(map(float, found)) for found in LINE.findall(output.read_text())]


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--rate", type=float, default=12_500.0, help="requests/s")
    parser.add_argument("--gpus", type=int, default=60)
    parser.add_argument("--cores", default="", help="cores for everything, as 0,1; default: all")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    pin(parse_cores(options.cores))
    with TemporaryDirectory(prefix="clockwork-zoo-") as name:
        figures = measure(options, make_zoo(Path(name) / "zoo"))
    for key, value in figures.items():
        print(f"{key:>18} = {value:,.3f}")
    print(f"limit: lag_max_ms {PAUSE_MS_MAX:g}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
