"""Random inputs for requests of a workload.

A few are made per kind of input and used in turn: making one takes longer than serving it. Floats
lie between 0 and 1 and integers between 0 and 1, which is valid for every model (an index, a mask,
a picture).
"""

from typing import Final

import numpy as np

from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo, TensorSpec
from clockwork.messages.role import Payload

VARIANTS: Final = 4
"""Different inputs per kind; a power of two."""


class SampleInputs:
    """Inputs by model, made when a model is loaded."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        # Models with equal inputs share them.
        self._by_tensors: dict[tuple[TensorSpec, ...], list[tuple[Payload]]] = {}
        self._by_model: dict[ModelId, list[tuple[Payload]]] = {}

    def learn(self, info: ModelInfo, copies: int) -> None:
        """Make inputs for a model that was loaded as so many copies."""
        tensors = info.profile.inputs
        if tensors not in self._by_tensors:
            self._by_tensors[tensors] = [(self._make(tensors),) for _ in range(VARIANTS)]
        for copy in range(copies):
            self._by_model[ModelId(info.model_id + copy)] = self._by_tensors[tensors]

    def take(self, model_id: ModelId, request_id: int) -> tuple[Payload]:
        """Return an input for a request, as payloads to send."""
        return self._by_model[model_id][request_id & (VARIANTS - 1)]

    def _make(self, tensors: tuple[TensorSpec, ...]) -> bytes:
        return b"".join(self._values(tensor).tobytes() for tensor in tensors)

    def _values(self, tensor: TensorSpec) -> "np.ndarray[tuple[int, ...], np.dtype[np.generic]]":
        dtype = np.dtype(tensor.dtype)
        if np.issubdtype(dtype, np.floating):
            return self._random.random(tensor.shape, dtype=np.float32).astype(dtype)
        return self._random.integers(0, 2, tensor.shape).astype(dtype)
