"""Every named workload: its models, rates, split and end, with a fixed seed."""

from collections import Counter

import pytest
from catalogue_stage import NEEDED, TRACE, ZOO, made, per_second, played, replays
from client_stage import ClientWorld

from clockwork.client.azure import Trace
from clockwork.client.catalogue import WORKLOADS, find_workload
from clockwork.client.named import RESNET50, NamedWorkload, Setting, Value, Values
from clockwork.client.paper_workloads import LEAD_IN
from clockwork.client.workload import ClosedLoop, Poisson
from clockwork.errors import ConfigurationError
from clockwork.units import MINUTE, MS


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_runs(name: str) -> None:
    """It is made with defaults, sends requests for models that it loads, and explains itself."""
    workload = made(name)
    assert workload.name == name
    count = workload.model_count
    assert all(0 <= model < count for stream in workload.streams for model in stream.models)
    assert all(model_set.path.startswith("/zoo/") for model_set in workload.models)
    if count <= 500:
        world = ClientWorld(workload, latency_ns=50 * MS).run(200 * MS)
        assert world.role.phase.name in ("RUNNING", "DRAINING", "ENDED")
    row = WORKLOADS[name]
    assert row.summary
    assert row.help.endswith(".")
    assert all(parameter.help.endswith(".") for parameter in row.parameters)


def test_example_has_five_kinds_of_arrivals_per_model() -> None:
    """Each zoo model is loaded once and gets five tenants of its own."""
    workload = made("example")
    assert [model_set.name for model_set in workload.models] == list(ZOO)
    assert len(workload.streams) == 15
    assert len({stream.user_id for stream in workload.streams}) == 15
    world = played("example", 60)
    assert [len(world.arrivals_s(stream)) / 60 for stream in (0, 1)] == pytest.approx(
        [5, 10], rel=0.15
    )


def test_fill_memory_has_one_hot_ten_warm_and_400_rare_models() -> None:
    """411 models at 1,000, 10 and 1 requests per second."""
    workload = made("fill_memory")
    assert workload.model_count == 411
    rates = [stream.arrivals.rate_per_s for stream in workload.streams]  # type: ignore[union-attr]
    assert Counter(rates) == {1000.0: 1, 10.0: 10, 1.0: 400}


@pytest.mark.parametrize(("name", "concurrency"), [("spam", 100), ("single-spam", 1000)])
def test_spam_keeps_hundreds_in_flight_for_each_of_100_models(name: str, concurrency: int) -> None:
    """Each of 100 models has its own closed loop."""
    workload = made(name)
    assert workload.model_count == 100
    assert [stream.arrivals for stream in workload.streams] == [ClosedLoop(concurrency)] * 100
    assert [stream.models for stream in workload.streams] == [(model,) for model in range(100)]


def test_spam_takes_another_model_by_name() -> None:
    """The parameter names a model of the zoo."""
    assert {each.name for each in made("spam", model="alexnet").models} == {"alexnet"}


def test_simple_has_two_models_of_one_tenant() -> None:
    """Two closed loops of one request, both of tenant 0."""
    world = played("simple", 1)
    assert world.most_in_flight == 2
    assert {send.request.user_id for send in world.sends} == {0}
    assert Counter(send.model for send in world.sends)[0] == pytest.approx(99, abs=1)


def test_simple_slo_factor_changes_three_slos_in_three_ways() -> None:
    """After 10 s, the factors are 5, 5 and 1; after 20 s 6.25, 6 and 10."""
    world = played("simple-slo-factor", 25)
    lines = [line for line in world.lines if "slo_factor" in line]
    assert lines == [
        *("Updating slo_factor to 5", "Updating slo_factor to 5", "Updating slo_factor to 1"),
        *("Updating slo_factor to 6.25", "Updating slo_factor to 6", "Updating slo_factor to 10"),
    ]
    last = {send.model: send.request.slo_factor for send in world.sends}
    assert last == {0: 6.25, 1: 6.0, 2: 10.0}


def test_simple_parametric_divides_models_and_ends() -> None:
    """Five models for two clients are groups of three and two; each sends its 20 requests."""
    workload = made("simple-parametric")
    assert [stream.models for stream in workload.streams] == [(0, 1, 2), (3, 4)]
    world = played("simple-parametric", 60)
    assert world.finished is not None
    assert Counter(send.stream for send in world.sends) == {0: 20, 1: 20}
    assert Counter(send.model for send in world.sends) == {0: 7, 1: 7, 2: 6, 3: 10, 4: 10}
    assert world.most_in_flight == 6


def test_poisson_open_loop_shares_the_rate() -> None:
    """Four models have a quarter of the rate each."""
    world = played("poisson-open-loop", 60)
    for model in range(4):
        assert per_second(world, model, 60) == pytest.approx(50, rel=0.1)


def test_scalability_exp_1_doubles_the_rate_until_it_exceeds_the_maximum() -> None:
    """From 10 by doubling beyond 35 requests per second: three steps, one a second."""
    world = played("scalability-exp-1", 60)
    assert [line for line in world.lines if "rate" in line or "Term" in line] == [
        "Updating rate to 10",
        "Updating rate to 20",
        "Terminating engine",
    ]
    added = made("scalability-exp-1", op="add", factor=5.0).ladders[0]
    assert (added.by, added.start, added.end) == (2.5, 5.0, 17.5)


def test_gamma_shares_a_bursty_rate() -> None:
    """Models have their share of the rate, in clusters."""
    world = played("gamma", 300)
    assert per_second(world, 0, 300) == pytest.approx(50, rel=0.2)
    per_bin = Counter(int(at * 10) for at in world.arrivals_s(0))
    mean = 5.0
    dispersion = sum((per_bin[index] - mean) ** 2 for index in range(3000)) / 3000 / mean
    assert dispersion > 4


def test_zipf_has_hot_models_and_a_cold_tail() -> None:
    """Popularity falls as 1/rank over the hot models; five cold ones share a hundredth."""
    world = played("zipf", 60)
    counts = Counter(send.model for send in world.sends)
    total = len(world.sends)
    assert total / 60 == pytest.approx(1000, rel=0.05)
    assert counts[0] / counts[1] == pytest.approx(2, rel=0.1)
    assert counts[0] / counts[4] == pytest.approx(5, rel=0.1)
    assert sum(counts[model] for model in range(5, 10)) / total == pytest.approx(0.01, rel=0.2)


def test_on_off_sends_17_requests_per_period() -> None:
    """One request, sixteen a millisecond later, every tenth of a second."""
    assert len(played("on-off", 1).sends) == pytest.approx(170, abs=17)


def test_slo_exp_1_grows_the_slo_until_its_end() -> None:
    """2, 3, 4.5, ... times the execution time, until 30 is exceeded."""
    world = played("slo-exp-1", 120)
    assert world.finished is not None
    factors = sorted({send.request.slo_factor for send in world.sends})
    assert factors == pytest.approx([2 * 1.5**step for step in range(7)])
    assert len(world.sends) / 35 == pytest.approx(50, rel=0.1)


def test_slo_exp_2_has_a_background_that_starts_later() -> None:
    """The foreground keeps its total rate; three loops of four requests join after 10 s."""
    workload = made("slo-exp-2")
    assert [(each.name, each.copies) for each in workload.models] == [(RESNET50, 2), (RESNET50, 3)]
    world = played("slo-exp-2", 120)
    background = [send for send in world.sends if send.stream >= 2]
    assert {send.request.user_id for send in background} == {2, 3, 4}
    assert {send.request.slo_factor for send in background} == {0.0}
    assert min(world.arrivals_s(2)) == 10.0
    early = [at for stream in (0, 1) for at in world.arrivals_s(stream) if at <= 10]
    assert len(early) == 500


def test_slo_exp_2_without_background_is_slo_exp_1() -> None:
    """Zero background copies load and send nothing."""
    workload = made("slo-exp-2", copies_bg=0)
    assert workload.model_count == 2
    assert len(workload.streams) == 2


def test_comparison_experiments_have_15_models() -> None:
    """Poisson at 1,000 requests/s together, or 16 in flight each."""
    poisson, closed = made("comparison_experiment"), made("comparison_experiment2")
    assert poisson.model_count == closed.model_count == 15
    assert {stream.arrivals for stream in poisson.streams} == {Poisson(1000 / 15)}
    assert {stream.arrivals for stream in closed.streams} == {ClosedLoop(16)}


def test_bursty_experiment_spreads_one_rate_over_ever_more_models() -> None:
    """After the lead-in, interval k has 60,000 counts over the first k models."""
    workload = made("bursty_experiment", n=250)
    assert [each.copies for each in workload.models] == [100, 100, 50, 1]
    assert workload.notes[:3] == ("Loading 0:100", "Loading 100:200", "Loading 200:250")
    counts = [each.counts for each in replays(workload)]
    assert len(counts) == 250
    assert {len(each) for each in counts} == {LEAD_IN + 250}
    for interval in range(LEAD_IN + 250):
        column = [each[interval] for each in counts]
        assert sum(column) == (60_000 if interval >= LEAD_IN else 0)
        active = interval - LEAD_IN + 1
        assert sum(map(bool, column)) == max(active, 0)
        assert max(column) - min(column[: max(active, 1)]) <= 1


def test_bursty_experiment_has_a_minor_model_throughout() -> None:
    """The minor model gets 200 requests/s; majors 1,000 together, after 300 s."""
    world = played("bursty_experiment", 306)
    assert per_second(world, 20, 306) == pytest.approx(200, rel=0.05)
    majors = [at for stream in range(20) for at in world.arrivals_s(stream)]
    assert min(majors) >= 300
    assert sum(301 <= at < 305 for at in majors) == pytest.approx(4000, rel=0.06)


def test_chosen_models_take_the_place_of_a_workloads_own() -> None:
    """Copies are spread over the chosen models, and the zoo is limited to them."""
    spread = made("comparison_experiment", chosen=("alexnet", "densenet"))
    assert [(each.name, each.copies) for each in spread.models] == [("alexnet", 7), ("densenet", 8)]
    assert [each.name for each in made("example", chosen=("densenet",)).models] == ["densenet"]


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("gamma", {"n": 0, "rate": 1.0}, "n is 0, must be at least 1"),
        ("gamma", {"n": 10**9, "rate": 1.0}, "n is 1000000000, must be at most 100000"),
        ("bursty_experiment", {"n": 10_001}, "n is 10001, must be at most 10000"),
        ("gamma", {"n": 1}, "rate is missing"),
        ("gamma", {"n": 1, "rate": 1.0, "x": 1}, "no parameter 'x'"),
        ("gamma", {"n": 1.5, "rate": 1.0}, "n is 1.5, expected: int"),
        ("gamma", {"n": 1, "rate": float("nan")}, "rate is nan, must be"),
        ("slo-exp-1", NEEDED["slo-exp-1"] | {"dist": "gauss"}, "allowed: poisson, fixed-rate"),
        ("slo-exp-1", NEEDED["slo-exp-1"] | {"model": "nope"}, "no model 'nope'"),
        ("azure", {"memory-load-factor": 5}, "allowed: 1, 2, 3, 4"),
    ],
)
def test_wrong_values_are_refused_with_a_reason(
    name: str, given: dict[str, Value], message: str
) -> None:
    """The message names the parameter, its value, and what is allowed."""
    with pytest.raises(ConfigurationError, match=message):
        WORKLOADS[name].make(given, Setting(zoo=ZOO, trace=TRACE))


def test_whole_numbers_are_fine_where_any_number_is() -> None:
    """An int is taken for a float."""
    assert Values(WORKLOADS["gamma"].parameters, {"n": 1, "rate": 5}).number("rate") == 5.0


def test_a_missing_zoo_or_trace_is_named() -> None:
    """The message says which environment variable to set."""
    with pytest.raises(ConfigurationError, match="CLOCKWORK_MODEL_DIR has no models"):
        WORKLOADS["example"].make({}, Setting(zoo={}))
    with pytest.raises(ConfigurationError, match="set AZURE_TRACE_DIR"):
        WORKLOADS["azure"].make({}, Setting(zoo=ZOO))
    empty = Trace("empty", MINUTE, ())
    with pytest.raises(ConfigurationError, match="has no functions"):
        WORKLOADS["azure"].make({}, Setting(zoo=ZOO, trace=empty))


def test_names_are_found_with_either_dash() -> None:
    """People mix up - and _, as the original's names do."""
    found = find_workload("slo_exp_1")
    assert isinstance(found, NamedWorkload)
    assert found.name == "slo-exp-1"
    assert find_workload("nope") is None
