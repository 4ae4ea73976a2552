"""Measures `clockwork report` on a long run: time, peak memory, ratio to merely parsing the logs.

Writes logs of 5,000,000 requests and 2,500,000 actions of 4,000 models (0.6 GB) to a temporary
folder, unless told otherwise, and reads them in a process of its own:

    python benchmarks/report.py [--requests 5000000] [--folder DIR] [--json FILE]
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
import polars as pl

from clockwork.messages.records import ActionRecord, RequestRecord
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG
from clockwork.units import MS, SECOND, US

RATE_PER_S: Final = 5_000
MODELS: Final = 4_000
GPUS: Final = 12
BLOCK_ROWS: Final = 1_000_000
START_NS: Final = 1_700_000_000 * SECOND
READ: Final = (
    "import sys, pathlib; from clockwork.telemetry.report import read_report; "
    "read_report(pathlib.Path(sys.argv[1]))"
)
PARSE: Final = (
    "import sys, pathlib, polars\n"
    "for path in pathlib.Path(sys.argv[1]).glob('*.tsv'):\n"
    "    polars.scan_csv(path, separator='\\t').sum().collect(engine='streaming')"
)
"""Every column of both logs becomes numbers and is looked at once."""

Columns = dict[str, np.ndarray | int | float]


def main() -> None:
    """Write the logs, report them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5_000_000)
    parser.add_argument("--folder", type=Path, help="Write logs here and keep them.")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        write_logs(folder, options.requests)
        figures = measure(folder, options.requests)
    for name, value in figures.items():
        print(f"{name:24} {value:12.2f}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2))


def measure(folder: Path, requests: int) -> dict[str, float]:
    """Return time and memory of the report, and of merely parsing the same two files."""
    parse_s, parse_peak_mb = run(PARSE, folder)
    read_s, peak_mb = run(READ, folder)
    size_mb = sum(path.stat().st_size for path in folder.glob("*.tsv")) / 1e6
    return {
        "requests": float(requests),
        "log_mb": size_mb,
        "report_s": read_s,
        "report_peak_mb": peak_mb,
        "parse_s": parse_s,
        "parse_peak_mb": parse_peak_mb,
        "report_by_parse": read_s / parse_s,
    }


def run(program: str, folder: Path) -> tuple[float, float]:
    """Return seconds and peak memory (MB) of a Python process."""
    started_s = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program, str(folder)])
    _, status, usage = os.wait4(process.pid, 0)
    taken_s = time.perf_counter() - started_s
    # It was waited for here: this keeps it from being waited for again.
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"exit code {process.returncode}"
    return taken_s, usage.ru_maxrss / 1e3


def write_logs(folder: Path, requests: int) -> None:
    """Write logs of a run at a steady rate, block by block."""
    rng = np.random.default_rng(1)
    for log, make, share in ((REQUEST_LOG, request_columns, 1), (ACTION_LOG, action_columns, 2)):
        with (folder / log).open("wb") as file:
            total = requests // share
            for first in range(0, total, BLOCK_ROWS):
                count = min(BLOCK_ROWS, total - first)
                sent = START_NS + first * share * SECOND // RATE_PER_S
                gaps = rng.exponential(share * SECOND / RATE_PER_S, count)
                columns = make(rng, sent + np.cumsum(gaps).astype(np.int64), first)
                pl.DataFrame(columns).write_csv(file, separator="\t", include_header=first == 0)


def request_columns(rng: np.random.Generator, t: np.ndarray, first: int) -> Columns:
    """Return the columns of requests that arrive at `t`."""
    is_cold = rng.random(len(t)) < 0.01
    latency = (rng.lognormal(1.5, 0.4, len(t)) * MS).astype(np.int64) + is_cold * 9 * MS
    has_failed = rng.random(len(t)) < 1e-4
    columns: Columns = {
        "t": t,
        "request_id": first + np.arange(len(t)),
        "result": has_failed * 4,
        "user_id": rng.integers(0, 5, len(t)),
        "model_id": models(rng, len(t)),
        "slo_factor": 0.0,
        "latency": latency,
        "deadline": 100 * MS,
        "deadline_met": (~has_failed & (latency <= 100 * MS)).astype(np.int64),
        "arrival_count": (~is_cold).astype(np.int64),
        "departure_count": 1,
        "is_coldstart": is_cold.astype(np.int64),
    }
    assert tuple(columns) == RequestRecord.__struct_fields__
    return columns


def action_columns(rng: np.random.Generator, t: np.ndarray, first: int) -> Columns:
    """Return the columns of actions that are sent at `t`; one in twenty is a load."""
    count = len(t)
    is_load = rng.random(count) < 0.05
    batch_size = np.where(is_load, 1, 2 ** rng.choice(5, count, p=[0.5, 0.25, 0.15, 0.07, 0.03]))
    expected = np.where(is_load, 8_300 * US, 2_300 * US + 500 * US * batch_size)
    measured = expected + rng.laplace(0, 30 * US, count).astype(np.int64)
    waited = rng.exponential(2 * MS, count).astype(np.int64)
    columns = dict.fromkeys(ActionRecord.__struct_fields__, 0) | {
        "t": t,
        "action_id": first + np.arange(count),
        "action_type": np.where(is_load, 1, 2),
        "worker_id": rng.integers(0, GPUS, count),
        "model_id": models(rng, count),
        "batch_size": batch_size,
        "expected_exec_duration": expected,
        "worker_exec_duration": measured,
        "expected_exec_complete": waited + expected,
        "worker_exec_complete": waited + measured,
        "controller_action_duration": waited + measured + 200 * US,
        "goodput": 1.0,
    }
    assert tuple(columns) == ActionRecord.__struct_fields__
    return columns


def models(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return models of requests: few have most of them."""
    return np.minimum(rng.zipf(1.3, count), MODELS) - 1


if __name__ == "__main__":
    main()
