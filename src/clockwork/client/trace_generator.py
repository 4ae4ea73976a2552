"""Makes synthetic traces that look like a day of Azure Functions, for those without the data.

What is reproduced, and from where:

- Popularity is heavy-tailed: `POPULARITY` gives calls per hour by rarity, through the published
  quantiles of the 2019 data set (45 % of applications are called at most once an hour, 81 % at most
  once a minute) and, beyond them, through a public sample of 500 functions.
- Triggers: published shares of functions and of calls. Timers are many and slow; the hottest
  functions hang on events, queues and HTTP.
- Timers fire at a fixed period of whole minutes with a fixed number of calls.
- A daily shape: most functions barely follow the day, HTTP functions do.
- Bursts: some functions are silent most of the time.

Source: Shahrad et al., "Serverless in the Wild", USENIX ATC 2020, sections 3.2 to 3.4.

Cost: about a microsecond per function and minute.
"""

from array import array
from bisect import bisect_left
from itertools import accumulate
from math import exp, log10, pi, sin, sqrt
from random import Random
from typing import Final

from clockwork.client.azure import Trace, TraceFunction, ordered
from clockwork.client.workload import TraceReplay
from clockwork.errors import ConfigurationError
from clockwork.units import MINUTE

DAY_MINUTES: Final = 1440
POPULARITY: Final = (
    (0.0, -1.4),
    (0.26, 0.0),
    (0.72, 1.78),
    (1.4, 2.9),
    (2.0, 3.9),
    (3.0, 5.35),
    (4.6, 6.9),
)
"""Rarity (decimal logarithm of one in how many functions) to that of calls per hour."""
FUNCTION_SHARES: Final = {
    "http": 0.550,
    "timer": 0.156,
    "queue": 0.152,
    "orchestration": 0.069,
    "storage": 0.028,
    "event": 0.022,
    "others": 0.022,
}
"""Of functions, by trigger (Shahrad et al., Figure 3)."""
CALL_SHARES: Final = {
    "http": 0.359,
    "timer": 0.020,
    "queue": 0.335,
    "orchestration": 0.023,
    "storage": 0.007,
    "event": 0.247,
    "others": 0.010,
}
"""Of calls, by trigger (the same figure)."""
HOT_PER_HOUR: Final = 60.0
"""Above this, triggers are drawn by their share of calls."""
TIMER_PERIODS: Final = (1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 360, 720, 1440)
"""Minutes: the periods that timers of the sample have."""
BURSTY_SHARE: Final = 0.25
"""Of functions that are no timers (chosen so that dispersion resembles the sample)."""
BURSTY_PER_MINUTE_MAX: Final = 100.0
"""Functions that are called oftener never pause in the sample."""
PEAK_MINUTE: Final = 14 * 60
"""The data set is busiest at 13 to 15 h."""


def generate(*, functions: int, minutes: int, seed: int, first_minute: int = 0) -> Trace:
    """Return a synthetic trace; equal arguments give equal traces.

    Args:
        first_minute: of the day, at which the trace begins.

    Raises:
        ConfigurationError: there is to be nothing.
    """
    if functions < 1 or minutes < 1:
        raise ConfigurationError(
            f"a trace needs at least 1 function and 1 minute, not {functions} and {minutes}"
        )
    made = [
        _function(index, functions=functions, minutes=minutes, first=first_minute, seed=seed)
        for index in range(functions)
    ]
    return Trace(
        source=f"synthetic, {functions} functions, {minutes} minutes, seed {seed}",
        period_ns=minutes * MINUTE,
        functions=ordered(made),
    )


def calls_per_hour(rarity: float) -> float:
    """Return how often a function is called that only one in 10^rarity exceeds."""
    last = len(POPULARITY) - 1
    place = bisect_left(POPULARITY, rarity, 1, last, key=lambda point: point[0])
    (left, low), (right, high) = POPULARITY[place - 1], POPULARITY[place]
    return float(10 ** (low + (high - low) * (rarity - left) / (right - left)))


def _function(index: int, *, functions: int, minutes: int, first: int, seed: int) -> TraceFunction:
    rng = Random(f"{seed}:function:{index}")
    # One function per slice of the distribution: even small traces have its shape.
    rarity = -log10((index + rng.random()) / functions + 1e-9)
    per_minute = calls_per_hour(max(rarity, 0.0)) / 60
    trigger = _trigger(per_minute * 60, rng)
    if trigger == "timer":
        counts = _timer(per_minute, minutes, rng)
    else:
        amplitude = rng.uniform(0.0, 0.6) if trigger == "http" else rng.uniform(0.0, 0.1)
        counts = _calls(per_minute, minutes, first=first, amplitude=amplitude, rng=rng)
    return TraceFunction(
        name=f"owner{index % 97:02d} app{index // 3:05d} function{index:06d}",
        trigger=trigger,
        total=sum(counts),
        arrivals=TraceReplay(counts=counts, interval_ns=MINUTE),
    )


def _trigger(per_hour: float, rng: Random) -> str:
    shares = CALL_SHARES if per_hour > HOT_PER_HOUR else FUNCTION_SHARES
    cumulative = list(accumulate(shares.values()))
    place = bisect_left(cumulative, rng.random() * cumulative[-1])
    return list(shares)[place]


def _timer(per_minute: float, minutes: int, rng: Random) -> "array[int]":
    """Return counts of a timer whose period is the nearest to its rate."""
    wanted = 1 / per_minute
    period = min(TIMER_PERIODS, key=lambda each: abs(each - wanted))
    calls = max(1, round(per_minute * period))
    counts = array("I", bytes(4 * minutes))
    for minute in range(rng.randrange(period), minutes, period):
        counts[minute] = calls
    return counts


def _calls(
    per_minute: float, minutes: int, *, first: int, amplitude: float, rng: Random
) -> "array[int]":
    """Return Poisson counts around the daily shape, in bursts for some functions."""
    is_bursty = rng.random() < BURSTY_SHARE and per_minute <= BURSTY_PER_MINUTE_MAX
    active = rng.uniform(0.05, 0.5) if is_bursty else 1.0
    burst_mean = rng.uniform(2.0, 30.0)
    counts = array("I", bytes(4 * minutes))
    # The rate wanders a little from minute to minute: hot functions are not Poisson.
    noise = rng.uniform(0.05, 0.25)
    is_on, left = rng.random() < active, rng.expovariate(1 / burst_mean)
    for minute in range(minutes):
        left -= 1
        if active < 1 and left < 0:
            is_on = not is_on
            mean = burst_mean if is_on else burst_mean * (1 - active) / active
            left = rng.expovariate(1 / mean)
        if is_on:
            phase = 2 * pi * (first + minute - PEAK_MINUTE) / DAY_MINUTES
            shape = 1 + amplitude * sin(phase + pi / 2)
            mean_calls = per_minute / active * shape * max(0.0, rng.gauss(1.0, noise))
            counts[minute] = _poisson(mean_calls, rng)
    return counts


def _poisson(mean: float, rng: Random) -> int:
    """Return a Poisson number; a rounded normal one where they hardly differ."""
    if mean > 50:
        return max(0, round(rng.gauss(mean, sqrt(mean))))
    limit, product, count = exp(-mean), rng.random(), 0
    while product > limit:
        product *= rng.random()
        count += 1
    return count
