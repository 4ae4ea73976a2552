"""Commands that ask, measure and check, on a running server and on files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clockwork.cli.main import main
from clockwork.models.compile import compile_model
from clockwork.models.zoo.shipped import DIGITS_IMAGE, DIGITS_ONNX, digits_test_set


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> Path:
    """Return a folder with one real model that knows how to read pictures."""
    folder = tmp_path_factory.mktemp("models")
    compile_model(DIGITS_ONNX, folder / "digits", batch_sizes=(1, 2), image=DIGITS_IMAGE)
    return folder


@pytest.fixture(scope="module")
def address(models, tmp_path_factory):
    """Run a server of the model for all tests here, and return where it is."""
    logs = tmp_path_factory.mktemp("logs")
    process = subprocess.Popen(
        [sys.executable, "-m", "clockwork", "serve", str(models), "--port=0", f"--log-dir={logs}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("Ready: "):
            yield line.split()[-1]
            break
    process.terminate()
    process.communicate(timeout=60)


def run(capsys, *arguments: object):
    """Return exit code, stdout and stderr of a command."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


def digit(tmp_path: Path, name: str) -> Path:
    """Return a file with the first held-out digit, which is a 0."""
    images, labels = digits_test_set()
    assert labels[0] == 0
    path = tmp_path / name
    if path.suffix == ".npy":
        np.save(path, images[0])
    elif path.suffix == ".npz":
        np.savez(path, image=images[0])
    elif path.suffix == ".png":
        Image.fromarray((images[0][0] * 255).astype(np.uint8)).save(path)
    else:
        path.write_bytes(images[0].tobytes())
    return path


@pytest.mark.parametrize("name", ["a.npy", "a.npz", "a.png"])
def test_infer_prints_the_five_best_classes(capsys, address, tmp_path, name):
    """Arrays, arrays by name and pictures all give the right digit first."""
    code, out, _ = run(capsys, "infer", address, "digits", digit(tmp_path, name), "--slo", "5s")
    assert code == 0
    lines = out.splitlines()
    assert lines[1] == "scores [10] float32"
    assert len(lines) == 7
    assert lines[2].split()[0] == "0"
    assert lines[2].split()[-1] == "0"


def test_infer_loads_a_model_directory(capsys, address, models, tmp_path):
    """A path instead of a name is loaded first, and outputs can be kept."""
    kept = tmp_path / "out.npz"
    arguments = ("infer", address, models / "digits", digit(tmp_path, "a.npy"), "--slo", "5s")
    code, _, _ = run(capsys, *arguments, "--output", kept)
    assert code == 0
    with np.load(kept) as file:
        assert file["scores"].argmax() == 0


@pytest.mark.parametrize(
    ("model", "name", "message"),
    [
        ("digit", "a.npy", "did you mean digits?"),
        ("99", "a.npy", "there is no model 99"),
        ("digits", "a.raw", "cannot tell what"),
        ("digits", "missing.npy", "cannot read"),
        ("/nowhere/model", "a.npy", "/nowhere/model"),
    ],
)
def test_infer_names_the_mistake(capsys, address, tmp_path, model, name, message):
    """A wrong word is one line that says what would be right."""
    path = tmp_path / name if name.startswith("missing") else digit(tmp_path, name)
    code, _, err = run(capsys, "infer", address, model, path)
    assert code == 1
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


def test_infer_without_a_controller_says_so(capsys, tmp_path):
    """A controller that is not there is named."""
    path = digit(tmp_path, "a.npy")
    code, _, err = run(capsys, "infer", "localhost:1", "digits", path, "--timeout", "100ms")
    assert code == 1
    assert "localhost:1" in err


def test_models_can_be_listed_evicted_and_unloaded(capsys, address, models, tmp_path):
    """What is listed can be evicted by name and unloaded by id."""
    code, out, _ = run(capsys, "ls", address)
    assert code == 0
    assert out.splitlines()[0].split()[:2] == ["id", "name"]
    assert "digits" in out
    infer = ("infer", address, "digits", digit(tmp_path, "a.npy"), "--slo", "5s")
    run(capsys, *infer)
    code, out, _ = run(capsys, "evict", address, "digits")
    assert out == "evicted 0 digits\n"
    assert ", cold" in run(capsys, *infer)[1]
    assert ", warm" in run(capsys, *infer)[1]
    run(capsys, "infer", address, models / "digits", digit(tmp_path, "a.npy"), "--slo", "5s")
    last = run(capsys, "ls", address)[1].splitlines()[-1].split()[0]
    code, out, _ = run(capsys, "unload", address, last)
    assert out == f"unloaded {last} digits\n"
    code, _, err = run(capsys, "unload", address, last)
    assert code == 1
    assert f"there is no model {last}" in err


def test_check_model_prints_the_documented_lines(capsys, models):
    """Sizes, transfer and execution per batch size, in the original's order."""
    code, out, _ = run(capsys, "check_model", models / "digits", "-i", "3")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == f"Checking {models / 'digits'} using random input"
    assert lines[1] == "  input_size:  256"
    assert lines[2] == "  output_size: 40"
    assert lines[3].startswith("  workspace:")
    assert lines[4].startswith("  weights size paged (non-paged) [num_pages]: 16777216 (")
    assert lines[5].startswith("  weights transfer latency: ")
    assert lines[6] == "  execution latency:"
    assert [line.split(":")[0] for line in lines[7:]] == ["    b1", "    b2"]
    assert "p99" in lines[7]


@pytest.mark.parametrize("name", ["a.npy", "a.png", "a.raw"])
def test_check_model_runs_on_a_given_input(capsys, models, tmp_path, name):
    """With an input the largest outputs are printed, best first."""
    path = digit(tmp_path, name)
    _, out, _ = run(capsys, "check_model", models / "digits", "-i", "1", "--input", path)
    assert f"using provided input {path}" in out
    best = out.splitlines()[out.splitlines().index("  largest values of scores:") + 1]
    assert best.startswith("    0 = ")


def test_check_model_refuses_an_input_of_another_size(capsys, models):
    """Both sizes are in the message."""
    path = models / "digits" / "model.json"
    code, _, err = run(capsys, "check_model", models / "digits", "--input", path)
    assert code == 1
    assert f"the input has {path.stat().st_size} bytes, the model takes 256" in err


def test_emulated_models_are_listed_and_cannot_be_checked(capsys, tmp_path):
    """The published table becomes 64 directories without code."""
    code, out, _ = run(capsys, "zoo", "emulated", "-o", tmp_path)
    assert code == 0
    assert out.startswith("64 models are in ")
    code, _, err = run(capsys, "check_model", tmp_path / "resnet50_v1")
    assert code == 1
    assert "for emulated devices only" in err


def test_the_zoo_tells_what_it_has(capsys):
    """The list says which weights are trained."""
    _, out, _ = run(capsys, "zoo", "list")
    rows = {line.split()[0]: line for line in out.splitlines()}
    assert "trained" in rows["digits"]
    assert "random weights" in rows["resnet50_v1"]


def test_the_zoo_builds_nothing_if_one_name_is_wrong(capsys, tmp_path):
    """All names are checked before the first minute is spent."""
    code, _, err = run(capsys, "zoo", "build", "digits", "resnet51", "-o", tmp_path / "new")
    assert code == 1
    assert "no zoo model is called 'resnet51'" in err
    assert not (tmp_path / "new").exists()


def test_compile_makes_a_directory_that_knows_its_batch_sizes(capsys, tmp_path):
    """Options of the command reach the compiler."""
    target = tmp_path / "made"
    arguments = ("compile", DIGITS_ONNX, "-o", target, "--batch-sizes", "1,3", "--no-measure")
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert out.endswith(f"{target}: made, batch sizes 1, 3\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--dim", "seq=many"), "--dim seq=many: 'many' is no whole number"),
        (("--batch-sizes", "1,x"), "--batch-sizes: 'x' is no whole number"),
    ],
)
def test_compile_names_a_wrong_option(capsys, tmp_path, arguments, message):
    """Numbers are checked before anything is read."""
    code, _, err = run(capsys, "compile", DIGITS_ONNX, "-o", tmp_path / "made", *arguments)
    assert code == 1
    assert message in err


def test_an_installation_checks_itself(capsys):
    """Every stage is passed."""
    code, out, _ = run(capsys, "check")
    assert code == 0
    assert out.splitlines()[-1] == "Everything works."
    assert all(line.startswith("✓") for line in out.splitlines()[:-1])


def test_this_machine_can_be_reported_on(capsys):
    """The verdict is the exit code, whatever it is here."""
    code, out, _ = run(capsys, "profile", "check")
    assert code == (0 if "The environment is ready." in out else 1)
    assert run(capsys, "profile", "status")[1].startswith("Cores: ")
