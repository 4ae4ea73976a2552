"""Wake-ups are spaced out when they are many, and come at once when they are rare."""

from hypothesis import given
from hypothesis import strategies as st

from clockwork.parts.pace import CREDIT, Pace
from clockwork.units import MS, SECOND, US

GAP_NS = 500 * US


def taken(wishes_ns: list[int], pace: Pace) -> list[int]:
    """Return when things are done that are wished for in this order, each once."""
    done: list[int] = []
    for wish_ns in wishes_ns:
        if done and wish_ns <= done[-1]:
            continue
        at_ns = max(wish_ns, pace.next_ns)
        pace.note(at_ns)
        done.append(at_ns)
    return done


def test_rare_wishes_are_granted_at_once() -> None:
    """Who comes less often than once per gap never waits, even two at a time."""
    wishes_ns = [SECOND + base + extra for base in range(0, 50 * MS, 2 * MS) for extra in (0, US)]
    assert taken(wishes_ns, Pace(GAP_NS)) == wishes_ns


def test_many_wishes_share_a_time_per_gap() -> None:
    """A steady stream of wishes is served once per gap."""
    wishes_ns = list(range(SECOND, SECOND + 100 * MS, 10 * US))
    done_ns = taken(wishes_ns, Pace(GAP_NS))
    assert 190 <= len(done_ns) <= 201 + CREDIT


@given(st.lists(st.integers(0, 20 * MS), min_size=1, max_size=200))
def test_nobody_waits_longer_than_a_gap(offsets_ns: list[int]) -> None:
    """Whatever is wished for when, the delay is at most a gap, and the average is kept."""
    wishes_ns = sorted(SECOND + offset_ns for offset_ns in offsets_ns)
    done_ns = taken(wishes_ns, Pace(GAP_NS))
    for wish_ns in wishes_ns:
        served_ns = next(at_ns for at_ns in done_ns if at_ns >= wish_ns)
        assert served_ns - wish_ns <= GAP_NS
    assert len(done_ns) <= (done_ns[-1] - done_ns[0]) / GAP_NS + CREDIT + 1


def test_no_gap_limits_nothing() -> None:
    """A pace of 0 lets everything through."""
    wishes_ns = list(range(SECOND, SECOND + MS, 10 * US))
    assert taken(wishes_ns, Pace(0)) == wishes_ns
