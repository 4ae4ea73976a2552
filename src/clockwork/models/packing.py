"""Where each tensor of a model lies in the pages of a weights cache.

Tensors up to a page never straddle pages, so any free pages will do. A larger tensor gets a *span*
of several pages that the device must show at consecutive addresses (not: in adjacent places of the
cache); what it leaves of its last page is open to small tensors. The placement is computed when a
model is loaded, for the page size of that worker: a page size in a file could only be wrong.

First fit decreasing, the original's rule, wastes little and depends on the sizes alone, so that
every worker with the same page size counts the same pages.

Invariants: tensors start at multiples of 64 bytes, do not overlap, and lie inside their span.
"""

from collections.abc import Sequence
from typing import Final

from msgspec import Struct

ALIGN_BYTES: Final = 64
"""A cache line, and the widest vector register: what runtimes ask of a tensor's address."""


class Span(Struct, frozen=True, gc=False):
    """Pages that must have consecutive addresses: `count` of them from the model's page `first`."""

    first: int
    count: int


class Placement(Struct, frozen=True, gc=False):
    """Where one tensor lies."""

    # Index of the span.
    span: int
    # First byte, counted from the start of the span.
    offset: int


class Packing(Struct, frozen=True):
    """Where all tensors of a model lie."""

    page_bytes: int
    page_count: int
    # In page order; together they are all pages.
    spans: tuple[Span, ...]
    # In the order of the tensors.
    placements: tuple[Placement, ...]


def pack(sizes: Sequence[int], page_bytes: int) -> Packing:
    """Return the placement of tensors of these sizes (bytes, at least 1) in the fewest-ish pages.

    Cost: tensors times pages, in the worst case.
    """
    assert page_bytes > 0, f"pages of {page_bytes} bytes"
    assert page_bytes % ALIGN_BYTES == 0, f"{page_bytes} is no multiple of {ALIGN_BYTES}"
    spans: list[Span] = []
    used: list[int] = []
    placements: dict[int, Placement] = {}
    first_page = 0
    for index in sorted(range(len(sizes)), key=lambda index: (-sizes[index], index)):
        span = _first_fit(sizes[index], spans, used, page_bytes)
        if span is None:
            span = len(spans)
            spans.append(Span(first=first_page, count=-(-sizes[index] // page_bytes)))
            used.append(0)
            first_page += spans[span].count
        placements[index] = Placement(span=span, offset=used[span])
        used[span] += aligned(sizes[index])
    return Packing(
        page_bytes=page_bytes,
        page_count=first_page,
        spans=tuple(spans),
        placements=tuple(placements[index] for index in range(len(sizes))),
    )


def aligned(size_bytes: int) -> int:
    """Return `size_bytes` rounded up to where the next tensor may start."""
    return -(-size_bytes // ALIGN_BYTES) * ALIGN_BYTES


def _first_fit(
    size_bytes: int, spans: Sequence[Span], used: Sequence[int], page_bytes: int
) -> int | None:
    for index, span in enumerate(spans):
        if used[index] + size_bytes <= span.count * page_bytes:
            return index
    return None
