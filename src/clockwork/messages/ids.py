"""Identifiers. They are never added, so each has a type of its own."""

from typing import NewType

WorkerId = NewType("WorkerId", int)
"""Index of a worker in the controller's list, 0-based."""
GpuId = NewType("GpuId", int)
"""Index of a GPU within its worker, 0-based."""
ModelId = NewType("ModelId", int)
"""A registered model; copies of one model have consecutive ids."""
CodeId = NewType("CodeId", int)
"""What copies of a model share on a worker: the model id of the first copy."""
ActionId = NewType("ActionId", int)
"""An action of one controller; never used twice while it lives."""
RequestId = NewType("RequestId", int)
"""A request as the controller counts it: unique over all clients."""
ClientId = NewType("ClientId", int)
"""A client's connection as the controller's shell counts it."""
TaskId = NewType("TaskId", int)
"""A task of one worker."""
