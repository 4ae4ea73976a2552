"""Settings: precedence, checks, files of both kinds, and what `--print-config` shows."""

from pathlib import Path

import pytest

from clockwork.errors import ConfigurationError
from clockwork.live.configfile import read_config_file
from clockwork.live.options import (
    CONTROLLER,
    WORKER,
    WORKER_DUMMY,
    client_environment,
    controller_settings,
    resolve_settings,
    worker_settings,
)
from clockwork.live.settings import describe
from clockwork.telemetry.log_files import log_directory
from clockwork.units import GIB, MIB, MS

LIBCONFIG = """
# A file of the original.
WorkerConfig : {
  memory_settings = {
    weights_cache_size = 10737418240L;  // for 16 GB
    weights_cache_page_size = 0x1000000;
  };
  telemetry_settings : { enable_task_telemetry = false; }
  log_dir = { telemetry_log_dir = "./logs"; };
  allow_zero_size_inputs = true; /* the default */
};
"""


def resolved(flags=None, environ=None, config=None, settings=CONTROLLER):
    """Return the settings that a program would get."""
    return resolve_settings(settings, flags=flags or {}, environ=environ or {}, config=config)


def written(tmp_path: Path, text: str, name: str = "clockwork.toml") -> str:
    """Return the path of a new configuration file."""
    path = tmp_path / name
    path.write_text(text)
    return str(path)


def test_a_flag_wins_over_environment_file_and_default(tmp_path):
    """The four sources count in the documented order."""
    config = written(tmp_path, '[controller]\nlog_dir = "/file"\ndefault_slo = "50ms"\n')
    environ = {"CLOCKWORK_LOG_DIR": "/environment"}

    all_four = controller_settings(resolved({"log_dir": "/flag"}, environ, config))
    no_flag = controller_settings(resolved({}, environ, config))
    file_only = controller_settings(resolved({}, {}, config))
    nothing = controller_settings(resolved())

    assert [each.log_dir for each in (all_four, no_flag, file_only, nothing)] == [
        "/flag",
        "/environment",
        "/file",
        str(log_directory({})),
    ]
    assert file_only.default_slo_ns == 50 * MS


def test_an_empty_environment_variable_counts_as_unset():
    """Set but empty means the default."""
    assert controller_settings(resolved(environ={"CLOCKWORK_LOG_DIR": ""})).log_dir == str(
        log_directory({})
    )


def test_defaults_of_the_controller_are_the_originals():
    """The six positional options have the documented defaults."""
    settings = controller_settings(resolved())
    assert not settings.generate_inputs
    assert (settings.max_gpus, settings.max_batch) == (100, 16)
    assert (settings.schedule_ahead_ns, settings.default_slo_ns) == (10 * MS, 100 * MS)
    assert (settings.max_exec_ns, settings.port) == (250 * MS, 12346)


def test_an_emulated_worker_has_the_originals_cache():
    """1376 pages of 16 MiB, unless told otherwise."""
    settings = worker_settings(resolved(settings=WORKER_DUMMY))
    assert settings.weights_cache_size_bytes // settings.weights_cache_page_size_bytes == 1376


def test_a_file_of_the_original_is_read(tmp_path):
    """The libconfig subset gives the same keys as TOML."""
    config = written(tmp_path, LIBCONFIG, "user.cfg")
    settings = worker_settings(resolved(environ={"CLOCKWORK_CONFIG_FILE": config}, settings=WORKER))
    assert settings.weights_cache_size_bytes == 10 * GIB
    assert settings.weights_cache_page_size_bytes == 16 * MIB
    assert settings.telemetry_log_dir == "./logs"
    assert settings.allow_zero_size_inputs


def test_toml_takes_units_numbers_and_lists(tmp_path):
    """Sizes may carry units, folders may be a list."""
    config = written(
        tmp_path,
        'allow_zero_size_inputs = false\n[worker]\ngpus = 2\nmodel_dirs = ["/a", "/b"]\n'
        '[memory_settings]\nweights_cache_size = "512MiB"\n',
    )
    settings = worker_settings(resolved(config=config, settings=WORKER))
    assert (settings.gpus, settings.model_dirs) == (2, ("/a", "/b"))
    assert settings.weights_cache_size_bytes == 512 * MIB
    assert not settings.allow_zero_size_inputs


def test_one_file_serves_both_programs(tmp_path):
    """A worker ignores the controller's section and the other way round."""
    config = written(tmp_path, "[worker]\nport = 1\n[controller]\nport = 2\n")
    assert worker_settings(resolved(config=config, settings=WORKER)).port == 1
    assert controller_settings(resolved(config=config)).port == 2


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("[controller]\ndefault_slow = 1", "a.toml", "controller.default_slow; did you mean cont"),
        ("[controller]\nqqqq = 1", "a.toml", "unknown key controller.qqqq"),
        ("[controller]\nport = 'x'", "a.toml", "controller.port (file "),
        ("[controller]\nport = {}", "a.toml", None),
        ("[controller]\nlog_dir = 5", "a.toml", "write a text in quotes"),
        ("[controller]\nmax_gpus = [1]", "a.toml", "write one value"),
        ("[controller", "a.toml", "is no valid TOML"),
        ("Other = { a = 1; };", "a.cfg", "the root group must be WorkerConfig, not Other"),
        ("", "a.cfg", "not empty"),
        ("WorkerConfig = { a = ; };", "a.cfg", "cannot read the value ;"),
        ("WorkerConfig = { a = 1", "a.cfg", "the file ends too early"),
        ("WorkerConfig = { a 1 };", "a.cfg", "expected = after a"),
        ("WorkerConfig = {};\n};", "a.cfg", ": a closing brace without its group"),
        ("WorkerConfig = { a = 'x'; };", "a.cfg", ':1: cannot read "\'"'),
    ],
)
def test_a_mistake_in_a_file_is_named(tmp_path, text, name, message):
    """The error says where, what, and what would be right."""
    config = written(tmp_path, text, name)
    if message is None:
        controller_settings(resolved(config=config))
        return
    with pytest.raises(ConfigurationError) as caught:
        resolved(config=config)
    assert message in str(caught.value)
    assert config in str(caught.value)


def test_a_missing_file_is_an_error():
    """A file that was asked for has to be there."""
    with pytest.raises(ConfigurationError, match="cannot read configuration file /nowhere"):
        read_config_file("/nowhere/clockwork.toml")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"default_slo": "fast"}, "controller.default_slo (flag --default-slo): cannot read"),
        ({"default_slo": "0ms"}, "0ms is below 1ns, the smallest"),
        ({"max_batch": "-1"}, "write a whole number"),
        ({"generate_inputs": "maybe"}, "write 1 or 0"),
    ],
)
def test_a_mistake_in_a_flag_is_named(flags, message):
    """The error names the flag, the value and how to write it."""
    with pytest.raises(ConfigurationError) as caught:
        resolved(flags)
    assert message in str(caught.value)


def test_print_config_shows_value_and_source():
    """Each line is key, value in readable units, and where it came from."""
    lines = describe(resolved({"default_slo": "2500us"})).splitlines()
    assert len(lines) == len(CONTROLLER)
    line = next(line for line in lines if "default_slo" in line)
    assert line.split() == ["controller.default_slo", "=", "2.5ms", "#", "flag", "--default-slo"]


def test_the_environment_of_a_client_is_read_as_documented():
    """Only exactly 1 disables inputs; empty directories count as unset."""
    environment = client_environment(
        {"CLOCKWORK_DISABLE_INPUTS": "true", "CLOCKWORK_MODEL_DIR": ""}
    )
    assert not environment.are_inputs_disabled
    assert environment.model_dir is None
    assert client_environment({"CLOCKWORK_DISABLE_INPUTS": "1"}).are_inputs_disabled
