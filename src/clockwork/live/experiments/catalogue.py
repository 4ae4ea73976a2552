"""All experiments."""

from typing import Final

from clockwork.live.experiments.fig5 import FIG5
from clockwork.live.experiments.fig6 import FIG6
from clockwork.live.experiments.fig7 import FIG7
from clockwork.live.experiments.fig8 import FIG8
from clockwork.live.experiments.fig9 import FIG9
from clockwork.live.experiments.fig11 import FIG11

EXPERIMENTS: Final = {each.name: each for each in (FIG5, FIG6, FIG7, FIG8, FIG9, FIG11)}
"""By name, in the paper's order."""
