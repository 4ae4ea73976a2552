"""Writes the telemetry of a simulated run: the same two files as live, without a thread.

Why not `telemetry.log_files`: a simulation brings more rows per second than its bounded queue
takes, nothing waits for the writer, and whoever reads the files wants every row.
"""

from pathlib import Path
from typing import Final

from clockwork.messages.records import ActionRecord, Record, RequestRecord
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG, header, rows

CHUNK_ROWS: Final = 4_096
"""Rows formatted and written in one go (chosen: half a MiB)."""


class Logs:
    """Both files, from `__init__` to `close`."""

    def __init__(self, directory: Path) -> None:
        """Create the directory, and both files anew.

        Raises:
            OSError: they cannot be written.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self._requests = (directory / REQUEST_LOG).open("wb")
        self._actions = (directory / ACTION_LOG).open("wb")
        self._requests.write(header(RequestRecord))
        self._actions.write(header(ActionRecord))

    def add(self, records: list[Record]) -> None:
        """Write some records."""
        requests = [record for record in records if isinstance(record, RequestRecord)]
        actions = [record for record in records if isinstance(record, ActionRecord)]
        for file, found in ((self._requests, requests), (self._actions, actions)):
            for first in range(0, len(found), CHUNK_ROWS):
                file.write(rows(found[first : first + CHUNK_ROWS]))

    def close(self) -> None:
        """Close both files."""
        self._requests.close()
        self._actions.close()
