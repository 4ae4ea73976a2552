"""What a simulated controller had remembered, for the one that takes its place.

The live shell keeps this in a file (`live.state_file`); here it is in memory and always up to date.
"""

from clockwork.messages.ids import GpuId, ModelId, WorkerId
from clockwork.messages.models import ModelInfo
from clockwork.messages.remembered import Measured, MeasuredLoad, Remember, Remembered


class Recollection:
    """Adds up `Remember` effects."""

    def __init__(self) -> None:
        self._next_model_id = ModelId(0)
        self._models: dict[ModelId, ModelInfo] = {}
        self._measured: dict[tuple[ModelId, WorkerId, GpuId], Measured] = {}
        self._loads: dict[ModelId, MeasuredLoad] = {}

    def add(self, effect: Remember) -> None:
        """Take in what is new."""
        self._next_model_id = effect.next_model_id
        self._models.update({info.model_id: info for info in effect.models})
        for row in effect.measured:
            self._measured[row.model_id, row.worker_id, row.gpu_id] = row
        self._loads.update({row.model_id: row for row in effect.loads})
        for model_id in effect.removed:
            self._models.pop(model_id, None)
            self._loads.pop(model_id, None)
            for key in [key for key in self._measured if key[0] == model_id]:
                del self._measured[key]

    def remembered(self) -> Remembered:
        """Return what the next controller gets."""
        return Remembered(
            models=tuple(info for _, info in sorted(self._models.items())),
            next_model_id=self._next_model_id,
            measured=tuple(row for _, row in sorted(self._measured.items())),
            loads=tuple(row for _, row in sorted(self._loads.items())),
        )
