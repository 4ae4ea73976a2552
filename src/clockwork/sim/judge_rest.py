"""The judge of the end: after healing and the last answer, everything is at rest and nothing leaks.

At rest means: nobody is owed anything, nothing is outstanding, every worker is connected and used,
belief is truth, and time passes without anything happening.
"""

from typing import Final

from clockwork.sim.checkers import Violation
from clockwork.sim.judge_actions import Actions
from clockwork.sim.judge_answers import OneAnswer
from clockwork.sim.judge_memory import Memory
from clockwork.sim.links import HasBelief
from clockwork.sim.world import World
from clockwork.units import SECOND

REST: Final = "after healing everything is answered, at rest, and nothing leaks"

CALM_NS: Final = 3 * SECOND
"""From the last answer to the check: longer than overdue actions, redials and any SLO (chosen)."""
STEPS_AT_REST_MAX: Final = 50
"""Agenda entries in a second at rest (chosen: some retries, and far below any spinning)."""


def check_rest(world: World, *, answers: OneAnswer, actions: Actions, memory: Memory) -> None:
    """Let time pass until everything should be at rest, and raise if it is not."""
    world.run(CALM_NS)
    _claim(world.have_clients_ended, "a client still waits")
    answers.check_all_answered()
    _claim(not world.operator.open, f"the operator waits for {world.operator.open}")
    actions.check_all_done()
    _check_controller(world)
    memory.compare(world)
    before = world.loop.step_count
    world.run(SECOND)
    steps = world.loop.step_count - before
    _claim(steps <= STEPS_AT_REST_MAX, f"{steps} steps in a second without any event")


def _check_controller(world: World) -> None:
    host = world.controller.host
    assert host is not None, "the controller was healed"
    role = host.role
    assert isinstance(role, HasBelief), f"{role!r} has no ledger to look at"
    host.role.check()
    ledger, cluster = role.ledger, role.cluster
    _claim(not ledger.open_count, f"{ledger.open_count} requests are open")
    _claim(not ledger.pending, f"actions are pending: {list(ledger.pending.values())[:3]}")
    for client in ledger.clients.values():
        _claim(not client.requests, f"client {client.client_id} has {client.requests}")
    _claim(
        len(ledger.clients) <= len(world.controller.clients),
        f"{len(ledger.clients)} clients are known",
    )
    for worker in cluster.workers:
        _claim(worker.is_ready, f"worker {worker.worker_id} is not used")
        _claim(len(worker.models) >= len(cluster.models), f"{worker.worker_id} lacks models")
    for gpu in cluster.gpus:
        _claim(bool(cluster.up_mask & gpu.bit), f"GPU {gpu.index} is not used")
        _claim(not len(gpu.exec), f"GPU {gpu.index}: infers outstanding")
        _claim(not len(gpu.loads), f"GPU {gpu.index}: loads outstanding")
    for model in cluster.models.values():
        _claim(not model.open_count, f"M-{model.model_id}: {model.open_count} open")
        demand = model.demand.exec_demand
        _claim(not demand, f"M-{model.model_id}: demand {demand} without requests")


def _claim(is_true: bool, text: str) -> None:
    if not is_true:
        raise Violation(REST, text)
