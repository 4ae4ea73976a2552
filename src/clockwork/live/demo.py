"""The demonstration: real models, a weights cache for a third of them, and every promise kept.

Stages: build the models (kept for the next time), serve them, warm up and measure, send for a
while at a rate that suits this machine, stop, sum up.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TextIO

import msgspec
from msgspec import Struct

from clockwork.errors import ConnectionLostError
from clockwork.live.async_client import AsyncClient
from clockwork.live.demo_figures import (
    EvictionCounter,
    Outcome,
    Summary,
    percentiles,
    share,
    summarise_model,
)
from clockwork.live.demo_models import DEMO_MODELS, DemoInputs, build_models, profile
from clockwork.live.demo_plan import Stream, cache_pages, plan_arrivals, plan_streams
from clockwork.live.demo_run import DemoRun
from clockwork.live.serve import Offer, ServeConfig, Serving
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG
from clockwork.units import MIB, format_bytes

PAGE_BYTES: Final = 4 * MIB
"""Chosen: the demonstration's cache is small, and pages of 16 MiB would waste a quarter of it."""
CORES: Final = 1
"""Cores of the one device; the other one of a small machine is for controller and client."""

Say = Callable[[str], None]


class DemoConfig(Struct, frozen=True, kw_only=True):
    """What a user may choose."""

    # Gets summary.json and the logs.
    out: Path
    # Where the models are kept.
    models: Path
    duration_s: float = 20.0
    seed: int = 1


async def run_demo(config: DemoConfig, say: Say) -> Summary:
    """Build what is missing, serve, send, stop; write ``summary.json`` and return it.

    Raises:
        ClockworkError: something did not start, or a model cannot be built.
    """
    inputs = DemoInputs()
    build_models(config.models, say)
    logs = config.out / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    pages = _pages_by_copy(config.models)
    cache = cache_pages(pages)
    say(
        f"Serving {len(pages)} models of {format_bytes(sum(pages) * PAGE_BYTES)} "
        f"from a weights cache of {format_bytes(cache * PAGE_BYTES)}"
    )
    evictions = EvictionCounter(logs / ACTION_LOG)
    with (logs / "serve.log").open("w", encoding="utf-8") as console:
        serving = Serving(_serve_config(config.models, logs, cache), _writer(console))
        async with serving, await AsyncClient.connect(serving.address) as client:
            run = DemoRun(client, inputs, evictions)
            streams = plan_streams(DEMO_MODELS, await run.warm_up())
            arrivals = plan_arrivals(streams, duration_s=config.duration_s, seed=config.seed)
            warm_up_evictions = evictions.read()
            say(
                f"Sending {len(arrivals)} requests in {config.duration_s:g} s; promises "
                f"{_promises(streams)}"
            )
            duration_s = await run.send(streams, arrivals, say)
    summary = _summarise(
        run,
        streams,
        sent=len(arrivals),
        duration_s=duration_s,
        evictions=evictions.read() - warm_up_evictions,
        logged=_row_count(logs / REQUEST_LOG),
        cache_share=share(cache, sum(pages)),
    )
    encoded = msgspec.json.format(msgspec.json.encode(summary), indent=2)
    (config.out / "summary.json").write_bytes(encoded + b"\n")
    return summary


def _pages_by_copy(models: Path) -> list[int]:
    return [
        profile(models / model.name, page_bytes=PAGE_BYTES, cores=CORES).weights_pages
        for model in DEMO_MODELS
        for _ in range(model.copies)
    ]


def _serve_config(models: Path, logs: Path, cache: int) -> ServeConfig:
    return ServeConfig(
        offers=tuple(
            Offer(str((models / model.name).resolve()), model.copies) for model in DEMO_MODELS
        ),
        host="127.0.0.1",
        port=0,
        worker_arguments=(
            f"--cores-per-gpu={CORES}",
            f"--weights-cache-size={cache * PAGE_BYTES}",
            f"--weights-cache-page-size={PAGE_BYTES}",
            "--interval=1s",
        ),
        controller_arguments=(f"--log-dir={logs.resolve()}", "--interval=1s"),
    )


def _writer(console: TextIO) -> Callable[[str, str], None]:
    def write(name: str, line: str) -> None:
        console.write(f"{name:<10} | {line}\n")

    return write


def _promises(streams: Sequence[Stream]) -> str:
    slos = [stream.slo_ms for stream in streams]
    return f"{min(slos)} to {max(slos)} ms"


def _summarise(
    run: DemoRun,
    streams: Sequence[Stream],
    *,
    sent: int,
    duration_s: float,
    evictions: int,
    logged: int,
    cache_share: float,
) -> Summary:
    outcomes = run.outcomes
    lost = ConnectionLostError.__name__
    latency = percentiles(outcomes)
    read = [each.is_right for each in outcomes if each.is_right is not None]
    slo_by_name = {stream.name: stream.slo_ms for stream in streams}
    by_name: dict[str, list[Outcome]] = {name: [] for name in slo_by_name}
    for outcome in outcomes:
        by_name[outcome.name].append(outcome)
    return Summary(
        requests=sent,
        answered=sum(each.problem != lost for each in outcomes),
        goodput_share=share(sum(each.is_in_time for each in outcomes), sent),
        accuracy=share(sum(read), len(read)),
        cold_starts=sum(each.is_cold for each in outcomes),
        evictions=evictions,
        p50_ms=latency.p50_ms,
        p99_ms=latency.p99_ms,
        max_ms=latency.max_ms,
        duration_s=round(duration_s, 3),
        requests_per_s=round(sent / duration_s, 1),
        logged=logged,
        warm_up=run.warm_up_count,
        cache_share=cache_share,
        problems=dict(Counter(each.problem for each in outcomes if each.problem)),
        models=[
            summarise_model(name, of_model, slo_ms=slo_by_name[name])
            for name, of_model in by_name.items()
        ],
    )


def _row_count(path: Path) -> int:
    """Return the rows of a log, without its header; 0 if it was not written."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        return sum(1 for _ in file) - 1
