"""``clockwork infer``: one inference, and its five best classes."""

from pathlib import Path
from typing import Any, Final

import click
import numpy as np
from numpy.typing import NDArray

from clockwork.cli.duration import DURATION
from clockwork.errors import ConfigurationError, ModelError
from clockwork.live.client import Model, connect
from clockwork.live.images import SUFFIXES, fit_picture, image_info, open_picture
from clockwork.models.format import read_model_file
from clockwork.units import MS

BEST: Final = 5


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.argument("model", metavar="MODEL")
@click.argument("input_", metavar="INPUT", type=click.Path(path_type=Path))
@click.option("--slo", type=DURATION, help="SLO; default: the controller's.")
@click.option("--timeout", type=DURATION, default="30s", show_default=True,
              help="How long to wait for the controller and for the answer.")  # fmt: skip
@click.option(
    "--output", type=click.Path(path_type=Path), help="Write all outputs to an .npz file."
)
def infer(
    address: str, model: str, input_: Path, slo: int | None, timeout: int, output: Path | None
) -> None:
    """Run one inference on INPUT and print the five best classes.

    MODEL is the name or id of a model that is loaded, or a model directory, which is loaded first.
    INPUT is a .npy file, an .npz file with arrays by name, or a picture.
    """
    timeout_s = timeout / (1000 * MS)
    with connect(address, timeout_s=timeout_s) as client:
        is_path = "/" in model or Path(model).is_dir()
        chosen = (
            client.load_model(str(Path(model).resolve()))
            if is_path
            else client.model(_name_or_id(model))
        )
        inputs = read_inputs(input_, chosen)
        inference = chosen.infer(
            inputs, slo_ms=slo / MS if slo is not None else None, timeout_s=timeout_s
        )
        start = "cold" if inference.is_cold_start else "warm"
        click.echo(
            f"{chosen.name}: {inference.latency_ms:.2f} ms ({inference.server_latency_ms:.2f} ms "
            f"in the controller), batch of {inference.batch_size}, {start}"
        )
        labels = _labels(Path(chosen.source))
        for name, array in inference.items():
            click.echo("\n".join(describe_output(name, array, labels)))
        if output is not None:
            arrays: dict[str, Any] = dict(inference)
            np.savez(output, **arrays)
            click.echo(f"outputs are in {output}")


def read_inputs(path: Path, model: Model) -> Any:
    """Return what the file at `path` holds, as an input of `model`.

    Raises:
        ConfigurationError: it cannot be read, or is no array and no picture.
    """
    if path.suffix.lower() in SUFFIXES:
        info = image_info(Path(model.source), model.inputs)
        return fit_picture(open_picture(path), info, dtype=model.inputs[0].dtype)
    if path.suffix.lower() not in {".npy", ".npz"}:
        kinds = ", ".join(sorted({".npy", ".npz", *SUFFIXES}))
        raise ConfigurationError(f"cannot tell what {path} holds: its name must end in {kinds}")
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"cannot read {path}: {error}") from None
    return loaded if isinstance(loaded, np.ndarray) else dict(loaded)


def describe_output(name: str, array: NDArray[Any], labels: tuple[str, ...]) -> list[str]:
    """Return the lines that show an output: its best classes if it is a list of numbers."""
    head = f"{name} {list(array.shape)} {array.dtype}"
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.number) or array.size < 2:
        return [f"{head}: {np.array2string(array, threshold=8, precision=4)}"]
    scores = array.astype(np.float64)
    shares = np.exp(scores - scores.max())
    shares /= shares.sum()
    best = np.argsort(-scores, kind="stable")[:BEST]
    return [
        head,
        *(
            f"  {index:>6} = {scores[index]:>9.4f}  {shares[index]:>6.1%}"
            f"{'  ' + labels[index] if index < len(labels) else ''}"
            for index in best
        ),
    ]


def _name_or_id(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _labels(model_dir: Path) -> tuple[str, ...]:
    """Return the names of the classes, if the model directory is on this machine and has them."""
    try:
        image = read_model_file(model_dir).image
    except ModelError:
        return ()
    return image.labels if image is not None else ()
