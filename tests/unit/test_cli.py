"""The command line: its table, help everywhere, and how mistakes are told."""

import subprocess
import sys

import click
import pytest

from clockwork.cli.main import clockwork, main
from clockwork.cli.table import COMMANDS, SECTIONS
from clockwork.cli.worker import config_lines
from clockwork.live.options import WORKER, resolve_settings


def outcome(capsys, *arguments: str):
    """Return exit code, stdout and stderr of a command line."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_agrees_with_the_command(name):
    """Name and help in the table are those of the command that is imported late."""
    command = clockwork.get_command(click.Context(clockwork), name)
    assert command is not None
    assert command.help is not None
    first_sentence = command.help.split("\n\n")[0].replace("\n", " ").strip().rstrip(".")
    assert COMMANDS[name].help == first_sentence
    assert COMMANDS[name].section in SECTIONS


@pytest.mark.parametrize("flag", ["-h", "--help"])
@pytest.mark.parametrize("name", [None, *COMMANDS])
def test_help_is_everywhere(capsys, name, flag):
    """-h and --help work on the top and on every command, with exit code 0."""
    code, out, _ = outcome(capsys, *filter(None, (name, flag)))
    assert code == 0
    assert "Usage: clockwork" in out


def test_help_lists_every_command(capsys):
    """The table of commands is complete and in sections."""
    _, out, _ = outcome(capsys, "-h")
    for name, row in COMMANDS.items():
        assert f"  {name} " in out
        assert f"{row.section}:" in out


def test_help_imports_no_engine():
    """The top level answers without importing what only some commands need."""
    code = (
        "import sys\n"
        "from clockwork.cli.main import main\n"
        "try: main(['-h'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'onnxruntime', 'rich', 'uvloop'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_version_is_shown(capsys):
    """--version prints one line."""
    code, out, _ = outcome(capsys, "--version")
    assert code == 0
    assert out.startswith("clockwork ")


def test_a_wrong_word_is_a_usage_error(capsys):
    """An unknown command ends with 2 and names the word."""
    code, _, err = outcome(capsys, "wrker")
    assert code == 2
    assert "wrker" in err


def test_a_users_mistake_is_one_line(capsys):
    """A wrong value ends with 1 and one line, without a traceback."""
    code, _, err = outcome(capsys, "controller", "INFER4", "localhost:1", "--default-slo", "soon")
    assert code == 1
    assert err.startswith("error: controller.default_slo (flag --default-slo): cannot read 'soon'")
    assert err.count("\n") == 1


def test_optimised_python_is_refused():
    """Python without assertions is no Clockwork."""
    done = subprocess.run(
        [sys.executable, "-O", "-m", "clockwork", "-h"], capture_output=True, text=True
    )
    assert done.returncode == 2
    assert "run Python without -O" in done.stderr


def test_options_by_position_are_the_originals(capsys):
    """The words after WORKERS mean what they meant, in nanoseconds."""
    code, out, _ = outcome(
        capsys, "controller", "INFER4", "a:1,b:1", "1", "7", "5000000", "--print-config"
    )
    assert code == 0
    rows = {line.split()[0]: line.split()[2] for line in out.splitlines()}
    assert rows["controller.generate_inputs"] == "1"
    assert rows["controller.max_gpus"] == "7"
    assert rows["controller.schedule_ahead"] == "5ms"
    assert rows["controller.max_batch"] == "16"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("INFER9", "a:1"), "Invalid controller type INFER9"),
        (("INFER4", "a:1", *"1234567"), "7 options after WORKERS, at most: generate_inputs"),
        (("INFER4", "a:1", "1", "--generate-inputs", "0"), "generate_inputs is given twice"),
        (("INFER4", "a:x"), "cannot read the address 'a:x'"),
        (("INFER4", "a:1,a:1"), "a:1 is listed twice"),
    ],
)
def test_a_wrong_controller_line_is_explained(capsys, arguments, message):
    """What is wrong is named, and nothing is started."""
    code, _, err = outcome(capsys, "controller", *arguments)
    assert code in {1, 2}
    assert message in err


def test_the_originals_flags_of_a_dummy_worker_work(capsys):
    """-n counts GPUs, -p is the port, -c a file."""
    code, out, _ = outcome(capsys, "worker_dummy", "-n", "2", "-p", "0", "--print-config")
    assert code == 0
    rows = {line.split()[0]: line.split()[2] for line in out.splitlines()}
    assert (rows["worker.gpus"], rows["worker.port"]) == ("2", "0")
    assert rows["memory_settings.weights_cache_size"] == "21.5GiB"


def test_a_worker_says_which_file_it_was_configured_by(tmp_path):
    """The original's lines, one per key that the file overwrites."""
    path = tmp_path / "user.cfg"
    path.write_text("WorkerConfig = { memory_settings = { io_pool_size = 1048576L; }; };")
    environ = {"CLOCKWORK_CONFIG_FILE": str(path)}
    origins = resolve_settings(WORKER, flags={}, environ=environ, config=None)
    assert config_lines(origins) == [
        "Loading Clockwork worker default config (built in)",
        f"Overriding default config using values in {path}",
        " memory_settings.io_pool_size = 1048576",
    ]
