"""Digests: equal for equal runs in any process, different otherwise."""

import os
import subprocess
import sys

import pytest

from clockwork.sim.swarm import draw
from clockwork.sim.trial import Trial

PROGRAM = """
from clockwork.sim.swarm import draw
from clockwork.sim.trial import Trial
verdict = Trial(draw({seed})).hold()
assert verdict.error is None, verdict.error
print(verdict.digest)
"""


def digest_in_process(seed: int, hash_seed: str) -> str:
    """Return the digest of a seed's scenario as another process computes it."""
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(seed=seed)],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


@pytest.mark.parametrize("seed", [1, 10])
def test_the_digest_does_not_depend_on_the_hash_seed(seed: int) -> None:
    """Two processes with different hash seeds agree on every event and effect."""
    first = digest_in_process(seed, "1")
    assert len(first) == 32
    assert first == digest_in_process(seed, "2")


def test_different_seeds_have_different_digests() -> None:
    """The digest tells runs apart."""
    digests = {Trial(draw(seed), checks_roles=False).hold().digest for seed in (9, 216, 255)}
    assert len(digests) == 3
