"""Which places on this machine models may be loaded from.

Why: the path of a LoadModel comes over the network. A worker that was given folders opens nothing
outside of them, whatever the path says and wherever links lead.
"""

from collections.abc import Sequence
from pathlib import Path

from clockwork.errors import ModelError


class ModelFolders:
    """Turns the paths of clients into places; call it with a path."""

    def __init__(self, folders: Sequence[str] = ()) -> None:
        """Allow these folders and all below them; without any, allow every place."""
        self._folders = tuple(Path(folder).resolve() for folder in folders)

    def __call__(self, text: str) -> Path:
        """Return the place that `text` names, without links.

        A relative path is looked for in each folder in turn.

        Raises:
            ModelError: it is outside the folders, or no path at all.
        """
        try:
            places = [folder / text for folder in self._folders] or [Path(text)]
            resolved = [place.resolve() for place in places]
        except (ValueError, OSError, RuntimeError) as error:
            raise ModelError(f"{text!r} is no path: {error}") from None
        allowed = [place for place in resolved if self._is_allowed(place)]
        if not allowed:
            names = ", ".join(map(str, self._folders))
            raise ModelError(f"{text} is outside the model folders of this worker: {names}")
        return next((place for place in allowed if place.exists()), allowed[0])

    def _is_allowed(self, place: Path) -> bool:
        return not self._folders or any(place.is_relative_to(each) for each in self._folders)
