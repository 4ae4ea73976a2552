"""What the demonstration sends and promises, from measured times."""

from itertools import pairwise

import pytest

from clockwork.live.demo_figures import EvictionCounter, Outcome, share, summarise_model
from clockwork.live.demo_models import DEMO_MODELS, DemoInputs
from clockwork.live.demo_plan import (
    BUSY_SHARE,
    DIGITS_PER_S,
    cache_pages,
    plan_arrivals,
    plan_streams,
)
from clockwork.messages.models import TensorSpec

FAST = {model.name: 5.0 for model in DEMO_MODELS}
SLOW = {model.name: 80.0 for model in DEMO_MODELS}


def outcome(**changes):
    """Return what became of a request, in time unless told otherwise."""
    values = {"name": "a", "copy": 0, "latency_ms": 10.0, "is_in_time": True, "batch_size": 1}
    return Outcome(**(values | changes))


@pytest.mark.parametrize("exec_ms", [FAST, SLOW])
def test_the_big_models_keep_the_device_as_busy_as_planned(exec_ms):
    """Rates follow from measured times, so that a slow machine gets less."""
    streams = plan_streams(DEMO_MODELS, exec_ms)
    big = [stream for stream in streams if stream.name != "digits"]
    busy = sum(stream.rate_per_s * exec_ms[stream.name] / 1000 for stream in big)
    assert busy == pytest.approx(BUSY_SHARE)


def test_there_is_one_stream_per_copy_and_the_first_is_asked_most():
    """Copies are tenants, and tenants differ."""
    streams = plan_streams(DEMO_MODELS, FAST)
    assert len(streams) == sum(model.copies for model in DEMO_MODELS)
    digits = [stream.rate_per_s for stream in streams if stream.name == "digits"]
    assert digits == sorted(digits, reverse=True)
    assert sum(digits) == pytest.approx(DIGITS_PER_S)


def test_a_promise_allows_for_others_in_front():
    """A promise is longer than a few executions of the longest model."""
    streams = plan_streams(DEMO_MODELS, FAST | {"resnet50_v1": 100.0})
    assert min(stream.slo_ms for stream in streams) >= 400
    assert all(stream.slo_ms % 50 == 0 for stream in streams)


def test_arrivals_are_ordered_steady_and_repeatable():
    """Equal seeds give equal arrivals, in order, of about the planned number."""
    streams = plan_streams(DEMO_MODELS, FAST)
    arrivals = plan_arrivals(streams, duration_s=20, seed=3)
    assert arrivals == plan_arrivals(streams, duration_s=20, seed=3)
    assert arrivals != plan_arrivals(streams, duration_s=20, seed=4)
    assert all(first.at_s <= second.at_s < 20 for first, second in pairwise(arrivals))
    expected = 20 * sum(stream.rate_per_s for stream in streams)
    assert len(arrivals) == pytest.approx(expected, rel=0.02)


def test_the_cache_holds_a_third_but_two_of_the_largest():
    """Evictions are forced, and a load can overlap an execution."""
    assert cache_pages([3, 3, 3, 3]) == 6
    assert cache_pages([1] * 30) == 10


def test_digits_come_with_what_they_show():
    """The held-out image and its label stay together, also when they begin anew."""
    inputs = DemoInputs()
    tensor = TensorSpec(name="image", dtype="float32", shape=(1, 8, 8), item_bytes=4)
    first = inputs.take("digits", (tensor,), 0)
    again = inputs.take("digits", (tensor,), 500)
    assert (first == again).all()
    assert first.shape == tensor.shape


def test_encoders_get_tokens_by_name():
    """Each input of an encoder has its dtype and shape, and only real tokens count."""
    tensors = tuple(
        TensorSpec(name=name, dtype="int64", shape=(16,), item_bytes=8)
        for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    sequence = DemoInputs().take("encoder_small", tensors, 0)
    assert sequence["attention_mask"].all()
    assert not sequence["token_type_ids"].any()
    assert sequence["input_ids"].dtype == "int64"


def test_a_models_row_counts_each_request_once():
    """Goodput, cold starts and the mean batch come from the outcomes."""
    row = summarise_model(
        "a",
        [
            outcome(is_cold=True),
            outcome(copy=1, batch_size=2),
            outcome(copy=1, batch_size=2),
            outcome(latency_ms=None, is_in_time=False, batch_size=0, problem="RejectedError"),
        ],
        slo_ms=50,
    )
    assert (row.requests, row.copies, row.cold_starts) == (4, 2, 1)
    assert row.goodput_share == 0.75
    assert row.mean_batch == 1.5
    assert row.latency.max_ms == 10.0


def test_a_share_never_flatters():
    """All but one of ten million is not everything."""
    assert share(9_999_999, 10_000_000) == 0.999999
    assert share(1, 0) == 0.0


def test_evictions_are_counted_while_the_log_grows(tmp_path):
    """Only whole rows of successful evictions count, each once."""
    path = tmp_path / "clockwork_action_log.tsv"
    counter = EvictionCounter(path)
    assert counter.read() == 0
    path.write_bytes(
        b"t\taction_id\taction_type\tstatus\n1\t1\t3\t0\n2\t2\t1\t0\n3\t3\t3\t63\n4\t4\t"
    )
    assert counter.read() == 1
    with path.open("ab") as file:
        file.write(b"3\t0\n")
    assert counter.read() == 2
