"""Trace files of both published formats, resampling, synthetic traces, and real samples."""

from array import array
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
from client_stage import ClientWorld

from clockwork.client.azure import (
    ReplayOptions,
    Trace,
    TraceFunction,
    in_blocks,
    ordered,
    played,
    resampled,
)
from clockwork.client.trace_generator import calls_per_hour, generate
from clockwork.client.trace_statistics import describe, lines_of
from clockwork.client.workload import ModelSet, Recorded, TraceReplay, Workload
from clockwork.errors import ConfigurationError
from clockwork.live.trace_files import find_trace, read_trace, write_trace
from clockwork.units import MINUTE, SECOND

SAMPLES = Path(__file__).parents[3] / "shared" / "data" / "traces"
HEADER = "HashOwner,HashApp,HashFunction,Trigger"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="needs the samples of real traces")


def counts_of(function: TraceFunction) -> list[int]:
    """Return the counts of a function that has some."""
    assert isinstance(function.arrivals, TraceReplay)
    return list(function.arrivals.counts)


def write(path: Path, *lines: str) -> Path:
    """Write lines to a file and return its path."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_counts_per_minute_are_read_with_any_run_of_minutes(tmp_path: Path) -> None:
    """Functions come by total, of equal ones the later first; those without calls are left out."""
    path = write(
        tmp_path / "trace.csv",
        f"{HEADER},480,481,482",
        "o1,a1,f1,http,1,2,3",
        "o2,a2,f2,timer,0,0,0",
        "o3,a3,f3,queue,10,0,0",
        "o4,a4,f4,http,2,2,2",
    )
    trace = read_trace(path)
    assert trace.period_ns == 3 * MINUTE
    assert [function.name for function in trace.functions] == ["o3 a3 f3", "o4 a4 f4", "o1 a1 f1"]
    assert [function.total for function in trace.functions] == [10, 6, 6]
    assert counts_of(trace.functions[2]) == [1, 2, 3]
    assert trace.functions[0].trigger == "queue"
    assert trace.total == 22


def test_recorded_calls_are_played_when_they_began(tmp_path: Path) -> None:
    """A call begins its duration before its end; the first one begins the trace."""
    path = write(
        tmp_path / "trace.csv",
        "app,func,end_timestamp,duration",
        "a,f,10.5,0.5",
        "a,f,12.0,3.0",
        "a,g,70.25,0.0",
    )
    trace = read_trace(path)
    first, second = trace.functions
    assert isinstance(first.arrivals, Recorded)
    assert isinstance(second.arrivals, Recorded)
    assert list(first.arrivals.offsets_ns) == [0, SECOND]
    assert list(second.arrivals.offsets_ns) == [round(61.25 * SECOND)]
    assert trace.period_ns == first.arrivals.period_ns == 2 * MINUTE


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b,c"], r"trace.csv:1: no trace"),
        ([], r"trace.csv:1: no trace"),
        ([HEADER], r"trace.csv:1: no trace"),
        ([f"{HEADER},1,2", "o,a,f,http,1,2", "o,a,f,http,1"], r":3: 5 columns, the header has 6"),
        ([f"{HEADER},1", "o,a,f,http,x"], r":2: a count is no whole number"),
        ([f"{HEADER},1", "o,a,f,http,-1"], r":2: a count is no whole number"),
        (["app,func,end_timestamp,duration", "a,f,x,1"], r":2: expected an app"),
        (["app,func,end_timestamp,duration", "a,f,1"], r":2: expected an app"),
    ],
)
def test_a_broken_file_is_refused_with_its_line(
    tmp_path: Path, lines: list[str], message: str
) -> None:
    """The message names the file, the line, and what was expected."""
    with pytest.raises(ConfigurationError, match=message):
        read_trace(write(tmp_path / "trace.csv", *lines))


def test_a_file_without_calls_is_an_empty_trace(tmp_path: Path) -> None:
    """Both formats may have no rows."""
    assert read_trace(write(tmp_path / "a.csv", f"{HEADER},1")).functions == ()
    assert read_trace(write(tmp_path / "b.csv", "app,func,end_timestamp,duration")).functions == ()


def test_a_day_is_found_under_either_name(tmp_path: Path) -> None:
    """The older release's name comes first."""
    new = write(tmp_path / "invocations_per_function_md.anon.d03.csv", "x")
    assert find_trace(str(tmp_path), 3) == new
    old = write(tmp_path / "invocations_per_function_md.svls.anon.d03.csv", "x")
    assert find_trace(str(tmp_path), 3) == old


def test_what_is_missing_of_the_data_set_is_named(tmp_path: Path) -> None:
    """The directory, the day and the file are checked in turn."""
    with pytest.raises(ConfigurationError, match="AZURE_TRACE_DIR is not set"):
        find_trace(None, 1)
    with pytest.raises(ConfigurationError, match="trace is 15, allowed: 1 to 14"):
        find_trace(str(tmp_path), 15)
    with pytest.raises(ConfigurationError, match=r"anon.d02.csv"):
        find_trace(str(tmp_path), 2)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    """A synthetic trace survives the file, but for functions that are never called."""
    trace = generate(functions=50, minutes=30, seed=3)
    path = tmp_path / "trace.csv"
    write_trace(trace, path, first_minute=480)
    assert path.read_text(encoding="utf-8").startswith(f"{HEADER},480,481,")
    again = read_trace(path)
    assert again.total == trace.total
    assert again.period_ns == trace.period_ns
    called = [function for function in trace.functions if function.total]
    assert sorted(counts_of(each) for each in again.functions) == sorted(map(counts_of, called))


def test_recorded_calls_cannot_be_written_as_counts(tmp_path: Path) -> None:
    """The 2019 format has no instants."""
    trace = Trace("x", MINUTE, (TraceFunction("f", "", 1, Recorded((0,), MINUTE)),))
    with pytest.raises(ConfigurationError, match="calls, not counts"):
        write_trace(trace, tmp_path / "trace.csv")


def test_resampling_shifts_further_uses_of_a_function(tmp_path: Path) -> None:
    """More functions keep totals and popularity; the seed decides the shifts."""
    trace = generate(functions=20, minutes=60, seed=1)
    more = resampled(trace, 50, seed=5)
    assert len(more.functions) == 50
    assert Counter(each.total for each in more.functions) == Counter(
        total
        for index, total in enumerate([each.total for each in trace.functions] * 3)
        if index < 50
    )
    starts = [each.arrivals.start for each in more.functions]  # type: ignore[union-attr]
    assert sum(start == 0 for start in starts) < 25
    assert more == resampled(trace, 50, seed=5)
    assert more != resampled(trace, 50, seed=6)
    assert "20 functions resampled to 50" in more.source


def test_resampling_to_fewer_functions_keeps_the_shape() -> None:
    """Every so manieth function is kept, the most popular one too."""
    trace = generate(functions=100, minutes=60, seed=1)
    fewer = resampled(trace, 10, seed=0)
    assert [each.name for each in fewer.functions] == [
        each.name for each in ordered(trace.functions[::10])
    ]


def test_recorded_functions_are_shifted_around_the_trace() -> None:
    """Offsets wrap and stay sorted."""
    recorded = Recorded((0, SECOND, 50 * SECOND), MINUTE)
    trace = Trace("x", MINUTE, (TraceFunction("f", "", 3, recorded),))
    shifted = resampled(trace, 2, seed=1).functions
    offsets = [list(each.arrivals.offsets_ns) for each in shifted]  # type: ignore[union-attr]
    assert sorted(offsets[0]) == offsets[0]
    assert sorted(offsets[1]) == offsets[1]
    assert offsets[0] != offsets[1]
    gaps = [
        sorted((later - earlier) % MINUTE for earlier, later in pairwise([*each, each[0]]))
        for each in offsets
    ]
    assert gaps[0] == gaps[1]


def test_an_empty_trace_cannot_be_resampled() -> None:
    """There is nothing to shift."""
    with pytest.raises(ConfigurationError, match="no functions to resample"):
        resampled(Trace("x", MINUTE, ()), 5, seed=0)


def test_stretching_keeps_the_requests_and_changes_the_rate() -> None:
    """Twice as long at half the rate."""
    function = TraceFunction("f", "", 6, TraceReplay(array("I", [6])))
    stretched = played(function, ReplayOptions(stretch=2.0, scale=3.0))
    assert isinstance(stretched, TraceReplay)
    assert (stretched.interval_ns, stretched.scale) == (2 * MINUTE, 1.5)


def test_popularity_goes_through_the_published_quantiles() -> None:
    """55 % of functions are called more than once an hour, 19 % more than once a minute."""
    assert calls_per_hour(0.26) == pytest.approx(1)
    assert calls_per_hour(0.72) == pytest.approx(60, rel=0.01)
    assert calls_per_hour(3.0) > 1e5


def test_a_synthetic_trace_resembles_the_published_statistics() -> None:
    """Heavy tail, published quantiles and triggers, timers, and a little dispersion."""
    figures = describe(generate(functions=1000, minutes=480, seed=7, first_minute=480))
    assert figures.hourly_share == pytest.approx(0.45, abs=0.03)
    assert figures.minutely_share == pytest.approx(0.81, abs=0.03)
    assert figures.top_share > 0.25
    assert figures.top_10_share > 0.8
    assert figures.top_decile_share > 0.97
    assert figures.triggers["http"][0] == pytest.approx(0.5, abs=0.08)
    assert figures.triggers["timer"][0] == pytest.approx(0.13, abs=0.05)
    assert figures.triggers["timer"][1] < 0.05
    assert 0.03 < figures.periodic_share < 0.3
    assert 0.03 < figures.total_variation < 0.5


def test_equal_seeds_make_equal_traces() -> None:
    """A synthetic trace can be made again."""
    make = {seed: generate(functions=20, minutes=20, seed=seed) for seed in (1, 2)}
    assert make[1] == generate(functions=20, minutes=20, seed=1)
    assert make[1] != make[2]


def test_a_trace_of_nothing_cannot_be_made() -> None:
    """At least one function and one minute."""
    with pytest.raises(ConfigurationError, match="not 0 and 5"):
        generate(functions=0, minutes=5, seed=0)


def test_a_description_has_a_line_per_figure(tmp_path: Path) -> None:
    """Totals, shares and triggers can be read off."""
    path = write(
        tmp_path / "trace.csv",
        f"{HEADER},1,2,3,4",
        "o,a,f1,timer,1,0,1,0",
        "o,a,f2,timer,1,1,1,1",
        "o,a,f3,http,94,0,0,0",
    )
    figures = describe(read_trace(path))
    assert figures.calls == 100
    assert figures.top_share == 0.94
    assert figures.periodic_share == pytest.approx(1 / 3)
    assert (figures.total_least, figures.total_most) == (1, 96)
    text = "\n".join(lines_of(figures))
    assert "94.0% of the calls" in text
    assert "timer                66.7% of the functions, 6.0% of the calls" in text


@needs_samples
def test_the_sample_of_2019_has_its_known_totals() -> None:
    """500 functions, 3,037,902 calls in 480 minutes; the hottest function has 63 % of them."""
    trace = read_trace(SAMPLES / "azure2019_500fn_min480-959_invocations.csv")
    figures = describe(trace)
    assert (figures.functions, figures.calls) == (500, 3_037_902)
    assert figures.period_ns == 480 * MINUTE
    assert figures.top_share == pytest.approx(0.63, abs=0.005)
    assert figures.top_10_share == pytest.approx(0.91, abs=0.005)
    assert figures.median_calls == 48


@needs_samples
def test_the_sample_of_2021_is_read_call_by_call() -> None:
    """Each row but the header is a call."""
    path = SAMPLES / "azure2021_first_rows_invocations.csv"
    rows = len(path.read_text(encoding="utf-8").splitlines()) - 1
    trace = read_trace(path)
    assert trace.total == rows
    assert all(isinstance(function.arrivals, Recorded) for function in trace.functions)


@needs_samples
def test_an_exact_replay_of_the_sample_has_its_counts() -> None:
    """Of all but the twenty hottest functions, each is called as often as the file says."""
    trace = read_trace(SAMPLES / "azure2019_500fn_min480-959_invocations.csv")
    rare = trace.functions[20:]
    options = ReplayOptions(once=True, exact=True, stretch=0.001)
    streams = in_blocks([played(each, options) for each in rare], model_count=50, seed=1)
    world = ClientWorld(Workload("replay", (ModelSet("m", "/m", 50),), streams), latency_ns=10)
    world.run(60 * SECOND)
    totals = Counter(send.request.user_id for send in world.sends)
    assert [totals[index] for index in range(480)] == [each.total for each in rare]


@needs_samples
def test_a_synthetic_trace_resembles_the_sample() -> None:
    """The figures that matter for serving are close to those of the real sample."""
    real = describe(read_trace(SAMPLES / "azure2019_500fn_min480-959_invocations.csv"))
    made = describe(generate(functions=500, minutes=480, seed=2, first_minute=480))
    assert made.top_share == pytest.approx(real.top_share, abs=0.2)
    assert made.top_10_share == pytest.approx(real.top_10_share, abs=0.06)
    assert made.minutely_share == pytest.approx(real.minutely_share, abs=0.08)
    assert made.calls == pytest.approx(real.calls, rel=1.0)
