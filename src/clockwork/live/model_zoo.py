"""The model zoo of a client: the directory that CLOCKWORK_MODEL_DIR names.

Each sub-directory that holds a model is a model with the directory's name. Its path goes to the
workers as it is, so it must exist there too.
"""

from pathlib import Path
from typing import Final

from clockwork.errors import ConfigurationError

MODEL_FILES: Final = ("model.json", "model.clockwork_params")
"""What makes a directory a model: ours, and the original's."""


def list_zoo(model_dir: str | None) -> dict[str, str]:
    """Return the path by name of all models in `model_dir`, in alphabetical order.

    Raises:
        ConfigurationError: there is no such directory, or CLOCKWORK_MODEL_DIR was not set.
    """
    if model_dir is None:
        raise ConfigurationError(
            "CLOCKWORK_MODEL_DIR is not set: point it to a directory of model directories (make "
            "one with: clockwork zoo emulated -o DIR)"
        )
    directory = Path(model_dir).absolute()
    if not directory.is_dir():
        raise ConfigurationError(f"CLOCKWORK_MODEL_DIR is {model_dir}, which is no directory")
    return {
        path.name: str(path)
        for path in sorted(directory.iterdir())
        if any((path / name).is_file() for name in MODEL_FILES)
    }
