"""What a named workload is made of: parameters, values for them, and the models at hand.

A named workload is data and one function: the command line turns its parameters into arguments and
flags, a test or a simulator calls `NamedWorkload.make` with values alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from clockwork.client.azure import Trace
from clockwork.client.workload import ModelSet, Workload
from clockwork.errors import ConfigurationError

RESNET50 = "resnet50_v2"
"""The model of most experiments of the paper."""

Value = int | float | str | bool


class Parameter(Struct, frozen=True):
    """One parameter of a named workload."""

    # As a flag: "--slo-start".
    name: str
    help: str
    # int, float, str or bool.
    kind: type[Value]
    # None: must be given.
    default: Value | None = None
    # Whether it can also be given by position, in the order of the table.
    is_positional: bool = True
    # The values allowed; empty: any.
    choices: tuple[str, ...] = ()
    # The smallest and the largest number allowed.
    least: float = 0
    most: float = math.inf


class Values:
    """Checked values of all parameters of one workload."""

    __slots__ = ("_values",)

    def __init__(self, parameters: Sequence[Parameter], given: Mapping[str, Value]) -> None:
        """Take `given` and defaults for the rest.

        Raises:
            ConfigurationError: a name is unknown, or a value is missing or wrong.
        """
        known = {parameter.name for parameter in parameters}
        if unknown := sorted(set(given) - known):
            raise ConfigurationError(f"no parameter {unknown[0]!r}; there are: {sorted(known)}")
        self._values = {
            parameter.name: _checked(parameter, given.get(parameter.name, parameter.default))
            for parameter in parameters
        }

    def integer(self, name: str) -> int:
        """Return the value of a parameter of kind int."""
        value = self._values[name]
        assert isinstance(value, int), f"{name} is {value!r}"
        return value

    def number(self, name: str) -> float:
        """Return the value of a parameter of kind float."""
        value = self._values[name]
        assert isinstance(value, float), f"{name} is {value!r}"
        return value

    def text(self, name: str) -> str:
        """Return the value of a parameter of kind str."""
        value = self._values[name]
        assert isinstance(value, str), f"{name} is {value!r}"
        return value

    def flag(self, name: str) -> bool:
        """Return the value of a parameter of kind bool."""
        value = self._values[name]
        assert isinstance(value, bool), f"{name} is {value!r}"
        return value


class Setting(Struct, frozen=True):
    """What a workload is made for: the models and the trace at hand, and the seed."""

    # Path by name of every model that may be used, in the order in which they are listed.
    zoo: Mapping[str, str]
    # Names that take the place of the workload's own models; empty: its own.
    chosen: tuple[str, ...] = ()
    # For workloads that replay one.
    trace: Trace | None = None
    seed: int = 0

    @property
    def names(self) -> list[str]:
        """Names of the models that stand for "all models of the zoo".

        Raises:
            ConfigurationError: there are none.
        """
        if not self.zoo:
            raise ConfigurationError("the model zoo is empty: CLOCKWORK_MODEL_DIR has no models")
        for name in self.chosen:
            self.path_of(name)
        return list(self.chosen or self.zoo)

    def path_of(self, name: str) -> str:
        """Return the path of a model.

        Raises:
            ConfigurationError: the zoo has no such model.
        """
        if name not in self.zoo:
            some = ", ".join(list(self.zoo)[:8]) or "none"
            more = ", ..." if len(self.zoo) > 8 else ""
            raise ConfigurationError(
                f"no model {name!r} in the model zoo (CLOCKWORK_MODEL_DIR); it has: {some}{more}. "
                f"Choose with --models NAME,..."
            )
        return self.zoo[name]

    def copies(self, count: int, name: str = RESNET50) -> tuple[ModelSet, ...]:
        """Return `count` models: copies of `name`, or spread evenly over the chosen ones."""
        return self.spread(count, self.chosen or (name,))

    def spread(self, count: int, names: Sequence[str]) -> tuple[ModelSet, ...]:
        """Return `count` models, spread evenly over `names`; none of a name without any."""
        sets: list[ModelSet] = []
        for index, name in enumerate(names):
            copies = (count - sum(each.copies for each in sets)) // (len(names) - index)
            if copies:
                sets.append(ModelSet(name=name, path=self.path_of(name), copies=copies))
        return tuple(sets)


class NamedWorkload(Struct, frozen=True):
    """A workload that can be asked for by name."""

    name: str
    # One line for the list of workloads.
    summary: str
    # What it does, in a few sentences.
    help: str
    build: Callable[[Values, Setting], Workload]
    parameters: tuple[Parameter, ...] = ()
    # True if `Setting.trace` must be there.
    replays_trace: bool = False

    def make(self, given: Mapping[str, Value], setting: Setting) -> Workload:
        """Return the workload for values of its parameters; others have their defaults.

        Raises:
            ConfigurationError: a value is wrong, or the zoo lacks a model.
        """
        return self.build(Values(self.parameters, given), setting)


def _checked(parameter: Parameter, value: Value | None) -> Value:
    name, kind = parameter.name, parameter.kind
    if value is None:
        raise ConfigurationError(f"{name} is missing: {parameter.help}")
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not kind:
        raise ConfigurationError(f"{name} is {value!r}, expected: {kind.__name__}")
    if parameter.choices and value not in parameter.choices:
        allowed = ", ".join(parameter.choices)
        raise ConfigurationError(f"{name} is {value!r}, allowed: {allowed}")
    if isinstance(value, int | float) and not value >= parameter.least:
        raise ConfigurationError(f"{name} is {value}, must be at least {parameter.least:g}")
    if isinstance(value, int | float) and value > parameter.most:
        raise ConfigurationError(f"{name} is {value}, must be at most {parameter.most:g}")
    return value
