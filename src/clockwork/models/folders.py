"""Which places on this machine models may be loaded from.

Why: the path of a LoadModel comes over the network. A worker that was given folders opens nothing
outside of them, whatever the path says and wherever links lead.
"""

from collections.abc import Sequence
from pathlib import Path

from clockwork.errors import ModelError


class ModelFolders:
    """Turns the paths of clients into places; call it with a path."""

    def __init__(self, folders: Sequence[str] = (), *, uploads: Path | None = None) -> None:
        """Allow some folders and all below them.

        Args:
            folders: those that are allowed; empty: every place is.
            uploads: where uploaded models are; always allowed, and looked at first for a name.
        """
        self._folders = tuple(Path(folder).resolve() for folder in folders)
        self._uploads = (uploads.resolve(),) if uploads is not None else ()

    def __call__(self, text: str) -> Path:
        """Return the place that `text` names, without links.

        A relative path is looked for among the uploads, then in each folder in turn; without
        folders, then in the working directory.

        Raises:
            ModelError: it is outside the folders, or no path at all.
        """
        roots: tuple[Path, ...] = (*self._uploads, *(self._folders or (Path(),)))
        try:
            resolved = [(root / text).resolve() for root in roots]
            allowed = [place for place in resolved if self._is_allowed(place)]
            existing = [place for place in allowed if place.exists()]
        except (ValueError, OSError, RuntimeError) as error:
            raise ModelError(f"{text!r} is no path: {error}") from None
        if not allowed:
            names = ", ".join(map(str, self._folders))
            raise ModelError(f"{text} is outside the model folders of this worker: {names}")
        return existing[0] if existing else allowed[0]

    def _is_allowed(self, place: Path) -> bool:
        roots = (*self._folders, *self._uploads)
        return not self._folders or any(place.is_relative_to(root) for root in roots)
