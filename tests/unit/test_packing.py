"""Tests of clockwork.models.packing."""

from hypothesis import example, given
from hypothesis import strategies as st

from clockwork.models.packing import ALIGN_BYTES, aligned, pack

PAGE = 1024
SIZES = st.lists(st.integers(1, 5 * PAGE), max_size=60)


@given(sizes=SIZES)
@example(sizes=[])
@example(sizes=[PAGE, PAGE + 1, 2 * PAGE])
def test_tensors_are_aligned_apart_and_inside(sizes: list[int]) -> None:
    """Every tensor is aligned, inside its span, and overlaps no other."""
    packing = pack(sizes, PAGE)
    ends = [0] * len(packing.spans)
    for size, place in sorted(
        zip(sizes, packing.placements, strict=True), key=lambda pair: pair[1].offset
    ):
        assert place.offset % ALIGN_BYTES == 0
        assert place.offset >= ends[place.span]
        ends[place.span] = place.offset + size
    for end, span in zip(ends, packing.spans, strict=True):
        assert end <= span.count * PAGE


@given(sizes=SIZES)
def test_spans_cover_all_pages_once(sizes: list[int]) -> None:
    """Spans follow one another without a gap and are as long as their first tensor needs."""
    packing = pack(sizes, PAGE)
    next_page = 0
    for span in packing.spans:
        assert span.first == next_page
        next_page += span.count
    assert next_page == packing.page_count


@given(sizes=SIZES)
def test_only_tensors_over_a_page_have_a_long_span(sizes: list[int]) -> None:
    """A tensor up to a page never needs pages at consecutive addresses."""
    packing = pack(sizes, PAGE)
    large = sum(size > PAGE for size in sizes)
    assert sum(span.count > 1 for span in packing.spans) == large


@given(sizes=st.lists(st.integers(1, PAGE), max_size=60))
def test_at_most_one_page_is_less_than_half_full(sizes: list[int]) -> None:
    """First fit wastes less than half: two half-empty pages would have been one."""
    packing = pack(sizes, PAGE)
    need = sum(aligned(size) for size in sizes)
    assert packing.page_count <= 1 + 2 * need // PAGE


@given(sizes=SIZES, seed=st.randoms())
def test_page_count_depends_on_the_sizes_alone(sizes: list[int], seed: object) -> None:
    """The order of the tensors does not change the number of pages."""
    shuffled = list(sizes)
    seed.shuffle(shuffled)  # type: ignore[attr-defined]
    assert pack(shuffled, PAGE).page_count == pack(sizes, PAGE).page_count


def test_the_rest_of_a_large_tensors_last_page_is_used() -> None:
    """A small tensor goes behind a large one rather than into a page of its own."""
    packing = pack([PAGE // 2, PAGE + PAGE // 2], PAGE)
    assert packing.page_count == 2
    assert packing.placements[0].span == packing.placements[1].span
