"""The two logs of a run, the answers that its client got and the report tell the same story.

Every request is its own tenant, so that its row can be found again. What the logs say is computed
anew here from what happened before: who held which weights when, who ran in which batch.
"""

import csv
import json
import random
from bisect import bisect_left
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from live.system import Program, System
from msgspec import Struct

import clockwork
from clockwork.live.tensors import Inference
from clockwork.messages.actions import ActionType
from clockwork.messages.status import ActionStatus, Status
from clockwork.models.zoo.emulated import write_emulated
from clockwork.units import FOREVER_NS, MS

MODELS = (
    "resnet18_v1",
    "resnet50_v2",
    "densenet121",
    "googlenet",
    "mobile_pose_mobilenetv3",
    "resnet34_v2",
)
ROUNDS = 8
REQUESTS_PER_ROUND = 80
SLOS_MS = (1, 12, 30, 100, 30_000, 30_000)
"""From what nobody can keep to what everybody can."""

Row = dict[str, int]


class Asked(Struct, frozen=True):
    """A request as its client sees it; its place in the list is its tenant."""

    model_id: int
    slo_ms: int
    status: int
    # Absent unless it succeeded.
    answer: Inference | None


class Story(Struct, frozen=True):
    """A run, from three sides."""

    asked: list[Asked]
    requests: list[Row]
    actions: list[dict[str, float]]
    report: dict[str, object]

    def actions_of(self, kind: ActionType) -> list[Row]:
        """Return the successful actions of a kind."""
        return [  # type: ignore[return-value]
            row
            for row in self.actions
            if row["action_type"] == kind and row["status"] == ActionStatus.SUCCESS
        ]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """A short run on two emulated GPUs that cannot hold all models."""
    folder = tmp_path_factory.mktemp("run")
    write_emulated(folder / "zoo")
    logs = folder / "logs"
    with System(logs) as system:
        system.dummy("-n", "2", "--weights-cache-size=160MiB")
        system.controller()
        client = system.connect()
        models = [client.load_model(str(folder / "zoo" / name)) for name in MODELS]
        client.models()
        asked = play(models)
    report = Program("report", str(logs), f"--json={folder / 'report.json'}")
    assert report.wait() == 0, report.output
    return Story(
        asked,
        read_log(logs / "clockwork_request_log.tsv"),
        read_log(logs / "clockwork_action_log.tsv"),
        json.loads((folder / "report.json").read_bytes()),
    )


def play(models: list[clockwork.Model]) -> list[Asked]:
    """Send bursts of requests, each when the last one has been answered; return all outcomes."""
    rng = random.Random(5)
    asked: list[Asked] = []
    for number in range(ROUNDS):
        burst = []
        favourites = rng.sample(models, 3)
        for _ in range(REQUESTS_PER_ROUND):
            model, slo_ms = rng.choice(favourites), rng.choice(SLOS_MS)
            tenant = len(asked) + len(burst)
            future = model.infer_async(None, slo_ms=slo_ms, user_id=tenant)
            burst.append((model.model_id, slo_ms, future))
        for model_id, slo_ms, future in burst:
            error = future.exception()
            assert error is None or isinstance(error, clockwork.RequestError), error
            status = 0 if error is None else error.status
            asked.append(Asked(model_id, slo_ms, status, None if error else future.result()))
        models[number % len(models)].evict()
    return asked


def read_log(path: Path) -> list[Row]:
    """Return the rows of a log as numbers by column."""
    with path.open(newline="", encoding="utf-8") as file:
        return [
            {name: float(text) if "." in text else int(text) for name, text in row.items()}  # type: ignore[misc]
            for row in csv.DictReader(file, delimiter="\t")
        ]


def test_every_request_has_one_row_with_what_its_client_saw(story: Story) -> None:
    """Model, promise, outcome and latency are the same on both sides."""
    assert sorted(row["user_id"] for row in story.requests) == list(range(len(story.asked)))
    assert len({row["request_id"] for row in story.requests}) == len(story.asked)
    for row in story.requests:
        asked = story.asked[row["user_id"]]
        assert row["model_id"] == asked.model_id
        assert row["deadline"] == asked.slo_ms * MS
        assert row["result"] == asked.status
        if asked.answer is not None:
            assert row["latency"] == round(asked.answer.server_latency_ms * MS)
            assert row["is_coldstart"] == asked.answer.is_cold_start
            assert asked.answer.server_latency_ms <= asked.answer.latency_ms


def test_the_run_is_worth_the_name(story: Story) -> None:
    """It has answers and refusals, cold and warm starts, batches, loads and evictions."""
    assert {Status.SUCCESS, Status.COULD_NOT_START_IN_TIME} <= {each.status for each in story.asked}
    assert {row["is_coldstart"] for row in story.requests} == {0, 1}
    assert max(row["batch_size"] for row in story.actions_of(ActionType.INFER)) > 1
    assert len(story.actions_of(ActionType.LOAD_WEIGHTS)) > len(MODELS)
    assert len(story.actions_of(ActionType.EVICT_WEIGHTS)) > 0


def test_a_deadline_is_met_by_success_in_time(story: Story) -> None:
    """`deadline_met` follows from result, latency and deadline."""
    for row in story.requests:
        is_met = row["result"] == Status.SUCCESS and row["latency"] <= row["deadline"]
        assert row["deadline_met"] == is_met, row


def test_every_success_was_in_one_batch(story: Story) -> None:
    """The Infers of a model have as many places as it has answers, and clients were told which."""
    seen: Counter[tuple[int, int]] = Counter()
    for asked in story.asked:
        if asked.answer is not None:
            seen[asked.model_id, asked.answer.batch_size] += 1
    logged: Counter[tuple[int, int]] = Counter()
    for row in story.actions_of(ActionType.INFER):
        logged[row["model_id"], row["batch_size"]] += row["batch_size"]
    assert seen == logged


def test_goodput_of_batches_is_that_of_requests(story: Story) -> None:
    """Shares of batches that were in time add up to the requests that were."""
    infers = story.actions_of(ActionType.INFER)
    in_time = sum(row["goodput"] * row["batch_size"] for row in infers)
    assert in_time == pytest.approx(sum(row["deadline_met"] for row in story.requests))


def holdings(story: Story) -> dict[int, list[tuple[int, int]]]:
    """Return when GPUs held weights: from the load's result to the eviction's order, by model."""
    evictions = defaultdict(list)
    for row in story.actions:
        if row["action_type"] == ActionType.EVICT_WEIGHTS:
            evictions[row["model_id"], row["worker_id"], row["gpu_id"]].append(int(row["t"]))
    held = defaultdict(list)
    for row in story.actions_of(ActionType.LOAD_WEIGHTS):
        begin_ns = row["t"] + row["controller_action_duration"]
        ends = sorted(evictions[row["model_id"], row["worker_id"], row["gpu_id"]])
        place = bisect_left(ends, begin_ns)
        held[row["model_id"]].append((begin_ns, ends[place] if place < len(ends) else FOREVER_NS))
    return held


def test_cold_starts_follow_from_loads_and_evictions(story: Story) -> None:
    """Requests find as many holders as the action log says; a cold one finds none.

    A request is looked at some time between its arrival and its departure: where nothing happens
    to its model in between, the count is known.
    """
    held = holdings(story)
    known_count = 0
    for row in story.requests:
        begin_ns, end_ns = row["t"], row["t"] + row["latency"]
        spans = held[row["model_id"]]
        certain = sum(since < begin_ns and end_ns < until for since, until in spans)
        possible = sum(since <= end_ns and begin_ns <= until for since, until in spans)
        assert certain <= row["arrival_count"] <= possible, row
        assert row["is_coldstart"] == (row["arrival_count"] == 0)
        at_end = [(since, until) for since, until in spans if since <= end_ns <= until]
        strictly = [1 for since, until in at_end if since < end_ns < until]
        assert len(strictly) <= row["departure_count"] <= len(at_end), row
        known_count += certain == possible
    assert known_count > len(story.requests) / 3


def test_actions_go_through_their_stages_in_order(story: Story) -> None:
    """Received, executed, copied, sent; and at the controller received, then handled."""
    for row in story.actions_of(ActionType.INFER):
        stages = [
            row["worker_action_received"] + row["worker_exec_duration"],
            row["worker_exec_complete"],
            row["worker_copy_output_complete"],
            row["worker_result_sent"],
        ]
        assert stages == sorted(stages), row
        assert row["controller_result_enqueue"] <= row["controller_action_duration"], row


def test_the_report_says_the_same(story: Story) -> None:
    """Counts and extremes are those of the logs; rates times duration give counts."""
    report = story.report["requests"]
    assert isinstance(report, dict)
    rows, succeeded = story.requests, [row for row in story.requests if not row["result"]]
    met = sum(row["deadline_met"] for row in rows)
    assert report["requests"] == len(rows)
    assert report["by_status"] == Counter(Status(row["result"]).name for row in rows)
    assert report["late"] == len(succeeded) - met
    assert report["cold_starts"] == sum(row["is_coldstart"] for row in rows)
    assert report["slo_attainment"] == pytest.approx(met / len(rows))
    assert report["goodput_per_s"] * story.report["elapsed_s"] == pytest.approx(met)  # type: ignore[operator]
    latencies = sorted(row["latency"] / MS for row in succeeded)
    assert report["latency"]["count"] == len(latencies)
    assert report["latency"]["min_ms"] == pytest.approx(latencies[0])
    assert report["latency"]["max_ms"] == pytest.approx(latencies[-1])
    assert report["latency"]["mean_ms"] == pytest.approx(sum(latencies) / len(latencies))
    by_model = Counter(row["model_id"] for row in rows)
    assert {row["id"]: row["requests"] for row in report["models"]} == by_model


def test_the_report_counts_actions_as_the_log_does(story: Story) -> None:
    """Infers by batch size, loads, evictions, failures."""
    report = story.report["actions"]
    assert isinstance(report, dict)
    infers = story.actions_of(ActionType.INFER)
    sizes = Counter(str(row["batch_size"]) for row in infers)
    assert report["infers"] == len(infers)
    assert report["loads"] == len(story.actions_of(ActionType.LOAD_WEIGHTS))
    assert report["evicts"] == len(story.actions_of(ActionType.EVICT_WEIGHTS))
    assert report["batch_sizes"] == sizes
    squares = sum(row["batch_size"] ** 2 for row in infers)
    assert report["mean_batch_size"] == pytest.approx(
        squares / sum(row["batch_size"] for row in infers)
    )
    failures = sum(row["status"] != ActionStatus.SUCCESS for row in story.actions)
    assert sum(report["failures"].values()) == failures
