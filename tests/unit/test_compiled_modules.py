"""The modules that `make fast` compiles."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def hot_modules() -> list[Path]:
    """Return the files that the Makefile names as hot."""
    found = re.search(r"^HOT := (.*?)\n\n", (ROOT / "Makefile").read_text(), re.S | re.M)
    assert found is not None
    text = found[1].replace("\\\n", " ")
    names = [
        prefix + name
        for prefix, listed in re.findall(r"\$\(addprefix ([^,]+),([^)]*)\)", text)
        for name in listed.split()
    ]
    names += re.sub(r"\$\([^)]*\)", "", text).split()
    return [ROOT / "src" / name for name in names]


def test_hot_modules_define_no_records() -> None:
    """A compiled record would lose its options, so records live in modules that stay Python."""
    modules = hot_modules()
    assert len(modules) > 20
    for module in modules:
        assert not re.search(r"^class .*\(Struct", module.read_text(), re.M), module
