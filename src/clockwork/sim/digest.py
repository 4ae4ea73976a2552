"""A hash over every event and every effect of a run: equal runs have equal digests."""

from collections.abc import Sequence
from typing import Any

from clockwork.sim.host import AnyHost
from clockwork.telemetry.fingerprint import Fingerprint


class Digest:
    """A tap that hashes; ask `hex` at the end."""

    def __init__(self, *, has_payloads: bool) -> None:
        """Begin.

        Args:
            has_payloads: False where no request carries an input, which saves looking for them.
        """
        self._fingerprint = Fingerprint(has_payloads=has_payloads)

    @property
    def hex(self) -> str:
        """The digest of everything seen so far, in hexadecimal."""
        return self._fingerprint.hex

    @property
    def count(self) -> int:
        """Events and effects so far."""
        return self._fingerprint.count

    def on_begin(self, host: AnyHost) -> None:
        """Hash that a process was started."""
        self._fingerprint.note(f"begin {host.name}")

    def on_step(
        self, host: AnyHost, batch: Sequence[Any], effects: Sequence[Any], now_ns: int
    ) -> None:
        """Hash a step."""
        self._fingerprint.add((host.name, now_ns, len(batch)), batch, effects)

    def on_end(self, host: AnyHost) -> None:
        """Hash that a process is gone."""
        self._fingerprint.note(f"end {host.name}")
