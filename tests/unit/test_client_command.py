"""The commands `client` and `trace` as far as they need no controller."""

import shutil
from pathlib import Path

import pytest

from clockwork.cli.client import _command, _value_of
from clockwork.cli.main import main
from clockwork.client.catalogue import WORKLOADS
from clockwork.client.named import RESNET50, NamedWorkload
from clockwork.errors import ConfigurationError
from clockwork.live.model_zoo import list_zoo
from clockwork.models.zoo.emulated import write_emulated
from clockwork.units import MS, SECOND

MODELS = ("densenet121", "googlenet", "resnet18_v1", RESNET50)


@pytest.fixture(scope="module")
def zoo_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model zoo of four emulated models."""
    everything = tmp_path_factory.mktemp("everything")
    write_emulated(everything)
    zoo = tmp_path_factory.mktemp("zoo")
    for name in MODELS:
        shutil.copytree(everything / name, zoo / name)
    return zoo


def outcome(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[object, str, str]:
    """Return exit code, stdout and stderr of a command line."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def test_an_unknown_workload_is_named_before_connecting(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Nobody listens at the port, and nobody is asked."""
    code, _, err = outcome(capsys, "client", "localhost:1", "nope")
    assert code == 1
    assert "Unknown workload: nope" in err
    assert "Connecting" not in err
    assert "azure_fast" in err


@pytest.mark.parametrize("arguments", [["-h"], ["localhost:1", "-h"]])
def test_the_help_lists_all_workloads(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Each name is followed by what it is."""
    code, out, _ = outcome(capsys, "client", *arguments)
    assert code == 0
    for name in WORKLOADS:
        assert f"  {name} " in out
    assert "CLOCKWORK_DISABLE_INPUTS" in out


@pytest.mark.parametrize("name", WORKLOADS)
def test_every_workload_explains_itself(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """The help has each parameter, by flag and (where it has one) by position."""
    code, out, _ = outcome(capsys, "client", "localhost:1", name, "-h")
    assert code == 0
    assert f"client HOST:PORT {name}" in out
    # Lines are broken at any hyphen.
    text = "".join(out.split())
    for parameter in WORKLOADS[name].parameters:
        assert f"--{parameter.name}" in text
        assert not parameter.is_positional or _position(parameter.name) in text
    assert outcome(capsys, "client", name)[0] == 0


def _position(name: str) -> str:
    """Return how the usage line has a parameter."""
    return f"[{name.upper().replace('-', '_')}]"


SAMPLES: dict[type, str] = {int: "3", float: "2.5", str: "name", bool: "true"}


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_parameter_means_the_same_by_position_and_by_flag(name: str) -> None:
    """The order by position is that of the table; a flag of the name has the same effect."""
    named = WORKLOADS[name]
    positional = [each for each in named.parameters if each.is_positional]
    texts = [(each.choices or (SAMPLES[each.kind],))[-1] for each in positional]
    flags = [f"--{each.name}={text}" for each, text in zip(positional, texts, strict=True)]
    common = ["--duration=2s", "--seed=4", "--slo=50ms", "--models=a,b"]
    given = [_given(named, [*arguments, *common]) for arguments in (texts, flags)]
    assert given[0] == given[1]
    assert list(given[0][0]) == [each.name for each in positional]
    assert given[0][1] == {"duration": 2 * SECOND, "seed": 4, "slo": 50 * MS, "models": "a,b"}


def _given(named: NamedWorkload, arguments: list[str]) -> tuple[dict[str, object], object]:
    """Return the parameters that were given, and some of the common options."""
    params = _command(named, None).make_context(named.name, arguments).params
    values = {
        each.name: value
        for each in named.parameters
        if (value := _value_of(each, params)) is not None
    }
    return values, {key: params[key] for key in ("duration", "seed", "slo", "models")}


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 1, "HOST:PORT and a workload are needed"),
        (["localhost:1"], 1, "HOST:PORT and a workload are needed"),
        (["local host:x", "simple"], 1, "cannot read the address"),
        (["localhost:1", "--duration", "5s"], 2, "Name a workload"),
        (["localhost:1", "gamma", "3", "x"], 2, "'x' is not a valid float"),
        (["localhost:1", "gamma", "3", "5", "--n", "4"], 2, "n is given twice"),
        (["localhost:1", "gamma", "3"], 1, "rate is missing"),
        (["localhost:1", "gamma", "3", "5", "--models", "no"], 1, "no model 'no'"),
        (["localhost:1", "azure", "--trace-file", "none.csv"], 1, "none.csv"),
        (["localhost:1", "simple", "--duration", "20"], 2, "nanoseconds: add a unit, as in 20s"),
        (["localhost:1", "azure"], 1, "AZURE_TRACE_DIR is not set"),
        (["localhost:1", "simple"], 1, "cannot reach localhost:1: nobody listens there"),
    ],
)
def test_mistakes_are_told_in_a_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, zoo_dir: Path,
    arguments: list[str], code: int, message: str,
) -> None:  # fmt: skip
    """What is wrong is named, with the exit code of the original or of wrong usage."""
    monkeypatch.setenv("CLOCKWORK_MODEL_DIR", str(zoo_dir))
    monkeypatch.delenv("AZURE_TRACE_DIR", raising=False)
    found, _, err = outcome(capsys, "client", *arguments)
    assert found == code
    assert message in err
    assert "Traceback" not in err


def test_a_missing_zoo_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The variable has to be set, to a directory."""
    monkeypatch.delenv("CLOCKWORK_MODEL_DIR", raising=False)
    assert "CLOCKWORK_MODEL_DIR is not set" in outcome(capsys, "client", "x:1", "simple")[2]
    with pytest.raises(ConfigurationError, match="no directory"):
        list_zoo(str(tmp_path / "none"))


def test_the_zoo_has_directories_with_models_in_alphabetical_order(tmp_path: Path) -> None:
    """Ours and the original's files make a model; anything else is left alone."""
    for name, file in (("b", "model.json"), ("a", "model.clockwork_params"), ("c", "other")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    (tmp_path / "file").touch()
    assert list_zoo(str(tmp_path)) == {"a": str(tmp_path / "a"), "b": str(tmp_path / "b")}


def test_traces_are_made_and_described_on_the_command_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """What generate prints about a trace is what describe prints about its file."""
    path = tmp_path / "trace.csv"
    arguments = ("--functions", 200, "--minutes", 60, "--seed", 4, "--first-minute", 480)
    code, made, _ = outcome(capsys, "trace", "generate", "-o", path, *arguments)
    assert code == 0
    assert f"Wrote {path}" in made
    code, found, _ = outcome(capsys, "trace", "describe", path)
    assert code == 0
    assert calls_in(made) == calls_in(found)
    empty = tmp_path / "empty.csv"
    empty.write_text("app,func,end_timestamp,duration\n", encoding="utf-8")
    code, _, err = outcome(capsys, "trace", "describe", empty)
    assert code == 1
    assert "has no calls" in err


def calls_in(text: str) -> str:
    """Return the line of a description that has the number of calls."""
    return next(line for line in text.splitlines() if line.startswith("  calls"))
