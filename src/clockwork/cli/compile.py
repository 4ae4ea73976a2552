"""``clockwork compile``: an ONNX file becomes a model directory."""

from pathlib import Path

import click

from clockwork.errors import ConfigurationError


@click.command("compile")
@click.argument("onnx_file", metavar="MODEL.onnx", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), metavar="DIR",
              help="The model directory to write.")  # fmt: skip
@click.option("--dim", "dims", multiple=True, metavar="NAME=N",
              help="Fix a free dimension other than the batch; may be repeated.")  # fmt: skip
@click.option("--batch-sizes", default="1,2,3,4,6,8,12,16", show_default=True, metavar="N,N",
              help="Batch sizes to support.")  # fmt: skip
@click.option("--name", help="Name of the model; default: that of DIR.")
@click.option("--no-measure", is_flag=True, help="Leave out measuring.")
def compile_command(
    onnx_file: Path,
    output: Path,
    dims: tuple[str, ...],
    batch_sizes: str,
    name: str | None,
    no_measure: bool,
) -> None:
    """Turn an ONNX file into a model directory.

    The graph is optimised and parted into code and weights, checked against the original file at
    every batch size, and measured on this machine.
    """
    from clockwork.models.compile import compile_model

    model = compile_model(
        onnx_file,
        output,
        name=name,
        dims=dict(_dim(text) for text in dims),
        batch_sizes=[_whole(text, "--batch-sizes") for text in batch_sizes.split(",")],
        measure=not no_measure,
        progress=lambda text: click.echo(f"  {text}"),
    )
    click.echo(f"{output}: {model.name}, batch sizes {', '.join(map(str, model.batch_sizes))}")


def _dim(text: str) -> tuple[str, int]:
    name, _, size = text.partition("=")
    return name, _whole(size, f"--dim {text}")


def _whole(text: str, where: str) -> int:
    if not text.strip().isdecimal():
        raise ConfigurationError(f"{where}: {text!r} is no whole number")
    return int(text)
