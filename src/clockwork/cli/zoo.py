"""``clockwork zoo``: models to serve, without a download."""

from pathlib import Path

import click


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def zoo() -> None:
    """Make models to serve, without a download.

    Well-known architectures get random weights: their speed is real, their answers mean nothing.
    `digits` is really trained.
    """


@zoo.command("list")
def list_models() -> None:
    """Show which models there are."""
    from clockwork.models.zoo.build import describe, names

    rows = [describe(name) for name in names()]
    width = max(len(row.name) for row in rows)
    for row in rows:
        weights = "trained" if row.is_trained else "random weights"
        count = parameters_text(row.parameter_count)
        click.echo(f"{row.name:<{width}}  {count:>13} parameters  {weights:<14}  {row.summary}")


@zoo.command("build")
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
@click.option("-o", "--output", default="models", show_default=True, metavar="DIR",
              type=click.Path(path_type=Path), help="Where to put model directories.")  # fmt: skip
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True,
              help="Of the random weights.")  # fmt: skip
@click.option("--image-size", type=click.IntRange(1), help="Side of images in pixels.")
@click.option("--seq", type=click.IntRange(1), help="Length of token sequences.")
@click.option("--onnx", "keeps_onnx", is_flag=True, help="Keep the ordinary ONNX file beside.")
def build_models(
    names: tuple[str, ...],
    output: Path,
    seed: int,
    image_size: int | None,
    seq: int | None,
    keeps_onnx: bool,
) -> None:
    """Build models and measure them on this machine."""
    from clockwork.models.zoo.build import build, describe

    for name in names:
        describe(name)
    output.mkdir(parents=True, exist_ok=True)
    for name in names:
        path = build(
            name,
            output,
            seed=seed,
            image_size=image_size,
            seq=seq,
            keep_onnx=output / f"{name}.onnx" if keeps_onnx else None,
            progress=lambda text: click.echo(f"  {text}"),
        )
        click.echo(str(path))


@zoo.command("emulated")
@click.option("-o", "--output", required=True, metavar="DIR", type=click.Path(path_type=Path),
              help="Where to put model directories.")  # fmt: skip
def emulated_models(output: Path) -> None:
    """Write the published table of 64 models, for emulated GPUs."""
    from clockwork.models.zoo.emulated import write_emulated

    count = write_emulated(output)
    click.echo(f"{count} models are in {output}; use them with CLOCKWORK_MODEL_DIR={output}")


def parameters_text(count: int) -> str:
    """Return a number of parameters as people say it."""
    return f"{count / 1e6:.1f} million" if count >= 1_000_000 else f"{count / 1e3:.0f} thousand"
