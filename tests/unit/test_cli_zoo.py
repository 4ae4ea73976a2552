"""What ``clockwork zoo`` says."""

import pytest

from clockwork.cli.zoo import parameters_text


@pytest.mark.parametrize(
    ("count", "text"),
    [(33_546, "34 thousand"), (999_999, "1000 thousand"), (11_700_000, "11.7 million")],
)
def test_parameters_are_counted_as_people_say_it(count: int, text: str) -> None:
    """A small model has thousands of parameters, not 0.0 million."""
    assert parameters_text(count) == text
