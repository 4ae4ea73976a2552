"""Named workloads that replay traces: models, scale, mapping, totals."""

from collections import Counter

import pytest
from catalogue_stage import TRACE, ZOO, made, played, replays
from client_stage import ClientWorld

from clockwork.client.azure import Trace, TraceFunction
from clockwork.client.catalogue import WORKLOADS
from clockwork.client.named import Setting
from clockwork.client.workload import Recorded
from clockwork.units import MINUTE, SECOND


@pytest.mark.parametrize(("factor", "copies"), [(1, 3), (2, 13), (3, 29), (4, 66)])
def test_azure_loads_models_by_memory_load_factor(factor: int, copies: int) -> None:
    """Copies of each zoo model, or many of one."""
    workload = made("azure", memory_load_factor=factor)
    assert [each.copies for each in workload.models] == [copies] * 3
    assert f"Using {3 * copies} models ({copies} copies of 3 models)" in workload.notes
    assert f"Loading alexnet x{copies}" in workload.notes
    single = made("azure", memory_load_factor=factor, use_all=0)
    assert single.model_count == {1: 200, 2: 800, 3: 1800, 4: 3600}[factor]


def test_azure_scales_by_workers_and_load() -> None:
    """The rate is load factor x 0.125 x workers times the trace."""
    world = played("azure", 60, num_workers=8, load_factor=0.5, memory_load_factor=1)
    assert len(world.sends) == pytest.approx(0.5 * TRACE.total / 4, rel=0.05)
    per_function = Counter(send.request.user_id for send in world.sends)
    assert per_function[0] == pytest.approx(3000, rel=0.1)
    assert per_function[1] == pytest.approx(300, rel=0.2)


def test_azure_puts_blocks_of_functions_on_shuffled_models() -> None:
    """With fewer models than functions, neighbours in popularity share a model."""
    workload = made("azure", memory_load_factor=1, resample=90, seed=3)
    models = [stream.models[0] for stream in workload.streams]
    assert sorted(set(models)) == list(range(9))
    assert [models[index * 10] for index in range(9)] != list(range(9))
    assert all(len(set(models[index * 10 : index * 10 + 10])) == 1 for index in range(9))


def test_azure_randomises_the_start_on_request() -> None:
    """Position 7 of the original's parameters starts each function anywhere."""
    assert {each.start for each in replays(made("azure"))} == {0}
    assert {each.start for each in replays(made("azure", randomise=1))} == {None}


def test_azure_totals_equal_the_trace_when_replayed_exactly() -> None:
    """A single exact pass at scale 1, compressed in time, has each function's total."""
    workload = made(
        "azure", num_workers=8, memory_load_factor=1, once=True, exact=True, stretch=0.01
    )
    world = ClientWorld(workload).run(60 * SECOND)
    assert world.finished is not None
    totals = Counter(send.request.user_id for send in world.sends)
    assert [totals[index] for index in range(5)] == [each.total for each in TRACE.functions]


def test_azure_scalability_exp_multiplies_the_load_until_its_end() -> None:
    """From 0.1 by 1.5 beyond 0.3: three steps, and the last one is applied."""
    world = played("azure_scalability_exp", 60)
    assert [line for line in world.lines if "scale_factor" in line or "Term" in line] == [
        ">>>> Updating scale_factor to 0.15",
        ">>>> Updating scale_factor to 0.225",
        ">>>> Updating scale_factor to 0.3375",
        "Terminating engine",
    ]
    rates = [sum(5 * k < at <= 5 * k + 5 for at in world.arrivals_s()) / 5 for k in range(3)]
    whole = TRACE.total / 240
    assert rates == pytest.approx([0.1 * whole, 0.15 * whole, 0.225 * whole], rel=0.25)


def test_azure_half_spreads_3100_models_over_the_zoo() -> None:
    """Copies differ by at most one."""
    copies = [each.copies for each in made("azure_half").models]
    assert sum(copies) == 3100
    assert max(copies) - min(copies) <= 1


def test_azure_small_and_fast_take_models_in_turn() -> None:
    """Function i asks for model i modulo nine; the fast one plays a minute in a second."""
    small, fast = made("azure_small", resample=20), made("azure_fast", resample=20)
    assert [stream.models[0] for stream in small.streams] == [index % 9 for index in range(20)]
    assert {each.interval_ns for each in replays(small)} == {MINUTE}
    assert {each.interval_ns for each in replays(fast)} == {SECOND}
    assert {each.start for each in replays(fast)} == {None}


def test_azure_single_replays_the_busiest_function() -> None:
    """One model gets 6,000 requests per minute."""
    world = played("azure_single", 30)
    assert made("azure_single").model_count == 1
    assert len(world.sends) / 30 == pytest.approx(100, rel=0.1)


def test_a_recorded_trace_is_replayed_call_by_call() -> None:
    """Offsets are stretched, copies scaled, and a single pass ends."""
    function = TraceFunction("f", "", 3, Recorded((0, SECOND, 2 * SECOND), MINUTE))
    trace = Trace("recorded", MINUTE, (function,))
    workload = WORKLOADS["azure"].make(
        {"num-workers": 8, "memory-load-factor": 1, "stretch": 0.5, "once": True},
        Setting(zoo=ZOO, trace=trace),
    )
    world = ClientWorld(workload).run(60 * SECOND)
    assert world.arrivals_s() == [0.0, 0.5, 1.0]
    assert world.finished is not None
