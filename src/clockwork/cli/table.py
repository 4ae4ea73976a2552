"""The sub-commands of ``clockwork``: name, where the command lives, one line of help."""

from typing import Final

from msgspec import Struct

SECTIONS: Final = ("Serve", "Ask", "Models", "Look back", "This machine")


class Row(Struct, frozen=True):
    """One sub-command."""

    section: str
    # Module below `clockwork.cli`, and the name of the click command in it.
    module: str
    attribute: str
    # The first sentence of the command's docstring, without the full stop.
    help: str


def _row(section: str, module: str, help: str, attribute: str | None = None) -> Row:
    return Row(section=section, module=module, attribute=attribute or module, help=help)


COMMANDS: Final[dict[str, Row]] = {
    "demo": _row(
        "Serve",
        "demo",
        "Serve real models end to end, from a weights cache too small for all of them",
    ),
    "serve": _row("Serve", "serve", "Serve every model in DIR until stopped"),
    "worker": _row("Serve", "worker", "Run a worker that computes on this machine"),
    "worker_dummy": _row("Serve", "worker", "Run a worker that emulates GPUs", "worker_dummy"),
    "controller": _row("Serve", "controller", "Run a controller for one or more workers"),
    "infer": _row("Ask", "infer", "Run one inference on INPUT and print the five best classes"),
    "ls": _row("Ask", "models", "List the models that can be asked for", "ls"),
    "evict": _row("Ask", "models", "Evict models' weights from all GPUs", "evict"),
    "unload": _row("Ask", "models", "Have all workers forget models", "unload"),
    "workers": _row(
        "Ask",
        "workers",
        "Show the workers of a controller, their GPUs, and what is in their caches",
    ),
    "clear-cache": _row(
        "Ask", "workers", "Evict the weights of all models from all GPUs", "clear_cache"
    ),
    "client": _row("Ask", "client", "Run a workload against a controller"),
    "trace": _row("Ask", "trace", "Make a synthetic trace of functions, or describe one"),
    "experiment": _row(
        "Ask",
        "experiment",
        "Make a figure of the paper anew, with everything on this machine",
    ),
    "compile": _row(
        "Models", "compile", "Turn an ONNX file into a model directory", "compile_command"
    ),
    "upload": _row("Models", "upload", "Send a model directory to all workers that lack it"),
    "check_model": _row(
        "Models",
        "check_model",
        "Measure one model directory on this machine",
        "check_model_command",
    ),
    "zoo": _row("Models", "zoo", "Make models to serve, without a download"),
    "check": _row(
        "This machine",
        "check",
        "Start everything on this machine, send requests through every stage, and stop",
    ),
    "profile": _row(
        "This machine",
        "profile",
        "Report on this machine: what it has, and what makes its times unpredictable",
    ),
    "simulate": _row(
        "Look back", "simulate", "Run the real controller, workers and clients in virtual time"
    ),
    "replay": _row("Look back", "replay", "Do again what a controller did, by its journal"),
    "report": _row("Look back", "report", "Show what happened in a run, by the logs in LOGDIR"),
    "timeline": _row(
        "Look back", "timeline", "Export the actions of a run, by the logs in LOGDIR, as a trace"
    ),
}
