"""The policies by the names that users give (SPEC 1.3)."""

from typing import Final

from clockwork.controller.assembly import PolicyFactory
from clockwork.controller.policies.direct import Direct
from clockwork.controller.policies.echo import Echo
from clockwork.controller.policies.infer4 import Infer4

POLICIES: Final[dict[str, PolicyFactory]] = {"INFER4": Infer4, "DIRECT": Direct, "ECHO": Echo}
"""What ``clockwork controller TYPE`` takes."""
