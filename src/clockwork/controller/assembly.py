"""Puts a controller role's parts together: who gets to know whom.

Not here: what the parts do, and what reaches them (``core.py``).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from clockwork.controller.catalogue import Catalogue
from clockwork.controller.cluster import Cluster
from clockwork.controller.config import ControllerConfig
from clockwork.controller.ending import Ending
from clockwork.controller.fleet import Fleet
from clockwork.controller.ledger import Ledger
from clockwork.controller.notebook import Notebook
from clockwork.controller.orders import Orders
from clockwork.controller.policy import Policy
from clockwork.controller.profile_job import ProfileJob
from clockwork.controller.profiler import Profiler
from clockwork.controller.reception import MakeInput, Reception
from clockwork.controller.results import OrderResults
from clockwork.controller.startup import Startup
from clockwork.controller.upkeep import Clearing, Upkeep
from clockwork.controller.uploads import Uploads, UploadStep
from clockwork.messages.remembered import Remembered

PolicyFactory = Callable[[ControllerConfig, Cluster, Ledger], Policy]
"""Makes a policy for a controller."""


class Parts(NamedTuple):
    """Everything that a controller role consists of."""

    cluster: Cluster
    ledger: Ledger
    policy: Policy
    reception: Reception
    notebook: Notebook
    catalogue: Catalogue
    results: OrderResults
    fleet: Fleet
    startup: Startup
    profiler: Profiler
    uploads: Uploads
    orders: Orders
    ending: Ending


def assemble(
    *,
    config: ControllerConfig,
    worker_count: int,
    make_policy: PolicyFactory,
    make_input: MakeInput | None,
    remembered: Remembered | None,
    worker_addresses: Sequence[str],
) -> Parts:
    """Return the parts of a new role; the arguments are those of `ControllerRole`."""
    cluster, ledger = Cluster(worker_count), Ledger()
    policy = make_policy(config, cluster, ledger)
    notebook = Notebook(cluster, is_kept=remembered is not None)
    profiler = Profiler(config=config, cluster=cluster, ledger=ledger, policy=policy)
    catalogue = Catalogue(
        config=config, cluster=cluster, ledger=ledger, policy=policy, notebook=notebook,
        profiler=profiler,
    )  # fmt: skip
    results = OrderResults(catalogue.on_result)
    fleet = Fleet(
        config=config,
        cluster=cluster,
        ledger=ledger,
        policy=policy,
        catalogue=catalogue,
        notebook=notebook,
        results=results,
    )
    if remembered is not None:
        _remember(remembered, notebook=notebook, catalogue=catalogue, fleet=fleet)
    startup = Startup(
        config=config,
        cluster=cluster,
        ledger=ledger,
        fleet=fleet,
        catalogue=catalogue,
        profiler=profiler,
    )
    uploads = Uploads(cluster=cluster, ledger=ledger)
    upkeep = Upkeep(cluster=cluster, ledger=ledger, policy=policy, addresses=worker_addresses)
    _register(results, uploads=uploads, upkeep=upkeep, profiler=profiler)
    reception = Reception(
        config=config, cluster=cluster, ledger=ledger, policy=policy, make_input=make_input
    )
    orders = Orders(
        config=config,
        ledger=ledger,
        startup=startup,
        catalogue=catalogue,
        uploads=uploads,
        upkeep=upkeep,
    )
    ending = Ending(ledger=ledger, catalogue=catalogue, startup=startup, notebook=notebook)
    # By position: no two are of one type.
    return Parts(
        cluster, ledger, policy, reception, notebook, catalogue, results, fleet, startup, profiler,
        uploads, orders, ending,
    )  # fmt: skip


def _remember(
    remembered: Remembered, *, notebook: Notebook, catalogue: Catalogue, fleet: Fleet
) -> None:
    """Tell the parts what the last controller left."""
    notebook.open(remembered)
    catalogue.restore(remembered)
    fleet.expect(remembered.workers)


def _register(
    results: OrderResults, *, uploads: Uploads, upkeep: Upkeep, profiler: Profiler
) -> None:
    """Have the results of orders given to the parts that sent them."""
    results.register(UploadStep, uploads.on_result)
    results.register(Clearing, upkeep.on_result)
    results.register(ProfileJob, profiler.on_result)
