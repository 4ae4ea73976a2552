"""The lead follows the lower quartile of what waking up takes, within its bounds."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clockwork.parts.wake_lead import DOWN_NS, LEAD_MAX_NS, UP_NS, WakeLead
from clockwork.units import MS, US


def test_it_begins_without_a_lead() -> None:
    """The first alarm is set for the instant itself."""
    assert WakeLead().lead_ns == 0


def test_it_grows_while_alarms_are_late_and_shrinks_when_one_is_early() -> None:
    """By constant steps."""
    lead = WakeLead()
    for _ in range(10):
        lead.note(50 * US)
    assert lead.lead_ns == 10 * UP_NS
    lead.note(-1)
    assert lead.lead_ns == 10 * UP_NS - DOWN_NS


@pytest.mark.parametrize(("low_us", "high_us"), [(40, 80), (60, 90), (0, 20)])
def test_one_alarm_in_four_is_early(low_us: int, high_us: int) -> None:
    """Where waking takes between two bounds, the lead settles at a quarter of the way."""
    lead, rng = WakeLead(), random.Random(7)
    early = 0
    for turn in range(20_000):
        late_ns = rng.randint(low_us * US, high_us * US) - lead.lead_ns
        lead.note(late_ns)
        early += turn >= 10_000 and late_ns < 0
    assert early / 10_000 == pytest.approx(0.25, abs=0.02)
    middle_us = low_us + (high_us - low_us) / 4
    assert lead.lead_ns / US == pytest.approx(middle_us, abs=10)


def test_a_busy_process_has_hardly_any() -> None:
    """If most alarms come at once there is nothing to win, and nothing is waited out."""
    lead, rng = WakeLead(), random.Random(7)
    for _ in range(2_000):
        taken_ns = 100 * US if rng.random() < 0.3 else 1 * US
        lead.note(taken_ns - lead.lead_ns)
        assert lead.lead_ns <= 20 * US


@given(st.lists(st.integers(-MS, 10 * MS), max_size=500))
def test_it_keeps_its_bounds(lates_ns: list[int]) -> None:
    """Whatever happens, a lead is never negative, nor longer than what may be waited out."""
    lead = WakeLead()
    for late_ns in lates_ns:
        lead.note(late_ns)
        assert 0 <= lead.lead_ns <= LEAD_MAX_NS
