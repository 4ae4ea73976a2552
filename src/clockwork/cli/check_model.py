"""``clockwork check_model``: one model on this machine."""

from pathlib import Path

import click
import numpy as np

from clockwork.errors import ConfigurationError
from clockwork.live.images import SUFFIXES, fit_picture, image_info, open_picture
from clockwork.models.format import read_model_file
from clockwork.units import parse_bytes


@click.command("check_model")
@click.argument("directory", metavar="PATH", type=click.Path(path_type=Path))
@click.option("-i", "--iterations", type=click.IntRange(1), default=100, show_default=True,
              help="Measured runs of everything.")  # fmt: skip
@click.option("-p", "--page_size", "--page-size", default="16777216", show_default=True,
              metavar="SIZE", help="Page size of the weights cache.")  # fmt: skip
@click.option("--cores", type=click.IntRange(1), default=1, show_default=True,
              help="CPU cores to run on.")  # fmt: skip
@click.option("--input", "input_", type=click.Path(path_type=Path), metavar="FILE",
              help="An input (.npy, picture, or raw bytes); prints the outputs.")  # fmt: skip
def check_model_command(
    directory: Path, iterations: int, page_size: str, cores: int, input_: Path | None
) -> None:
    """Measure one model directory on this machine.

    Prints its sizes, and times with their spread: how predictable the model is here.
    """
    from clockwork.live.model_check import CheckOptions, check_model

    try:
        page_bytes = parse_bytes(page_size)
    except ValueError as error:
        raise ConfigurationError(f"--page_size: {error}") from None
    options = CheckOptions(
        directory=directory,
        iterations=iterations,
        cores=cores,
        page_bytes=page_bytes,
        payload=read_payload(input_, directory) if input_ is not None else None,
    )
    what = f"provided input {input_}" if input_ is not None else "random input"
    click.echo(f"Checking {directory} using {what}")
    for line in check_model(options):
        click.echo(line)


def read_payload(path: Path, directory: Path) -> bytes:
    """Return the bytes of one request's input from a file.

    Raises:
        ConfigurationError: it cannot be read.
    """
    model = read_model_file(directory)
    if path.suffix.lower() in SUFFIXES:
        info = image_info(directory, model.inputs)
        return fit_picture(open_picture(path), info, dtype=model.inputs[0].dtype).tobytes()
    try:
        if path.suffix.lower() != ".npy":
            return path.read_bytes()
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from None
    dtype = model.inputs[0].dtype
    if str(array.dtype) != dtype:
        raise ConfigurationError(f"{path} has dtype {array.dtype}, the model expects {dtype}")
    return bytes(array.tobytes())
