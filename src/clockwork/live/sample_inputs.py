"""Made-up inputs: for the requests of a workload, and for requests that came without any.

A few are made per kind of input and used in turn: making one takes longer than serving it. Floats
lie between 0 and 1 and integers between 0 and 1, which is valid for every model (an index, a mask,
a picture). Like the pixels of a picture, neighbours are often equal: LZ4 shrinks such an input of
602,112 bytes to 95,000, and the original's photographs to about 90,000.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from clockwork.engines.compression import compress, require_lz4
from clockwork.messages.ids import ModelId
from clockwork.messages.models import ModelInfo, ModelProfile, TensorSpec
from clockwork.messages.role import Payload

VARIANTS: Final = 4
"""Different inputs per kind; a power of two."""
RUN: Final = 12
"""Equal neighbours; chosen for the ratio above."""

Sample = tuple[tuple[Payload], bool]
"""The payloads of a request, and whether they are an LZ4 block."""


class SampleInputs:
    """Inputs by model, made when a model is loaded."""

    def __init__(self, seed: int, *, compresses: bool = False) -> None:
        """Begin with none.

        Args:
            seed: of all values.
            compresses: make LZ4 blocks.

        Raises:
            ConfigurationError: blocks are asked for, but the lz4 package is not installed.
        """
        if compresses:
            require_lz4()
        self._random = np.random.default_rng(seed)
        self._compresses = compresses
        # Models with equal inputs share them.
        self._by_tensors: dict[tuple[TensorSpec, ...], list[Sample]] = {}
        self._by_model: dict[ModelId, list[Sample]] = {}

    def learn(self, info: ModelInfo, copies: int) -> None:
        """Make inputs for a model that was loaded as so many copies."""
        samples = self._samples(info.profile.inputs)
        for copy in range(copies):
            self._by_model[ModelId(info.model_id + copy)] = samples

    def take(self, model_id: ModelId, request_id: int) -> Sample:
        """Return an input for a request, as payloads to send."""
        return self._by_model[model_id][request_id & (VARIANTS - 1)]

    def one_for(self, profile: ModelProfile) -> Payload:
        """Return an input for a model, the same for all models with equal inputs."""
        return self._samples(profile.inputs)[0][0][0]

    def _samples(self, tensors: tuple[TensorSpec, ...]) -> list[Sample]:
        samples = self._by_tensors.get(tensors)
        if samples is None:
            samples = self._by_tensors[tensors] = [self._make(tensors) for _ in range(VARIANTS)]
        return samples

    def _make(self, tensors: tuple[TensorSpec, ...]) -> Sample:
        raw = b"".join(self._values(tensor).tobytes() for tensor in tensors)
        block = compress([raw]) if self._compresses else None
        return ((raw,), False) if block is None else ((block,), True)

    def _values(self, tensor: TensorSpec) -> NDArray[np.generic]:
        dtype = np.dtype(tensor.dtype)
        count = int(np.prod(tensor.shape))
        different: NDArray[np.generic]
        if np.issubdtype(dtype, np.floating):
            different = self._random.random(-(-count // RUN), dtype=np.float32)
        else:
            different = self._random.integers(0, 2, -(-count // RUN))
        return np.repeat(different, RUN)[:count].astype(dtype)
