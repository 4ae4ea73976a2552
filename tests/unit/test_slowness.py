"""How slow a device is, compared with profiles."""

import random

from clockwork.parts.slowness import AS_PROFILED, Slowness


def slowed(*permilles: int) -> Slowness:
    """Return the slowness after measurements that took so many thousandths of their profiles."""
    slowness = Slowness()
    for permille in permilles:
        slowness.add(permille * 5, 5 * AS_PROFILED)
    return slowness


def test_a_device_is_as_profiled_until_it_is_measured() -> None:
    """A profile is the normal, also for what is faster."""
    assert Slowness().normal_ns(700) == 700
    assert slowed(*[500] * 50).normal_ns(700) == 700


def test_a_slow_device_is_found_out_whatever_runs_on_it() -> None:
    """Measurements of different things are comparable, and each profile is raised alike."""
    slowness = Slowness()
    for profile_ns in (1_000, 70_000, 3_000_000) * 10:
        slowness.add(profile_ns * 3 // 2, profile_ns)
    assert 1_480 <= slowness.normal_ns(1_000) <= 1_500
    assert slowness.normal_ns(4_000) // 4 == slowness.normal_ns(1_000)


def test_noise_is_no_slowness() -> None:
    """Durations that are a few per cent longer leave profiles as they are."""
    chance = random.Random(7)
    permilles = [round(1_000 * (1 + abs(chance.gauss(0, 0.05)))) for _ in range(1_000)]
    assert slowed(*permilles).normal_ns(1_000) == 1_000


def test_one_stall_is_soon_forgotten() -> None:
    """An outlier counts as at most twice what was expected."""
    slowness = slowed(100_000)
    assert slowness.normal_ns(1_000) <= 1_250
    for _ in range(20):
        slowness.add(1_000, 1_000)
    assert slowness.normal_ns(1_000) == 1_000


def test_most_measurements_stay_below() -> None:
    """With durations all over a range, what is normal lies in its upper half."""
    chance = random.Random(11)
    normal = slowed(*[chance.randint(1_200, 1_600) for _ in range(500)]).normal_ns(1_000)
    assert 1_400 < normal < 1_600


def test_slowness_is_forgotten_when_nothing_is_measured() -> None:
    """Each doubt without a measurement takes half; the first one after a measurement nothing."""
    slowness = slowed(*[2_000] * 60)
    assert slowness.normal_ns(1_000) > 1_900
    slowness.doubt()
    assert slowness.normal_ns(1_000) > 1_900
    slowness.doubt()
    assert 1_400 < slowness.normal_ns(1_000) < 1_550
    for _ in range(3):
        slowness.doubt()
    assert slowness.normal_ns(1_000) == 1_000
