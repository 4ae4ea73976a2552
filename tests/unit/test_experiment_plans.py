"""Plans of the paper's experiments: what runs, how long, on what."""

import pytest
from experiment_stage import setting

from clockwork.client.workload import ClosedLoop, Poisson, TraceReplay
from clockwork.errors import ConfigurationError
from clockwork.live.experiments import fig6, fig7, fig8, fig11, slo_ladder
from clockwork.live.experiments.catalogue import EXPERIMENTS
from clockwork.live.experiments.trace_choice import choose_trace
from clockwork.units import MINUTE, MS, SECOND


def test_names_on_the_command_line_are_those_of_the_catalogue() -> None:
    """The command knows all experiments without importing them."""
    from clockwork.cli.experiment import NAMES

    assert tuple(EXPERIMENTS) == NAMES


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_defaults_take_about_five_minutes(name: str) -> None:
    """Sending takes less than 250 s at the default scale, so that starting fits in as well."""
    experiment = EXPERIMENTS[name]
    runs = experiment.plan(setting(experiment))
    assert 150 * SECOND < sum(run.length_ns for run in runs) < 250 * SECOND


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_runs_have_names_and_seeds(name: str) -> None:
    """Folders of runs differ; workloads have the user's seed."""
    experiment = EXPERIMENTS[name]
    runs = experiment.plan(setting(experiment))
    assert len({run.name for run in runs}) == len(runs)
    assert all(run.workload.seed == 3 for run in runs)


def test_figure_5_promises_six_slos_to_fifteen_models() -> None:
    """Each run has 15 copies with 16 requests in flight, and an SLO of its own."""
    experiment = EXPERIMENTS["fig5"]
    runs = experiment.plan(setting(experiment, scale=1))
    assert [run.cluster.default_slo_ns // MS for run in runs] == [10, 25, 50, 100, 250, 500]
    for run in runs:
        assert run.length_ns == run.workload.duration_ns == 30 * MINUTE
        assert run.workload.model_count == 15
        assert [stream.arrivals for stream in run.workload.streams] == 15 * [ClosedLoop(16)]


@pytest.mark.parametrize(("scale", "models", "held"), [(1, 3600, 196), (1 / 16, 3600, 196)])
def test_figure_6_has_all_models_on_a_shorter_ramp(scale: float, models: int, held: int) -> None:
    """Scale changes how fast models join, not how many there are."""
    experiment = EXPERIMENTS["fig6"]
    [run] = experiment.plan(setting(experiment, scale=scale))
    ramp = fig6.ramp(setting(experiment, scale=scale))
    assert (ramp.models, ramp.held) == (models, held)
    assert run.cluster.cache_pages == held * 7
    assert abs(run.length_ns - 63 * MINUTE * scale) < SECOND
    assert run.workload.model_count == models + 1


def test_figure_6_keeps_the_total_rate_of_the_major_models() -> None:
    """In every interval the active models have 1,000 requests/s together."""
    experiment = EXPERIMENTS["fig6"]
    chosen = setting(experiment, scale=0.01)
    [run] = experiment.plan(chosen)
    majors = [stream.arrivals for stream in run.workload.streams[:-1]]
    assert all(isinstance(each, TraceReplay) for each in majors)
    counts = [each.counts for each in majors if isinstance(each, TraceReplay)]
    for interval in range(fig6.ramp(chosen).models):
        assert sum(each[interval] for each in counts) == 60_000
        assert sum(each[interval] > 0 for each in counts) == interval + 1


def test_a_very_short_figure_6_has_fewer_models_and_a_smaller_cache() -> None:
    """Below 100 s both shrink in proportion."""
    ramp = fig6.ramp(setting(EXPERIMENTS["fig6"], scale=0.001))
    assert (ramp.models, ramp.held) == (130, 7)
    assert ramp.active(0) == 0
    assert ramp.active(ramp.length_ns / SECOND + 1) == ramp.models


def test_figure_7_climbs_the_ladder_of_the_paper() -> None:
    """Twelve SLOs of 30 s, for two numbers of models and three rates."""
    experiment = EXPERIMENTS["fig7"]
    runs = experiment.plan(setting(experiment, scale=1))
    assert len(slo_ladder.multipliers()) == 12
    assert [(run.workload.model_count, run.length_ns) for run in runs] == [
        (models, 6 * MINUTE) for models in (12, 12, 12, 48, 48, 48)
    ]
    for run, rate in zip(runs, fig7.RATES_PER_S * 2, strict=True):
        arrivals = [stream.arrivals for stream in run.workload.streams]
        rates = [each.rate_per_s for each in arrivals if isinstance(each, Poisson)]
        assert sum(rates) == pytest.approx(rate)
        assert (run.cluster.gpus, run.cluster.schedule_ahead_ns) == (6, 5 * MS)


def test_real_devices_get_what_is_as_much_for_them() -> None:
    """One device of half the speed has a twelfth of the rate for six GPUs."""
    experiment = EXPERIMENTS["fig7"]
    run = experiment.plan(setting(experiment, is_real=True))[0]
    arrivals = [stream.arrivals for stream in run.workload.streams]
    rates = [each.rate_per_s for each in arrivals if isinstance(each, Poisson)]
    assert sum(rates) == pytest.approx(600 / 12)
    assert run.cluster.is_real
    assert run.cluster.gpus == 1
    assert run.cluster.cache_pages == 12 * 7


def test_figure_8_adds_batch_models_without_an_slo() -> None:
    """Batch models come after the sensitive ones, later, and with the default SLO of a day."""
    experiment = EXPERIMENTS["fig8"]
    runs = experiment.plan(setting(experiment, scale=0.1))
    assert [run.workload.model_count for run in runs] == [6, 18, 54]
    for run, (models, concurrency) in zip(runs, fig8.BACKGROUNDS, strict=True):
        batch = run.workload.streams[6:]
        assert [stream.arrivals for stream in batch] == models * [ClosedLoop(concurrency)]
        assert all(stream.start_after_ns == SECOND for stream in batch)
        assert all(stream.slo_factor == 0 for stream in batch)
        assert run.cluster.default_slo_ns == 86_400 * SECOND


@pytest.mark.parametrize(("scale", "models"), [(1 / 120, 4224), (0.001, 192)])
def test_figure_9_replays_the_trace_within_its_time(scale: float, models: int) -> None:
    """A pass of the trace takes as long as the run, with the chosen mean rate."""
    experiment = EXPERIMENTS["fig9"]
    chosen = setting(experiment, scale=scale)
    [run] = experiment.plan(chosen)
    assert run.workload.model_count == models
    replays = [stream.arrivals for stream in run.workload.streams]
    first = replays[0]
    assert isinstance(first, TraceReplay)
    assert first.interval_ns * len(first.counts) == pytest.approx(run.length_ns)
    assert chosen.trace is not None
    mean_per_s = chosen.trace.total / len(first.counts) / 60 * first.scale
    assert mean_per_s == pytest.approx(1500, rel=0.01)


@pytest.mark.parametrize(
    ("scale", "gpus", "steps"), [(0.1, [1, 2, 4, 8, 16, 32, 64], 7), (1, None, 10)]
)
def test_figure_11_grows_the_cluster(scale: float, gpus: list[int] | None, steps: int) -> None:
    """Below scale 1 clusters are small; at scale 1 each of the paper's is tried three times."""
    experiment = EXPERIMENTS["fig11"]
    runs = experiment.plan(setting(experiment, scale=scale))
    assert [run.cluster.gpus for run in runs] == (gpus or 3 * list(fig11.GPUS_OF_PAPER))
    assert len(fig11.loads(scale)) == steps
    assert runs[0].length_ns == steps * MINUTE * scale


def test_a_synthetic_trace_stands_in_for_the_data_set() -> None:
    """Without a file and a directory there are as many functions as wanted."""
    trace = choose_trace(file=None, azure_dir=None, functions=50, seed=1)
    assert len(trace.functions) == 50
    assert trace.source.startswith("synthetic")


def test_a_short_trace_is_resampled(tmp_path) -> None:
    """A file with fewer functions than wanted is enlarged, and its name says so."""
    path = tmp_path / "trace.csv"
    path.write_text("HashOwner,HashApp,HashFunction,Trigger,1,2\na,b,c,http,3,4\n")
    trace = choose_trace(file=path, azure_dir=None, functions=4, seed=1)
    assert len(trace.functions) == 4
    assert "resampled" in trace.source


def test_a_trace_without_calls_is_refused(tmp_path) -> None:
    """There is nothing to replay."""
    path = tmp_path / "trace.csv"
    path.write_text("HashOwner,HashApp,HashFunction,Trigger,1,2\na,b,c,http,0,0\n")
    with pytest.raises(ConfigurationError, match="has no calls"):
        choose_trace(file=path, azure_dir=None, functions=4, seed=1)
