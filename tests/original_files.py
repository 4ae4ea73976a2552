"""Writes models in the original's format, for tests that read them."""

import struct
from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path

PAGE_BYTES = 16 << 20
MEASUREMENTS = """# Measured on a V100 // really
weights = 10000000L; /* ns */
b1 = 1000000L;
b2 = 2000000L; b4 = 4000000L;
"""


def code_file(
    *,
    inputs: Sequence[Sequence[int]] = ((1, 3, 4, 4),),
    outputs: Sequence[Sequence[int]] = ((1, 10),),
    pages: int = 2,
    version: int = 1,
    type_code: tuple[int, int, int] = (2, 32, 1),
) -> bytes:
    """Return a ``.clockwork`` file with two operators; shapes include the batch dimension."""
    operator = b"".join(
        [
            _list([_tensor((1, 3), type_code), _tensor((), type_code)]),
            struct.pack("<I", 0),
            _list([struct.pack("<IQQ", 0, 64, 128)]),
        ]
    )
    names = [b"fused_conv", b"fused_dense"]
    return b"".join(
        [
            struct.pack("<I4Q", version, 1, 2, 3, 4),
            struct.pack("<I", len(names)),
            *(struct.pack("<I", len(name)) + name for name in names),
            _list([operator, operator]),
            _list([_tensor(shape, type_code) for shape in inputs]),
            _list([_tensor(shape, type_code) for shape in outputs]),
            struct.pack("<Q", PAGE_BYTES),
            _list([struct.pack("<QQ", index * PAGE_BYTES, PAGE_BYTES) for index in range(pages)]),
        ]
    )


def write_original(
    folder: Path,
    *,
    batch_sizes: Sequence[int] = (1, 2, 4),
    measurements: str | None = MEASUREMENTS,
    codes: Mapping[int, bytes] | None = None,
) -> Path:
    """Write a whole model into `folder` and return its base path; `codes` replaces some files."""
    folder.mkdir(parents=True)
    (folder / "model.clockwork_params").write_bytes(b"weights")
    for size in batch_sizes:
        code = code_file(inputs=[(size, 3, 4, 4)], outputs=[(size, 10)])
        (folder / f"model.{size}.clockwork").write_bytes((codes or {}).get(size, code))
        (folder / f"model.{size}.so").write_bytes(b"")
    if measurements is not None:
        (folder / "model.measurements").write_text(measurements, encoding="utf-8")
    return folder / "model"


def _list(elements: Sequence[bytes]) -> bytes:
    return struct.pack("<II", 1, len(elements)) + b"".join(elements)


def _tensor(shape: Sequence[int], type_code: tuple[int, int, int]) -> bytes:
    place = struct.pack("<QIQQ", 0, 0, 0, 4 * prod(shape))
    dimensions = struct.pack(f"<I{len(shape)}q", len(shape), *shape)
    return place + dimensions + struct.pack("<3i", *type_code)
