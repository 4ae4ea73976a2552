"""Measures how many requests per second a Clockwork holds, everything on loopback of one machine.

Capacity is the highest open-loop Poisson rate at which at least 99.9 % of the requests for 100
models are answered within 100 ms, counted by the clients from the scheduled arrival. It is searched
by doubling and bisection; then the search is narrowed again several times, for best and median.
Latencies are those of the controller's request log; CPU time is that of the processes. In the same
run: the bare echo rate of the wire, goodput beyond capacity, capacity with inputs, and latency at
1,000 requests/s.

    python benchmarks/capacity.py [--cores 0,1] [--quick] [--json FILE]
"""

import argparse
import asyncio
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import echo
from build import how_built, is_compiled
from load_point import Load, Point, measure
from msgspec import Struct
from msgspec.structs import replace
from rig import Rig, RigConfig, make_zoo, parse_cores, pin

from clockwork.live.async_client import AsyncClient

SHARE: Final = 0.999
STEP: Final = 1.03
"""Bisection ends when a rate that fails is so close to one that holds."""
COMPRESSED_BYTES: Final = 95_000
"""What a made-up input of 602,112 bytes takes on the wire when it is compressed, about."""


class Search(Struct, frozen=True):
    """A search's outcome: the points that held at the highest rates, best first."""

    capacities_per_s: list[float]
    # At the median capacity.
    point: Point


class Bench:
    """What all measurements share."""

    def __init__(self, options: argparse.Namespace, zoo: Path, say: Callable[[str], None]):
        self.options = options
        self.zoo = zoo
        self.say = say

    def point(self, load: Load, *, gpus: int | None = None) -> Point:
        """Measure one point and print it."""
        config = self.config(gpus or self.options.gpus)
        load = replace(load, clients=self.options.clients, seconds=self.options.seconds)
        point = measure(config, load, zoo=self.zoo)
        self.say(line(point))
        return point

    def config(self, gpus: int) -> RigConfig:
        """Return a rig with so many emulated GPUs, split evenly over its workers."""
        workers = min(self.options.workers, gpus)
        shares = [gpus // workers + (index < gpus % workers) for index in range(workers)]
        return RigConfig(gpus=tuple(shares))

    def holds(self, load: Load) -> Point | None:
        """Return the point at a load if it holds, at the second try at the latest."""
        for seed in range(self.options.tries):
            point = self.point(replace(load, seed=load.seed + seed))
            if point.share_within_slo >= SHARE and point.offered_per_s > 0.98 * load.rate_per_s:
                return point
        return None

    def search(self, load: Load) -> Search:
        """Find the capacity for a kind of load, several times."""
        point, rate = self._first(load)
        found = [(rate, point)]
        for repeat in range(1, self.options.repeats):
            around = replace(load, seed=10 * repeat)
            found.append(self._bisect(around, found[0][0] / 1.1, found[0][0] * 1.1, point))
        found.sort(key=lambda each: each[0])
        median = found[len(found) // 2]
        return Search([rate for rate, _ in reversed(found)], median[1])

    def _first(self, load: Load) -> tuple[Point, float]:
        rate = load.rate_per_s
        low: tuple[float, Point] | None = None
        while (point := self.holds(replace(load, rate_per_s=rate))) is not None:
            low = (rate, point)
            rate *= 2
        if low is None:
            raise SystemExit(f"not even {rate:,.0f} requests/s hold: is the machine busy?")
        rate, point = self._bisect(load, low[0], rate, low[1])
        return point, rate

    def _bisect(self, load: Load, low: float, high: float, point: Point) -> tuple[float, Point]:
        """Return the highest rate that holds between one that should and one that should not."""
        while high / low > STEP:
            middle = (low * high) ** 0.5
            held = self.holds(replace(load, rate_per_s=middle))
            if held is None:
                high = middle
            else:
                low, point = middle, held
        return low, point


def line(point: Point) -> str:
    """Return what is printed of a point."""
    cpu = " ".join(f"{name}={cores:.2f}" for name, cores in point.cores.items() if "/" not in name)
    return (
        f"  {point.rate_per_s:>8,.0f}/s: goodput {point.goodput_per_s:>8,.0f}/s "
        f"{point.share_within_slo:8.3%} (log {point.log_share_within_slo:.3%}) "
        f"p50={point.p50_ms:.1f} p99={point.p99_ms:.1f} p99.99={point.p9999_ms:.1f} "
        f"max={point.max_ms:.1f} ms, client p99={point.client_p99_ms:.1f} ms; cores {cpu}"
    )


async def echo_rate(port: int, seconds: float) -> float:
    """Return echoes per second of the controller at `port`, with 1,000 requests in flight."""
    asker = await echo.ask(port, b"", 1000, seconds)
    return asker.answered / asker.elapsed_s


def controller_echo_rate(zoo: Path, seconds: float) -> float:
    """Return how many requests per second an ECHO controller answers one pipelined client."""

    async def ask(port: int) -> float:
        async with await AsyncClient.connect(f"127.0.0.1:{port}", timeout_s=30) as client:
            await client.load_model(str(zoo / "resnet50_v2"), 2)
            await client.models()
            return await echo_rate(port, seconds)

    with (
        TemporaryDirectory(prefix="clockwork-bench-") as name,
        Rig(RigConfig(policy="ECHO"), Path(name)) as rig,
    ):
        return asyncio.run(ask(rig.port))


def run(options: argparse.Namespace, say: Callable[[str], None]) -> dict[str, Any]:
    """Return all figures of one run."""
    with TemporaryDirectory(prefix="clockwork-zoo-") as name:
        zoo = make_zoo(Path(name) / "zoo")
        bench = Bench(options, zoo, say)
        say(how_built())
        figures: dict[str, Any] = {"is_compiled": is_compiled()}
        parts: dict[str, Callable[[Bench, dict[str, Any]], None]] = {
            "echo": _echo,
            "capacity": _capacity,
            "overload": _overload,
            "latency": _latency,
            "inputs": _inputs,
        }
        for part in options.parts or parts:
            parts[part](bench, figures)
    return figures


def _echo(bench: Bench, figures: dict[str, Any]) -> None:
    bench.say("Echo: the wire alone, and an ECHO controller, one pipelined client")
    wire = echo.measure(b"", 1000, 2.0)
    figures["echo_rps"] = round(wire.answered / wire.elapsed_s)
    figures["echo_controller_rps"] = round(controller_echo_rate(bench.zoo, 2.0))
    bench.say(f"  {figures['echo_rps']:,}/s and {figures['echo_controller_rps']:,}/s")


def _capacity(bench: Bench, figures: dict[str, Any]) -> None:
    options = bench.options
    bench.say(f"Capacity: 100 models on {options.gpus} emulated GPUs, no inputs")
    search = bench.search(Load(rate_per_s=options.start))
    point = search.point
    figures |= {
        "goodput_rps": round(point.goodput_per_s),
        "share_within_slo": round(point.share_within_slo, 5),
        "p50_ms": round(point.p50_ms, 3),
        "p99_ms": round(point.p99_ms, 3),
        "p9999_ms": round(point.p9999_ms, 3),
        "max_ms": round(point.max_ms, 3),
        "controller_cpu_us_per_request": round(point.controller_us, 2),
        "capacity_best_rps": round(search.capacities_per_s[0]),
        "capacity_median_rps": round(statistics.median(search.capacities_per_s)),
        "cpu_s_per_1000_requests": {
            name: round(cores * 1000 / point.offered_per_s, 4)
            for name, cores in point.cores.items()
        },
    }
    if "echo_rps" in figures:
        figures["share_of_echo"] = round(figures["goodput_rps"] / figures["echo_rps"], 4)


def _overload(bench: Bench, figures: dict[str, Any]) -> None:
    capacity = figures.get("capacity_median_rps", bench.options.start)
    bench.say(f"Overload: beyond {capacity:,.0f}/s")
    base = bench.point(Load(rate_per_s=capacity))
    for factor in (2, 5):
        points = [
            bench.point(Load(rate_per_s=capacity * factor, seed=seed))
            for seed in range(bench.options.repeats)
        ]
        shares = sorted(point.goodput_per_s / base.goodput_per_s for point in points)
        figures[f"overload_{factor}x_share_of_peak"] = round(shares[-1], 3)
        figures[f"overload_{factor}x_share_of_peak_median"] = round(shares[len(shares) // 2], 3)


def _latency(bench: Bench, figures: dict[str, Any]) -> None:
    bench.say("Latency: 1,000 requests/s, 100 models, 8 emulated GPUs")
    points = [bench.point(Load(rate_per_s=1000), gpus=8) for _ in range(bench.options.repeats)]
    figures["p50_at_1000_rps_ms"] = round(statistics.median(each.p50_ms for each in points), 3)
    figures["client_p50_at_1000_rps_ms"] = round(
        statistics.median(each.client_p50_ms for each in points), 3
    )


def _inputs(bench: Bench, figures: dict[str, Any]) -> None:
    memcpy = echo.memcpy_bytes_per_s(1.0)
    figures["memcpy_mb_per_s"] = round(memcpy / 1e6)
    for name, size_bytes in (("raw", echo.IMAGE_BYTES), ("compressed", COMPRESSED_BYTES)):
        bench.say(f"Capacity with {name} inputs of {size_bytes:,} bytes")
        load = Load(rate_per_s=500, sends_inputs=True, compresses=name == "compressed")
        search = bench.search(load)
        goodput = search.point.goodput_per_s
        figures |= {
            f"{name}_inputs_best_rps": round(search.capacities_per_s[0]),
            f"{name}_inputs_median_rps": round(statistics.median(search.capacities_per_s)),
            f"{name}_inputs_mb_per_s": round(goodput * size_bytes / 1e6),
            # Each input goes client -> controller -> worker.
            f"{name}_inputs_share_of_memcpy": round(2 * goodput * size_bytes / memcpy, 3),
        }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cores", default="0,1", help="cores for everything")
    parser.add_argument("--gpus", type=int, default=72, help="emulated GPUs")
    parser.add_argument("--workers", type=int, default=1, help="worker processes")
    parser.add_argument("--clients", type=int, default=1, help="client processes")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each point")
    parser.add_argument("--start", type=float, default=10_000.0, help="first rate")
    parser.add_argument("--repeats", type=int, default=5, help="of each search")
    parser.add_argument("--tries", type=int, default=2, help="a rate may fail before it counts")
    parser.add_argument("--quick", action="store_true", help="one search, short points")
    parser.add_argument(
        "--parts", nargs="+", choices=("echo", "capacity", "overload", "latency", "inputs")
    )
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    if options.quick:
        options.repeats, options.seconds, options.tries = 1, 4.0, 1
    pin(parse_cores(options.cores))
    figures = run(options, lambda text: print(text, flush=True))
    for name, value in figures.items():
        print(f"{name:>32} = {value}")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
