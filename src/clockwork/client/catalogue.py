"""All named workloads."""

from typing import Final

from clockwork.client.azure_workloads import AZURE
from clockwork.client.basic_workloads import BASIC
from clockwork.client.named import NamedWorkload
from clockwork.client.paper_workloads import PAPER

WORKLOADS: Final = {workload.name: workload for workload in (*BASIC, *PAPER, *AZURE)}
"""By name, in the order in which they are listed."""
assert len(WORKLOADS) == len(BASIC) + len(PAPER) + len(AZURE), "two workloads have one name"


def find_workload(name: str) -> NamedWorkload | None:
    """Return the workload called `name`; ``a-b`` and ``a_b`` are the same. None: there is none."""
    for known, workload in WORKLOADS.items():
        if known.replace("-", "_") == name.replace("-", "_"):
            return workload
    return None
