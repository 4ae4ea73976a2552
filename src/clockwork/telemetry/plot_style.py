"""How all plots of this project look: colours that everybody can tell apart, units, sizes.

Why apart: reports, experiments and benchmarks draw different things in one style, and a paper
takes them side by side. Colours are Okabe and Ito's palette (Color Universal Design, 2008), which
stays apart for the colour-blind; lines differ in dashes as well, so that they survive grey print.

Not here: any data. Needs matplotlib, which the extra `report` installs.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from matplotlib import style as mpl_style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

BLUE: Final = "#0072B2"
VERMILION: Final = "#D55E00"
GREEN: Final = "#009E73"
ORANGE: Final = "#E69F00"
SKY: Final = "#56B4E9"
PURPLE: Final = "#CC79A7"
YELLOW: Final = "#F0E442"
BLACK: Final = "#000000"
COLOURS: Final = (BLUE, VERMILION, GREEN, ORANGE, SKY, PURPLE, BLACK)
"""In the order in which lines of one plot take them; yellow is too light for lines."""
DASHES: Final = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 1)), (0, (3, 1, 1, 1)))
"""In the same order."""

COLUMN_INCHES: Final = 3.4
"""Width of a plot that fits one of two columns of a paper."""
PAGE_INCHES: Final = 7.0
"""Width of a plot that spans a page."""
PNG_DOTS_PER_INCH: Final = 200
FINE_DECADES: Final = 2.5
"""Chosen: eight numbers fit the lowest panel of our figures, eleven do not."""

_STYLE: Final[dict[str, Any]] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#444444",
    "axes.grid": True,
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "figure.constrained_layout.use": True,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    # Text in a PDF stays text: it can be searched and edited.
    "pdf.fonttype": 42,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in our style within the block; settings of matplotlib are as before afterwards."""
    with mpl_style.context(_STYLE):
        yield


def new_figure(*, width_inches: float = COLUMN_INCHES, height_inches: float = 2.2) -> Figure:
    """Return an empty figure that needs no display. To be called within `style`."""
    return Figure(figsize=(width_inches, height_inches))


def save(figure: Figure, stem: Path) -> list[Path]:
    """Write a figure as ``STEM.pdf`` and ``STEM.png``; return both paths.

    The directory is made if it is not there.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = [stem.with_name(f"{stem.name}.{kind}") for kind in ("pdf", "png")]
    for path in paths:
        figure.savefig(path, dpi=PNG_DOTS_PER_INCH)
    return paths


def label_axes(axes: Axes, *, x: str = "", y: str = "", title: str = "") -> None:
    """Name both axes, each with its unit, and the panel."""
    axes.set_xlabel(x)
    axes.set_ylabel(y)
    if title:
        axes.set_title(title)


def legend_above(axes: Axes, *, columns: int = 4) -> None:
    """Put the legend above the plot, at the right, where it hides no data."""
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=columns,
        borderaxespad=0.2,
        handlelength=1.8,
        columnspacing=1.2,
    )


def log_scale(axes: Axes) -> None:
    """Make the y axis logarithmic with plain numbers: 1, 2, 5, 10, not powers of ten.

    To be called when the data is drawn: where it spans more than `FINE_DECADES`, numbers would run
    into one another, and only 1, 10, 100 are shown.
    """
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    is_fine = high <= low * 10**FINE_DECADES
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if is_fine else (1.0,)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def tail_scale(axes: Axes, *, nines: int) -> None:
    """Make the y axis show a CDF's tail: 0, 90, 99, 99.9 % at equal distances.

    Args:
        axes: shows ``1 - share`` on its y axis, as `tail` gives it.
        nines: 9s up to which the axis goes: 4 ends at 99.99 %.
    """
    axes.set_yscale("log")
    axes.set_ylim(1.0, 10.0**-nines)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _share_below(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def _share_below(share_above: float) -> str:
    return f"{100 * (1 - share_above):.10g}"
