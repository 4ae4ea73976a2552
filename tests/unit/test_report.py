"""The report: each figure against a plain computation, and logs that are broken or absent."""

import random
from collections import Counter
from pathlib import Path

import polars as pl
import pytest
from telemetry_records import START_NS, action, load, random_requests, request, shown, write_logs

from clockwork.errors import ConfigurationError
from clockwork.messages.actions import ActionType
from clockwork.messages.status import ActionStatus, Status
from clockwork.telemetry import log_reader
from clockwork.telemetry.buckets import POINTS_MAX, Buckets
from clockwork.telemetry.report import read_report, to_json
from clockwork.telemetry.rows import REQUEST_LOG
from clockwork.telemetry.summary import PredictionError, RequestSummary
from clockwork.telemetry.tally import GroupedSums, Tally
from clockwork.units import MS, SECOND, US


def exact_percentile(values: list[int], percent: float) -> int:
    """Return the smallest value that at least `percent` of all do not exceed."""
    ordered = sorted(values)
    index = next(i for i in range(len(ordered)) if (i + 1) / len(ordered) >= percent / 100 - 1e-12)
    return ordered[index]


def requests_of(directory: Path) -> RequestSummary:
    """Return the part of a report about requests, which must be there."""
    summary = read_report(directory).report.requests
    assert summary is not None
    return summary


def test_figures_of_requests_equal_a_plain_computation(tmp_path: Path) -> None:
    """Counts, rates, shares and percentiles are those that a loop over the rows finds."""
    made = random_requests(random.Random(7), 3_000)
    report = read_report(write_logs(tmp_path, made)).report
    summary = report.requests
    assert summary is not None
    elapsed_s = (max(r.t + r.latency for r in made) - min(r.t for r in made)) / SECOND
    good = sum(r.deadline_met for r in made)
    latencies = [r.latency for r in made if r.result == Status.SUCCESS]
    assert report.elapsed_s == pytest.approx(elapsed_s)
    assert summary.requests == 3_000
    assert summary.offered_per_s == pytest.approx(3_000 / elapsed_s)
    assert summary.goodput_per_s == pytest.approx(good / elapsed_s)
    assert summary.slo_attainment == pytest.approx(good / 3_000)
    assert summary.by_status == {"SUCCESS": len(latencies), "TIMEOUT": 3_000 - len(latencies)}
    assert summary.late == len(latencies) - good > 0
    assert summary.cold_starts == sum(r.is_coldstart for r in made)
    assert summary.latency is not None
    assert summary.latency.min_ms == min(latencies) / MS
    assert summary.latency.max_ms == max(latencies) / MS
    assert summary.latency.mean_ms == pytest.approx(sum(latencies) / len(latencies) / MS)
    for percent, found_ms in (
        (50, summary.latency.p50_ms),
        (90, summary.latency.p90_ms),
        (99, summary.latency.p99_ms),
        (99.9, summary.latency.p99_9_ms),
        (99.99, summary.latency.p99_99_ms),
    ):
        assert found_ms == pytest.approx(exact_percentile(latencies, percent) / MS, rel=1e-3)


def test_models_and_tenants_have_their_own_figures(tmp_path: Path) -> None:
    """Per model and per tenant, requests are counted apart; most requests come first."""
    made = random_requests(random.Random(8), 2_000)
    summary = requests_of(write_logs(tmp_path, made))
    assert {m.id: m.requests for m in summary.models} == Counter(r.model_id for r in made)
    assert {t.id: t.requests for t in summary.tenants} == Counter(r.user_id for r in made)
    counts = [model.requests for model in summary.models]
    assert counts == sorted(counts, reverse=True)
    first = summary.models[0]
    own = [r for r in made if r.model_id == first.id]
    latencies = [r.latency for r in own if r.result == Status.SUCCESS]
    assert first.slo_attainment == pytest.approx(sum(r.deadline_met for r in own) / len(own))
    assert first.cold_start_share == pytest.approx(sum(r.is_coldstart for r in own) / len(own))
    assert first.max_ms == max(latencies) / MS
    assert first.p99_ms == pytest.approx(exact_percentile(latencies, 99) / MS, rel=1e-2)


def test_a_run_without_success_has_no_latency(tmp_path: Path) -> None:
    """When every request failed there is no latency to tell, neither in all nor per model."""
    made = [request(number, result=Status.TIMEOUT, deadline_met=0) for number in range(5)]
    summary = requests_of(write_logs(tmp_path, made))
    assert summary.latency is None
    assert summary.models[0].p99_ms is None
    assert summary.goodput_per_s == 0


def test_unknown_statuses_are_shown_by_number(tmp_path: Path) -> None:
    """A log of another program may have statuses that we do not know."""
    write_logs(tmp_path, [request(), request(5)], [action()])
    for name, known, unknown in ((REQUEST_LOG, "\t0\t0\t0\t0\t", "\t99\t0\t0\t0\t"),):
        path = tmp_path / name
        text = path.read_text()
        assert known in text
        path.write_text(text.replace(known, unknown, 1))
    assert requests_of(tmp_path).by_status == {"SUCCESS": 1, "99": 1}


def test_figures_of_actions(tmp_path: Path) -> None:
    """Batches, utilization and counts come from successful actions; failures are counted apart."""
    actions = [
        action(0, batch_size=1),
        action(SECOND, batch_size=4, worker_exec_duration=100 * MS, gpu_id=1),
        action(2 * SECOND, batch_size=4, model_id=3),
        load(3 * SECOND, model_id=3),
        action(3 * SECOND, action_type=ActionType.EVICT_WEIGHTS, worker_exec_duration=0),
        action(9 * SECOND, status=ActionStatus.EXEC_TOO_LATE, worker_exec_duration=0),
        action(10 * SECOND - 4 * MS, worker_id=1),
    ]
    summary = read_report(write_logs(tmp_path, [request(model_id=3)], actions)).report.actions
    assert summary is not None
    assert (summary.infers, summary.loads, summary.evicts) == (4, 1, 1)
    assert summary.failures == {"INFER EXEC_TOO_LATE": 1}
    assert summary.batch_sizes == {1: 2, 4: 2}
    assert summary.mean_batch_size == pytest.approx((2 * 1 + 2 * 16) / (2 * 1 + 2 * 4))
    names = [(gpu.worker_id, gpu.gpu_id) for gpu in summary.gpus]
    assert names == [(0, 0), (0, 1), (1, 0)]
    assert summary.gpus[1].infer_utilization == pytest.approx(0.01)
    assert summary.gpus[0].load_utilization == pytest.approx(0.0008)
    assert summary.infer_utilization == pytest.approx((3 + 3 + 100 + 3) / 10_000 / 3)


def test_models_know_their_batches_and_loads(tmp_path: Path) -> None:
    """The table of models has what only the action log tells."""
    actions = [action(0, model_id=3, batch_size=2), load(5, model_id=3), load(9, model_id=3)]
    models = requests_of(
        write_logs(tmp_path, [request(model_id=3), request(model_id=4)], actions)
    ).models
    assert {m.id: (m.mean_batch_size, m.loads) for m in models} == {3: (2.0, 2), 4: (None, None)}


def errors_of(directory: Path) -> dict[tuple[str, str, str], PredictionError]:
    """Return the eight lines about prediction errors by action, kind and side."""
    summary = read_report(directory).report.actions
    assert summary is not None
    return {(error.action, error.of, error.side): error for error in summary.errors}


def test_prediction_errors_are_told_apart_by_side(tmp_path: Path) -> None:
    """What took longer than predicted is under, the rest over; both have sizes of errors."""
    actions = [
        action(i, worker_exec_duration=3 * MS + off_us * US)
        for i, off_us in enumerate((-50, 0, 10, 20, 700))
    ]
    errors = errors_of(write_logs(tmp_path, None, actions))
    over = errors["infer", "duration", "over"]
    under = errors["infer", "duration", "under"]
    assert (over.count, over.share) == (2, 0.4)
    assert (over.p50_ms, over.max_ms) == (0.0, 0.05)
    assert (under.count, under.p50_ms, under.max_ms) == (3, 0.02, 0.7)
    assert errors["infer", "completion", "over"].count == 5
    assert errors["load", "duration", "over"].count == 0
    assert errors["load", "duration", "over"].max_ms is None


def test_actions_without_a_prediction_have_no_error(tmp_path: Path) -> None:
    """An action that was never predicted is in no distribution of errors."""
    actions = [action(expected_exec_duration=0, expected_exec_complete=0)]
    assert not any(error.count for error in errors_of(write_logs(tmp_path, None, actions)).values())


def test_the_run_over_time_counts_every_request_once(tmp_path: Path) -> None:
    """Rates times bucket widths add up to all requests; latencies belong to departures."""
    made = random_requests(random.Random(9), 2_000)
    series = read_report(write_logs(tmp_path, made), bucket_ns=SECOND).report.series
    assert series.bucket_s == 1
    assert len(series.at_s) == round((max(r.t + r.latency for r in made) - START_NS) / SECOND)
    whole = slice(0, len(series.at_s) - 1)
    first_ns = min(r.t for r in made)
    for bucket in range(len(series.at_s))[whole]:
        begin_ns = first_ns + bucket * SECOND
        arrived = [r for r in made if begin_ns <= r.t < begin_ns + SECOND]
        departed = [r for r in made if begin_ns <= r.t + r.latency < begin_ns + SECOND]
        cold = {r.model_id for r in arrived if r.is_coldstart}
        assert series.offered_per_s[bucket] == len(arrived)
        assert series.throughput_per_s[bucket] == len(departed)
        assert series.goodput_per_s[bucket] == sum(r.deadline_met for r in departed)
        assert series.cold_starts_per_s[bucket] == sum(r.is_coldstart for r in arrived)
        assert series.active_models[bucket] == len({r.model_id for r in arrived})
        assert series.cold_models[bucket] == len(cold)
        latencies = [r.latency for r in departed if r.result == Status.SUCCESS]
        assert series.max_ms[bucket] == max(latencies) / MS
        assert series.p50_ms[bucket] == pytest.approx(
            exact_percentile(latencies, 50) / MS, rel=0.01
        )


def test_idle_buckets_have_no_latency(tmp_path: Path) -> None:
    """A bucket without departures has rates of zero and no latency."""
    made = [request(0), request(5 * SECOND)]
    series = read_report(write_logs(tmp_path, made, [action()]), bucket_ns=SECOND).report.series
    assert series.throughput_per_s == [1, 0, 0, 0, 0]
    assert series.p99_ms == [5.0, None, None, None, None]
    assert series.mean_batch_size == [1.0, None, None, None, None]
    assert series.infer_utilization[1] == 0


def test_a_window_leaves_out_what_is_outside(tmp_path: Path) -> None:
    """Only what arrived or was sent within the window counts, and its length is the time."""
    times_s = (0, 1, 2, 3, 4)
    write_logs(
        tmp_path,
        [request(t * SECOND) for t in times_s],
        [action(t * SECOND) for t in times_s],
    )
    report = read_report(tmp_path, from_ns=SECOND, to_ns=3 * SECOND).report
    assert report.elapsed_s == 2
    assert report.requests is not None
    assert report.requests.requests == 2
    assert report.requests.offered_per_s == 1
    assert report.actions is not None
    assert report.actions.infers == 2


def test_an_empty_window_is_refused(tmp_path: Path) -> None:
    """A window behind the end of the logs names how long they are."""
    write_logs(tmp_path, [request(0), request(SECOND)])
    with pytest.raises(ConfigurationError, match=r"the logs last 1\.005s"):
        read_report(tmp_path, from_ns=2 * SECOND)


def test_a_truncated_last_row_is_left_out(tmp_path: Path) -> None:
    """A last row without its end does not count, even if it could be read."""
    write_logs(tmp_path, [request(number) for number in range(3)])
    path = tmp_path / REQUEST_LOG
    path.write_bytes(path.read_bytes()[:-1])
    report = read_report(tmp_path).report
    assert report.requests is not None
    assert report.requests.requests == 2
    assert any("1 incomplete or unreadable rows" in text for text in report.warnings)


def test_garbage_in_the_middle_is_left_out(tmp_path: Path) -> None:
    """Rows with letters, missing cells, or bytes that are no text are skipped and counted."""
    write_logs(tmp_path, [request(number) for number in range(4)])
    path = tmp_path / REQUEST_LOG
    head, *lines = path.read_bytes().splitlines(keepends=True)
    lines[1:1] = [b"x" + lines[0], lines[0].split(b"\t")[0] + b"\n", b"\xff\x00\n", b"\n"]
    path.write_bytes(head + b"".join(lines))
    report = read_report(tmp_path).report
    assert report.requests is not None
    assert report.requests.requests == 4
    assert any("4 incomplete or unreadable rows" in text for text in report.warnings)


@pytest.mark.parametrize("content", [b"", b"t\trequest", b"HEADER"])
def test_logs_without_rows_make_an_empty_report(tmp_path: Path, content: bytes) -> None:
    """A log that is empty, or has only its header or a part of it, is said to have no rows."""
    write_logs(tmp_path, [], [])
    if content != b"HEADER":
        (tmp_path / REQUEST_LOG).write_bytes(content)
    analysis = read_report(tmp_path)
    assert analysis.report.requests is not None
    assert analysis.report.requests.requests == 0
    assert len(analysis.report.warnings) == 2
    assert "no rows" in shown(analysis.report)


def test_missing_request_log_is_said(tmp_path: Path) -> None:
    """An action log alone gives a report about actions."""
    report = read_report(write_logs(tmp_path, None, [action()])).report
    assert report.requests is None
    assert report.actions is not None


def test_a_folder_without_logs_is_refused(tmp_path: Path) -> None:
    """The error names the folder and both files, or says that there is no folder."""
    with pytest.raises(ConfigurationError, match="holds neither"):
        read_report(tmp_path)
    with pytest.raises(ConfigurationError, match="not a directory"):
        read_report(tmp_path / "absent")


def test_another_file_with_the_name_of_a_log_is_refused(tmp_path: Path) -> None:
    """The error names the columns that the file lacks."""
    (tmp_path / REQUEST_LOG).write_text("t\tresult\tmodel_id\n1\t2\t3\n")
    with pytest.raises(ConfigurationError, match="lacks user_id, latency"):
        read_report(tmp_path)


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    """A log with its columns in another order and further ones reads the same."""
    write_logs(tmp_path, [request(latency=7 * MS)])
    path = tmp_path / REQUEST_LOG
    lines = [line.split("\t") for line in path.read_text().splitlines()]
    path.write_text(
        "".join("\t".join([*line[::-1], line[0]]) + "\n" for line in lines).replace(
            "request_id\tt\tt", "request_id\tt\tnew"
        )
    )
    latency = requests_of(tmp_path).latency
    assert latency is not None
    assert latency.max_ms == 7.0


def test_blocks_do_not_change_the_figures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log read in many small blocks gives what it gives when read at once."""
    made = random_requests(random.Random(3), 500)
    write_logs(tmp_path, made, [action(r.t - START_NS, model_id=r.model_id) for r in made])
    whole = to_json(read_report(tmp_path).report)
    monkeypatch.setattr(log_reader, "BLOCK_BYTES", 1000)
    read_bytes: list[int] = []
    assert to_json(read_report(tmp_path, progress=read_bytes.append).report) == whole
    headers = sum(len(p.read_bytes().splitlines()[0]) + 1 for p in tmp_path.iterdir())
    assert sum(read_bytes) == log_reader.log_bytes(tmp_path) - headers


def test_a_row_longer_than_a_block_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks without a line break are joined until there is one."""
    write_logs(tmp_path, [request(number) for number in range(9)])
    monkeypatch.setattr(log_reader, "BLOCK_BYTES", 7)
    assert requests_of(tmp_path).requests == 9


def test_sums_merge_whatever_the_order() -> None:
    """Sums and maxima of parts are those of the whole, also after merging in between."""
    sums = GroupedSums(["k"], maxima=["high"])
    for number in range(3):
        part = pl.DataFrame({"k": range(300_000), "n": [number] * 300_000})
        sums.add(part.with_columns(high=pl.lit(number)))
    frame = sums.frame()
    assert frame.height == 300_000
    assert frame["n"].unique().to_list() == [3]
    assert frame["high"].unique().to_list() == [2]


def test_an_unfed_tally_has_no_percentiles() -> None:
    """Without values there is no row."""
    assert Tally(digits=3).percentiles((50,)).is_empty()


@pytest.mark.parametrize(
    ("elapsed_s", "width_s"),
    [(0.5, 0.1), (2, 0.1), (20, 1), (300, 1), (4500, 15), (28800, 120), (10**7, 36000)],
)
def test_buckets_have_round_widths(elapsed_s: float, width_s: float) -> None:
    """Short runs have buckets of a tenth of a second, long ones at most 300 buckets."""
    buckets = Buckets(begin_ns=0, end_ns=int(elapsed_s * SECOND))
    assert buckets.width_ns == width_s * SECOND
    assert 1 <= buckets.count <= POINTS_MAX
