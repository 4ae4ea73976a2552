"""Properties of clockwork.models.original: no file makes it raise anything but ModelError."""

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st
from original_files import MEASUREMENTS, code_file

from clockwork.errors import ModelError
from clockwork.models.original import parse_code, parse_measurements

GOOD = code_file()


@given(st.binary(max_size=300))
def test_random_bytes_are_a_model_error(data: bytes) -> None:
    """Random bytes are refused, or by chance accepted."""
    with suppress(ModelError):
        parse_code(data, "random")


@given(st.integers(0, len(GOOD) - 1), st.binary(min_size=1, max_size=8))
def test_damage_anywhere_is_a_model_error(offset: int, damage: bytes) -> None:
    """A good file with bytes overwritten is refused, or still describes a model."""
    with suppress(ModelError):
        code = parse_code(GOOD[:offset] + damage + GOOD[offset + len(damage) :], "damaged")
        assert all(tensor.size_bytes > 0 for tensor in (*code.inputs, *code.outputs))


@given(st.integers(0, len(GOOD) - 1))
def test_a_shortened_file_is_never_accepted(length: int) -> None:
    """Every prefix of a good file is refused."""
    try:
        parse_code(GOOD[:length], "short")
    except ModelError:
        return
    raise AssertionError(f"{length} of {len(GOOD)} bytes were accepted")


@given(st.one_of(st.text(), st.text(alphabet="b1 =:;L/*#\n"), st.just(MEASUREMENTS)))
def test_any_text_gives_durations_or_a_model_error(text: str) -> None:
    """Durations are never negative."""
    with suppress(ModelError):
        assert all(value >= 0 for value in parse_measurements(text, "text").values())
