"""Inputs as LZ4 blocks, as the original's clients send them.

A block carries no size: who reads it knows what it must become. An input that LZ4 cannot shorten
travels as it is, so that in an Infer a size other than the model's always means a block.

Why apart: this is the only place that imports the library, which comes with the extra ``lz4``.

Source: SPEC 2.3, 5.2.
"""

from collections.abc import Sequence

from clockwork.errors import ConfigurationError
from clockwork.messages.role import Payload


def require_lz4() -> None:
    """Check that the library is there.

    Raises:
        ConfigurationError: it is not; the message names the extra to install.
    """
    try:
        import lz4.block  # noqa: F401  (only whether it can be imported)
    except ImportError:
        raise ConfigurationError(
            "compressed inputs need the lz4 package: pip install 'clockwork-serving[lz4]'"
        ) from None


def compress(payloads: Sequence[Payload]) -> Payload | None:
    """Return the joined payloads as one LZ4 block; None if that is no shorter.

    Raises:
        ConfigurationError: the lz4 package is not installed.
    """
    require_lz4()
    import lz4.block

    raw = payloads[0] if len(payloads) == 1 else b"".join(payloads)
    block: bytes = lz4.block.compress(raw, store_size=False)
    return block if len(block) < len(raw) else None


def decompress(block: Payload, size_bytes: int) -> bytes:
    """Return what an LZ4 block holds, which must be exactly `size_bytes`.

    Raises:
        ConfigurationError: the lz4 package is not installed.
        ValueError: it is no LZ4 block, or one of another size.
    """
    require_lz4()
    import lz4.block

    try:
        raw: bytes = lz4.block.decompress(block, uncompressed_size=size_bytes)
    except lz4.block.LZ4BlockError:
        # Its own message speaks of error codes that mean nothing to anybody.
        raise ValueError(f"it is no LZ4 block of {size_bytes} bytes") from None
    if len(raw) != size_bytes:
        raise ValueError(f"it is an LZ4 block of {len(raw)} bytes instead of {size_bytes}")
    return raw
