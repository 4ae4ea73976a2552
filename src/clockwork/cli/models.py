"""``clockwork ls``, ``evict`` and ``unload``: the models of a running controller."""

from collections.abc import Sequence

import click

from clockwork.live.client import Client, Model, connect
from clockwork.units import MS, format_bytes


@click.command()
@click.argument("address", metavar="HOST:PORT")
def ls(address: str) -> None:
    """List the models that can be asked for."""
    with connect(address) as client:
        click.echo("\n".join(describe_models(client.models())))


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
def evict(address: str, models: tuple[str, ...]) -> None:
    """Evict models' weights from all GPUs.

    MODEL is a name or an id. The models stay loaded: the next request is a cold start.
    """
    with connect(address) as client:
        for model in [_find(client, text) for text in models]:
            model.evict()
            click.echo(f"evicted {model.model_id} {model.name}")


@click.command()
@click.argument("address", metavar="HOST:PORT")
@click.argument("models", metavar="MODEL...", nargs=-1, required=True)
def unload(address: str, models: tuple[str, ...]) -> None:
    """Have all workers forget models.

    MODEL is a name or an id; of several copies, a name means the first.
    """
    with connect(address) as client:
        for model in [_find(client, text) for text in models]:
            model.unload()
            click.echo(f"unloaded {model.model_id} {model.name}")


def describe_models(models: Sequence[Model]) -> list[str]:
    """Return a line per model, under a line of titles."""
    if not models:
        return ["no model is loaded"]
    rows = [("id", "name", "weights", "pages", "load ms", "exec ms", "batch sizes")]
    for model in models:
        profile = model.profile
        rows.append(
            (
                str(model.model_id),
                model.name,
                format_bytes(profile.weights_bytes),
                str(profile.weights_pages),
                f"{profile.load_ns / MS:.2f}",
                f"{profile.exec_ns[0] / MS:.2f}",
                ",".join(map(str, profile.batch_sizes)),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _find(client: Client, text: str) -> Model:
    return client.model(int(text) if text.isdecimal() else text)
