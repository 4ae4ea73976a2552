"""Workload files: what they mean, and what is said when they are wrong."""

import re
from pathlib import Path
from typing import get_args

import pytest

from clockwork.client.catalogue import WORKLOADS
from clockwork.client.workload import (
    BurstyClosed,
    BurstyOpen,
    ClosedLoop,
    FixedRate,
    Gamma,
    Knob,
    ModelSet,
    OnOff,
    Poisson,
    Step,
    TraceReplay,
    Workload,
)
from clockwork.errors import ConfigurationError
from clockwork.live.workload_files import read_workload_file
from clockwork.live.workload_tables import ArrivalsTable
from clockwork.units import MINUTE, MS, SECOND

DOCS = Path(__file__).parents[2] / "docs" / "workloads.md"
ZOO = {"resnet50_v2": "/zoo/resnet50_v2", "alexnet": "/zoo/alexnet"}
MODEL = '[[models]]\nname = "alexnet"\n'
LADDER = "period = '1s'\nstart = 1\nstep = 'add'\nby = 1\n"
TOO_SHORT = "kind = 'bursty-open'\nrate = 1\nburst = '1us'\nidle = '1s'\n"
STREAM = '[[streams]]\narrivals = { kind = "poisson", rate = 5 }\n'


def read(tmp_path: Path, text: str, *, seed: int | None = None) -> Workload:
    """Return the workload of a file with this text."""
    path = tmp_path / "w.toml"
    path.write_text(text, encoding="utf-8")
    return read_workload_file(path, zoo=ZOO, seed=seed)


def test_a_file_describes_models_streams_and_ladders(tmp_path: Path) -> None:
    """Every key ends up in the workload."""
    workload = read(
        tmp_path,
        """
        name = "mixed"
        duration = "90s"
        seed = 7
        slo = "50ms"

        [[models]]
        name = "resnet50_v2"
        copies = 3
        label = "hot"

        [[models]]
        name = "mine"
        path = "/models/mine"

        [[streams]]
        label = "web"
        models = ["hot"]
        tenant = 4
        slo_factor = 3
        start_after = "5s"
        arrivals = { kind = "fixed-rate", rate = 10 }

        [[streams]]
        arrivals = { kind = "closed-loop", concurrency = 2, requests = 9 }

        [[ladders]]
        knob = "slo_factor"
        streams = ["web"]
        period = "10s"
        start = 2
        step = "mul"
        by = 1.5
        end = 20
        """,
    )
    assert workload.name == "mixed"
    assert (workload.duration_ns, workload.seed) == (90 * SECOND, 7)
    assert workload.models == (
        ModelSet("resnet50_v2", "/zoo/resnet50_v2", 3),
        ModelSet("mine", "/models/mine", 1),
    )
    web, rest = workload.streams
    assert web.models == (0, 1, 2)
    assert (web.user_id, web.slo_ns, web.start_after_ns) == (4, 0, 5 * SECOND)
    assert web.slo_factor == 2, "a ladder begins at its start"
    assert web.arrivals == FixedRate(10)
    assert (rest.models, rest.slo_ns) == ((0, 1, 2, 3), 50 * MS)
    assert rest.arrivals == ClosedLoop(2, 9)
    (ladder,) = workload.ladders
    assert (ladder.knob, ladder.streams, ladder.step) == (Knob.SLO_FACTOR, (0,), Step.MULTIPLY)
    assert (ladder.period_ns, ladder.by, ladder.end) == (10 * SECOND, 1.5, 20)


@pytest.mark.parametrize(
    ("table", "arrivals"),
    [
        ('{ kind = "poisson", rate = 2.5 }', Poisson(2.5)),
        ('{ kind = "gamma", rate = 1, cv = 4 }', Gamma(1, 4)),
        (
            '{ kind = "bursty-open", rate = 1, burst = "1s", idle = "2s" }',
            BurstyOpen(1, SECOND, 2 * SECOND),
        ),
        (
            '{ kind = "bursty-closed", concurrency = 3, burst = "1s", idle = "2s" }',
            BurstyClosed(3, SECOND, 2 * SECOND),
        ),
        (
            '{ kind = "on-off", small = 1, large = 8, delay = "1ms", period = "1s" }',
            OnOff(1, 8, MS, SECOND),
        ),
    ],
)
def test_every_kind_of_arrivals_can_be_written(
    tmp_path: Path, table: str, arrivals: object
) -> None:
    """An inline table has the kind and its parameters."""
    workload = read(tmp_path, f"{MODEL}[[streams]]\narrivals = {table}\n")
    assert workload.streams[0].arrivals == arrivals


def test_each_gives_every_model_its_own_arrivals_and_tenant(tmp_path: Path) -> None:
    """Two copies have two streams of the full rate."""
    streams = read(tmp_path, f"{MODEL}copies = 2\n{STREAM}each = true\ntenant = 10\n").streams
    assert [(stream.models, stream.user_id) for stream in streams] == [((0,), 10), ((1,), 11)]
    assert {stream.arrivals for stream in streams} == {Poisson(5)}


def test_zipf_gives_models_popularity(tmp_path: Path) -> None:
    """Weights fall with rank, and the cold tail shares its part."""
    (stream,) = read(
        tmp_path,
        f"{MODEL}copies = 4\n{STREAM}zipf = {{ exponent = 1, cold = 2, cold_share = 0.1 }}\n",
    ).streams
    assert stream.weights == pytest.approx((0.6, 0.3, 0.05, 0.05))


def test_a_trace_becomes_a_stream_per_function(tmp_path: Path) -> None:
    """The file is looked for beside the workload file; functions are tenants of their own."""
    header = "HashOwner,HashApp,HashFunction,Trigger,1,2"
    (tmp_path / "t.csv").write_text(f"{header}\no,a,f,http,5,5\no,a,g,http,1,1\n", encoding="utf-8")
    workload = read(
        tmp_path,
        f"{MODEL}copies = 2\n[[streams]]\nlabel = 'day'\ntenant = 3\nslo = '20ms'\n"
        "[streams.arrivals]\nkind = 'trace'\nfile = 't.csv'\nstretch = 0.5\nscale = 2\n"
        "exact = true\nonce = true\nresample = 4\nmapping = 'turn'\n"
        "[[ladders]]\nknob = 'scale'\nstreams = ['day']\nperiod = '1s'\nstart = 8\nstep = 'add'\n"
        "by = 1\n",
    )
    assert [stream.models for stream in workload.streams] == [(0,), (1,), (0,), (1,)]
    assert [stream.user_id for stream in workload.streams] == [3, 4, 5, 6]
    first = workload.streams[0].arrivals
    assert isinstance(first, TraceReplay)
    assert (first.interval_ns, first.exact, first.once) == (MINUTE // 2, True, True)
    assert first.scale == 8, "a ladder begins at its start"
    assert workload.notes == ("Replaying trace t.csv, 2 functions resampled to 4",)
    assert workload.ladders[0].streams == (0, 1, 2, 3)


def test_a_seed_on_the_command_line_wins(tmp_path: Path) -> None:
    """The file's seed is the default."""
    assert read(tmp_path, f"seed = 4\n{MODEL}{STREAM}").seed == 4
    assert read(tmp_path, f"seed = 4\n{MODEL}{STREAM}", seed=9).seed == 9


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a = = 1", r"w.toml:1: this is no TOML: Invalid value$"),
        ("a = 1\nb = 2 3", r"w.toml:2: this is no TOML: Expected newline"),
        (STREAM, r"w.toml:1: models: at least 1 \[\[models\]\] must be there"),
        (MODEL, r"w.toml:1: streams: at least 1"),
        (f"models = 3\n{STREAM}", r"w.toml:1: models: write each of the models as \[\[models\]\]"),
        (f"sede = 3\n{MODEL}{STREAM}", r"w.toml:1: sede: unknown key \(did you mean seed\?\)"),
        (f"seed = 'x'\n{MODEL}{STREAM}", r"w.toml:1: seed: Expected `int`, got `str`"),
        (f"slo = 5\n{MODEL}{STREAM}", r"w.toml:1: slo: cannot read 5: write a text with a unit"),
        (f"slo = '0ms'\n{MODEL}{STREAM}", r"w.toml:1: slo: '0ms' must be more than 0"),
        (f"{MODEL}copies = 0\n{STREAM}", r"w.toml:3: copies: Expected `int` >= 1, got 0"),
        (f"{MODEL}copies = 1_000_000_000\n{STREAM}", r"w.toml:3: copies: Expected `int` <= 100000"),
        (
            f"{MODEL}copies = 60_000\n{MODEL}label = 'b'\ncopies = 60_000\n{STREAM}",
            r"w.toml:7: copies: these make 120000 models, allowed: 100000",
        ),
        (
            f"[[models]]\nname = 'alexnt'\n{STREAM}",
            r"w.toml:2: name: there is no 'alexnt'",
        ),
        (f"{MODEL}{MODEL}{STREAM}", r"w.toml:3: label: 'alexnet' is taken"),
        (f"{MODEL}{STREAM}models = ['x']\n", r"w.toml:5: models: there is no 'x' \(known: alexnet"),
        (f"{MODEL}{STREAM}slo = '1s'\nslo_factor = 2\n", r"w.toml:6: slo_factor: give slo or"),
        (f"{MODEL}{STREAM}label = 'a'\n{STREAM}label = 'a'\n", r"w.toml:8: label: 'a' is taken"),
        (f"{MODEL}{STREAM}each = true\nzipf = {{}}\n", r"w.toml:6: zipf: each model has its own"),
        (f"{MODEL}{STREAM}zipf = {{ cold = 1 }}\n", r"w.toml:5: zipf: 1 of 1 models are cold"),
        (
            f"{MODEL}[[streams]]\ntenant = 1\n",
            r"w.toml:3: .* required field `arrivals`",
        ),
        (
            f"{MODEL}[[streams]]\narrivals = {{ kind = 'poison', rate = 1 }}\n",
            r"w.toml:4: arrivals.kind: there is no 'poison' \(did you mean poisson\?\)",
        ),
        (
            f"{MODEL}[[streams]]\n[streams.arrivals]\nkind = 'gamma'\nrate = 1\ncv = -1\n",
            r"w.toml:7: arrivals.cv: Expected `float` > 0.0",
        ),
        (
            f"{MODEL}[[streams]]\narrivals = {{ kind = 'poisson', rte = 1 }}\n",
            r"w.toml:4: arrivals",
        ),
        (
            f"{MODEL}[[streams]]\narrivals = {{ kind = 'trace', file = 'no.csv' }}\n",
            r"w.toml:4: arrivals.file: cannot read .*no.csv: No such file",
        ),
        (
            f"{MODEL}[[streams]]\n[streams.arrivals]\n{TOO_SHORT}",
            r"w.toml:4: arrivals: burst and idle must be at least 1ms",
        ),
        (
            f"{MODEL}{STREAM}label = 'a'\n[[ladders]]\nknob = 'rate'\nstreams = ['b']\n{LADDER}",
            r"w.toml:8: streams: there is no 'b'",
        ),
        (
            f"{MODEL}{STREAM}label = 'a'\n[[ladders]]\nknob = 'scale'\nstreams = ['a']\n{LADDER}",
            r"w.toml:7: knob: the arrivals of stream 'a' have no such knob",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_file_line_and_key(
    tmp_path: Path, text: str, complaint: str
) -> None:
    """Nothing is loaded or sent before the file is right."""
    with pytest.raises(ConfigurationError, match=complaint):
        read(tmp_path, text)


def test_all_problems_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    """One run tells what is wrong with each table, in the order of lines."""
    with pytest.raises(ConfigurationError) as raised:
        read(tmp_path, f"seed = -1\n{MODEL}copies = 0\n{STREAM}tenant = 'x'\n")
    lines = [line.split(": ")[0].rpartition(":")[2] for line in str(raised.value).splitlines()]
    assert lines == ["1", "4", "7"]


def test_a_trace_that_is_none_is_reported_at_its_line(tmp_path: Path) -> None:
    """What is wrong with the trace file is said at the key that names it."""
    (tmp_path / "t.csv").write_text("nothing\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match=r"w.toml:4: arrivals.file: .*t.csv:1: no trace"):
        read(tmp_path, f"{MODEL}[[streams]]\narrivals = {{ kind = 'trace', file = 't.csv' }}\n")


def test_a_file_of_bytes_is_refused_with_its_line(tmp_path: Path) -> None:
    """What is no text has a line, too."""
    path = tmp_path / "w.toml"
    path.write_bytes(b"seed = 1\nname = '\xff'\n")
    with pytest.raises(ConfigurationError, match=r"w.toml:2: this is no TOML: it is not UTF-8"):
        read_workload_file(path, zoo=ZOO)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """The message has the path and the reason."""
    with pytest.raises(ConfigurationError, match=r"cannot read .*none.toml: No such file"):
        read_workload_file(tmp_path / "none.toml", zoo=ZOO)


def test_the_example_of_the_documentation_is_right(tmp_path: Path) -> None:
    """The file that users copy can be read, and means what it says."""
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    workload = read(tmp_path, example)
    assert workload.name == "two tenants"
    assert workload.model_count == 11
    assert len(workload.streams) == 12
    assert workload.ladders[0].streams == tuple(range(1, 12))


def test_the_documentation_names_every_workload_and_kind() -> None:
    """Nothing that can be run is left out."""
    text = DOCS.read_text(encoding="utf-8")
    kinds = [kind.__struct_config__.tag for kind in get_args(ArrivalsTable)]
    assert all(f"`{kind}`" in text for kind in kinds)
    for name, workload in WORKLOADS.items():
        assert re.search(rf"`{re.escape(name)}[ `]", text), name
        if name.startswith("azure_") and name != "azure_scalability_exp":
            continue
        for parameter in workload.parameters:
            assert parameter.name in text
