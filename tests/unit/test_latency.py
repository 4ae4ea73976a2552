"""Predictions of the way to a worker."""

from clockwork.parts.latency import CEILING_NS, FLOOR_NS, INITIAL_NS, SendLatency
from clockwork.units import MIB, MS, US


def test_before_any_measurement_a_millisecond_is_allowed() -> None:
    """The original's constant is the first guess."""
    assert SendLatency().estimate_ns(0) == INITIAL_NS


def test_fast_messages_lower_the_estimate_to_the_floor() -> None:
    """Many quick messages are believed, but never below the floor."""
    latency = SendLatency()
    for _ in range(100):
        latency.add(size_bytes=0, taken_ns=1)
    assert FLOOR_NS <= latency.estimate_ns(0) < FLOOR_NS + US


def test_one_slow_message_moves_the_estimate_half_way() -> None:
    """A single late wake-up is no new normal."""
    latency = SendLatency()
    latency.add(size_bytes=0, taken_ns=3 * MS)
    assert latency.estimate_ns(0) == 2 * MS


def test_a_stall_is_capped() -> None:
    """A stalled peer does not push every start out of reach."""
    latency = SendLatency()
    for _ in range(50):
        latency.add(size_bytes=0, taken_ns=10**12)
    assert latency.estimate_ns(0) <= CEILING_NS


def test_large_messages_teach_the_cost_per_byte() -> None:
    """What a large message takes beyond the base counts per byte, and only that."""
    latency = SendLatency()
    base_ns = latency.estimate_ns(0)
    for _ in range(100):
        latency.add(size_bytes=MIB, taken_ns=base_ns + 2 * MS)
    assert latency.estimate_ns(0) == base_ns
    assert abs(latency.estimate_ns(MIB) - base_ns - 2 * MS) < 10 * US


def test_fast_large_messages_lower_the_base_too() -> None:
    """A worker that only gets large inputs is not planned with the first guess for ever."""
    latency = SendLatency()
    for _ in range(100):
        latency.add(size_bytes=MIB, taken_ns=300 * US)
    assert latency.estimate_ns(0) < 301 * US
    assert latency.estimate_ns(MIB) < 310 * US
