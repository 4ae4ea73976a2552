"""The log files: exact rows, nothing lost, and disks that are not there or full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from telemetry_records import START_NS, action, load, request

from clockwork.messages.status import ActionStatus, Status
from clockwork.telemetry.log_files import (
    CHUNK_ROWS,
    DEFAULT_DIRECTORY,
    LOG_DIR_VARIABLE,
    LogFiles,
    log_directory,
)
from clockwork.telemetry.rows import ACTION_LOG, REQUEST_LOG


def lines_of(directory: Path, name: str) -> list[list[str]]:
    """Return the cells of a log file, line by line."""
    text = (directory / name).read_text()
    assert text.endswith("\n")
    return [line.split("\t") for line in text.splitlines()]


def spaced(rows: list[list[str]]) -> list[str]:
    """Return rows as lines that are easy to read in a test."""
    return [" ".join(cells) for cells in rows]


def test_request_rows_have_the_documented_columns(tmp_path: Path) -> None:
    """A request becomes one row with the twelve documented columns in order."""
    files = LogFiles(tmp_path)
    files.add(
        request(
            7,
            request_id=42,
            result=Status.TIMEOUT,
            user_id=3,
            model_id=9,
            slo_factor=2.5,
            latency=123,
            deadline=1000,
            deadline_met=0,
            arrival_count=0,
            departure_count=2,
            is_coldstart=1,
        )
    )
    files.close()
    assert spaced(lines_of(tmp_path, REQUEST_LOG)) == [
        (
            "t request_id result user_id model_id slo_factor latency deadline deadline_met "
            "arrival_count departure_count is_coldstart"
        ),
        f"{START_NS + 7} 42 4 3 9 2.5 123 1000 0 0 2 1",
    ]


def test_action_rows_have_the_documented_columns(tmp_path: Path) -> None:
    """An action becomes one row with the 23 documented columns in order."""
    files = LogFiles(tmp_path)
    files.add(action(5, action_id=8, batch_size=4, goodput=0.75, status=ActionStatus.EXEC_TOO_LATE))
    files.close()
    assert spaced(lines_of(tmp_path, ACTION_LOG)) == [
        (
            "t action_id action_type status worker_id gpu_id model_id batch_size "
            "expected_exec_duration worker_exec_duration expected_exec_complete "
            "worker_exec_complete expected_gpu_clock worker_gpu_clock_before worker_gpu_clock "
            "worker_copy_output_complete worker_action_received worker_result_sent "
            "controller_result_enqueue controller_action_duration goodput requests_queued "
            "copies_loaded"
        ),
        (
            f"{START_NS + 5} 8 2 81 0 0 0 4 3000000 3000000 4000000 4000000 0 0 0 4000000 100000 "
            "4000000 5000000 5000000 0.75 0 1"
        ),
    ]


def test_whole_floats_are_written_without_a_fraction(tmp_path: Path) -> None:
    """A float that is a whole number is written as the original's streams write it."""
    files = LogFiles(tmp_path)
    files.add(request(slo_factor=10.0))
    files.add(load(goodput=1.0))
    files.close()
    assert lines_of(tmp_path, REQUEST_LOG)[1][5] == "10"
    assert lines_of(tmp_path, ACTION_LOG)[1][20] == "1"


def test_every_row_arrives_in_order(tmp_path: Path) -> None:
    """Rows of many chunks are all there after close, in the order in which they were added."""
    files = LogFiles(tmp_path)
    for number in range(5_000):
        files.add(request(number, request_id=number))
        files.add(action(number, action_id=number))
    files.close()
    for name in (REQUEST_LOG, ACTION_LOG):
        numbers = [int(cells[1]) for cells in lines_of(tmp_path, name)[1:]]
        assert numbers == list(range(5_000))
    assert files.written_count == 10_000
    assert files.lost_count == 0


def test_rows_arrive_while_the_files_are_open(tmp_path: Path) -> None:
    """Whole chunks, and the few rows after them, reach the file without a close."""
    files = LogFiles(tmp_path)
    count = 2 * CHUNK_ROWS + 3
    for number in range(count):
        files.add(request(number, request_id=number))
    while files.written_count < count:
        os.sched_yield()
    numbers = [int(cells[1]) for cells in lines_of(tmp_path, REQUEST_LOG)[1:]]
    assert numbers == list(range(count))
    files.close()


def test_rows_are_flushed_at_the_interpreters_exit(tmp_path: Path) -> None:
    """A program that ends without closing its files still loses no row."""
    program = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\n"
        "from telemetry_records import request\n"
        "from clockwork.telemetry.log_files import LogFiles\n"
        f"files = LogFiles(Path({str(tmp_path)!r}))\n"
        "[files.add(request(number)) for number in range(1000)]\n"
        "sys.exit(3)\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", program], cwd=root, check=False)
    assert ended.returncode == 3
    assert len(lines_of(tmp_path, REQUEST_LOG)) == 1001


def test_a_missing_directory_costs_one_warning(tmp_path: Path) -> None:
    """Without its directory a log warns once, names the variable, and counts the rows."""
    warnings: list[str] = []
    files = LogFiles(tmp_path / "absent", warn=warnings.append)
    files.add(request())
    files.add(action())
    files.close()
    assert files.lost_count == 2
    assert len(warnings) == 2, warnings
    assert "absent" in warnings[0]
    assert LOG_DIR_VARIABLE in warnings[0]
    assert "2 rows were lost" in warnings[1]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_costs_one_warning(tmp_path: Path) -> None:
    """A disk without room costs one warning, and the other file goes on."""
    (tmp_path / REQUEST_LOG).symlink_to("/dev/full")
    warnings: list[str] = []
    files = LogFiles(tmp_path, warn=warnings.append)
    for number in range(600):
        files.add(request(number))
        files.add(action(number))
    files.close()
    assert files.lost_count == 600
    assert "No space left" in warnings[0]
    assert len(warnings) == 2, warnings
    assert len(lines_of(tmp_path, ACTION_LOG)) == 601


def test_a_row_is_never_torn_by_a_full_disk(tmp_path: Path) -> None:
    """When the room ends in the middle of a chunk, the file is cut back to its last whole row."""
    program = (
        "import resource, sys; sys.path.insert(0, 'tests')\n"
        "from pathlib import Path\n"
        "from telemetry_records import request\n"
        "from clockwork.telemetry.log_files import LogFiles\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))\n"
        f"files = LogFiles(Path({str(tmp_path)!r}))\n"
        "[files.add(request(number)) for number in range(2000)]\n"
        "files.close()\n"
        "assert files.written_count + files.lost_count == 2000\n"
        "print(files.written_count)\n"
    )
    root = Path(__file__).parents[2]
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True
    )
    assert "File too large" in ended.stderr
    cells = lines_of(tmp_path, REQUEST_LOG)
    assert len(cells) == 1 + int(ended.stdout)
    assert {len(row) for row in cells} == {12}


def test_the_variable_names_the_directory(tmp_path: Path) -> None:
    """The variable wins, even over directories that exist; unset or empty falls back."""
    assert log_directory({LOG_DIR_VARIABLE: "/no/such/place"}) == Path("/no/such/place")
    fallback = log_directory({LOG_DIR_VARIABLE: ""})
    assert fallback in (DEFAULT_DIRECTORY, Path.cwd())
    assert fallback == log_directory({})
    assert fallback.is_dir()


def test_closing_twice_changes_nothing(tmp_path: Path) -> None:
    """A second close does nothing."""
    files = LogFiles(tmp_path)
    files.add(request())
    files.close()
    files.close()
    assert files.written_count == 1
