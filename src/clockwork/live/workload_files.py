"""Workload files: models, streams and ladders in TOML (docs/workloads.md has examples).

A file is checked as a whole before anything is connected or loaded; every complaint names the
file, the line and the key.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final, assert_never

import msgspec

from clockwork.client.azure import ReplayOptions, in_blocks, in_turn, played, resampled
from clockwork.client.basic_workloads import zipf_weights
from clockwork.client.workload import (
    COUNT_MAX,
    Arrivals,
    BurstyClosed,
    BurstyOpen,
    ClosedLoop,
    FixedRate,
    Gamma,
    Knob,
    Ladder,
    ModelSet,
    OnOff,
    Poisson,
    Step,
    Stream,
    TraceReplay,
    Workload,
)
from clockwork.errors import ConfigurationError
from clockwork.live.toml_tables import TOP, Place, TomlFile, unknown
from clockwork.live.trace_files import read_trace
from clockwork.live.workload_tables import (
    CHOICES,
    BurstyClosedTable,
    BurstyOpenTable,
    ClosedLoopTable,
    FixedRateTable,
    GammaTable,
    LadderTable,
    ModelTable,
    OnOffTable,
    PoissonTable,
    StreamTable,
    TopTable,
    TraceTable,
    read_custom,
)
from clockwork.units import MS

_KNOBS: Final = {"slo_factor": Knob.SLO_FACTOR, "rate": Knob.RATE, "scale": Knob.SCALE}
BURST_MIN_NS: Final = MS
"""Shorter bursts would cost more time than the requests in them (chosen)."""
_TUNABLE: Final = {
    Knob.RATE: (Poisson, FixedRate, Gamma),
    Knob.SCALE: (TraceReplay,),
}
"""Which arrivals a knob fits; any has an SLO."""


def read_workload_file(path: Path, *, zoo: Mapping[str, str], seed: int | None = None) -> Workload:
    """Return the workload that a file describes.

    Args:
        zoo: path by name of the models that may be named without a path.
        seed: takes the place of the file's.

    Raises:
        ConfigurationError: something is wrong with the file; the message has a line for each
            problem, with the file, the line and the key.
    """
    file = TomlFile(path, read_custom, CHOICES)
    top = file.convert(TOP, file.data, TopTable) or TopTable()
    builder = _Builder(file, directory=path.parent, seed=top.seed if seed is None else seed)
    builder.add_models(zoo)
    builder.add_streams(top.slo.ns if top.slo else 0)
    builder.add_ladders()
    file.raise_problems()
    return Workload(
        name=top.name,
        models=tuple(builder.models),
        streams=tuple(builder.streams),
        ladders=tuple(builder.ladders),
        notes=tuple(builder.notes),
        duration_ns=top.duration.ns if top.duration else None,
        seed=builder.seed,
    )


class _Builder:
    """Collects the parts of a workload, and complaints about them."""

    def __init__(self, file: TomlFile, *, directory: Path, seed: int) -> None:
        self._file = file
        self._directory = directory
        self.seed = seed
        self.models: list[ModelSet] = []
        self.streams: list[Stream] = []
        self.ladders: list[Ladder] = []
        self.notes: list[str] = []
        # Indices of models by label of their set, and of streams by label of their table.
        self._models_by_label: dict[str, tuple[int, ...]] = {}
        self._streams_by_label: dict[str, range] = {}

    def add_models(self, zoo: Mapping[str, str]) -> None:
        """Take in ``[[models]]``."""
        first = 0
        for place, raw in self._file.tables("models", least=1):
            table = self._file.convert(place, raw, ModelTable)
            if table is None:
                continue
            if table.path is None and table.name not in zoo:
                self._file.complain(
                    place, "name", f"{unknown(table.name, list(zoo))} in CLOCKWORK_MODEL_DIR"
                )
            label = table.label or table.name
            if label in self._models_by_label:
                self._file.complain(place, "label", f"{label!r} is taken: use another label")
            path = table.path or zoo.get(table.name, "")
            self.models.append(ModelSet(table.name, path, table.copies))
            self._models_by_label[label] = tuple(range(first, first + table.copies))
            first += table.copies
            if first > COUNT_MAX:
                self._file.complain(
                    place, "copies", f"these make {first} models, allowed: {COUNT_MAX}"
                )

    def add_streams(self, slo_ns: int) -> None:
        """Take in ``[[streams]]``; `slo_ns` is for those without an SLO."""
        for place, raw in self._file.tables("streams", least=1):
            table = self._file.convert(place, raw, StreamTable)
            if table is None:
                continue
            if table.slo and table.slo_factor:
                self._file.complain(place, "slo_factor", "give slo or slo_factor, not both")
            first = len(self.streams)
            models = self._models_of(place, table)
            if models:
                self.streams += self._streams_of(place, table, models, slo_ns)
            if table.label is not None:
                if table.label in self._streams_by_label:
                    self._file.complain(place, "label", f"{table.label!r} is taken")
                self._streams_by_label[table.label] = range(first, len(self.streams))

    def add_ladders(self) -> None:
        """Take in ``[[ladders]]``."""
        for place, raw in self._file.tables("ladders"):
            table = self._file.convert(place, raw, LadderTable)
            if table is None:
                continue
            knob = _KNOBS[table.knob]
            indices = [
                index
                for label in table.streams
                for index in self._streams_to_tune(place, label, knob)
            ]
            for index in indices:
                self.streams[index] = _with_knob(self.streams[index], knob, table.start)
            self.ladders.append(
                Ladder(
                    knob=knob,
                    streams=tuple(indices),
                    period_ns=table.period.ns,
                    start=table.start,
                    step=Step(table.step),
                    by=table.by,
                    end=table.end,
                )
            )

    def _models_of(self, place: Place, table: StreamTable) -> tuple[int, ...]:
        known = self._models_by_label
        for label in table.models:
            if label not in known:
                text = unknown(label, list(known))
                self._file.complain(place, "models", f"{text} among the labels of [[models]]")
        labels = table.models or tuple(known)
        return tuple(index for label in labels for index in known.get(label, ()))

    def _streams_of(
        self, place: Place, table: StreamTable, models: tuple[int, ...], slo_ns: int
    ) -> list[Stream]:
        if table.slo is not None or table.slo_factor is not None:
            slo_ns = table.slo.ns if table.slo else 0
        common = Stream(
            models=models,
            arrivals=ClosedLoop(1),
            user_id=table.tenant,
            slo_ns=slo_ns,
            slo_factor=table.slo_factor or 0.0,
            start_after_ns=table.start_after.ns if table.start_after else 0,
        )
        if isinstance(table.arrivals, BurstyOpenTable | BurstyClosedTable):
            shortest_ns = min(table.arrivals.burst.ns, table.arrivals.idle.ns)
            if shortest_ns < BURST_MIN_NS:
                self._file.complain(place, "arrivals", "burst and idle must be at least 1ms")
        if isinstance(table.arrivals, TraceTable):
            if table.each or table.zipf:
                self._file.complain(place, "arrivals", "a trace chooses models: no each, no zipf")
            return self._replay(place, table.arrivals, common)
        streams = self._split(place, table, common)
        arrivals = _arrivals(table.arrivals)
        return [msgspec.structs.replace(stream, arrivals=arrivals) for stream in streams]

    def _split(self, place: Place, table: StreamTable, common: Stream) -> list[Stream]:
        """Return one stream for all models, or one for each."""
        if table.each and table.zipf:
            self._file.complain(place, "zipf", "each model has its own arrivals: no popularity")
        if table.each:
            return [
                msgspec.structs.replace(common, models=(model,), user_id=table.tenant + index)
                for index, model in enumerate(common.models)
            ]
        if table.zipf is None:
            return [common]
        cold, size = table.zipf.cold, len(common.models)
        if cold >= size:
            self._file.complain(place, "zipf", f"{cold} of {size} models are cold: leave one hot")
            return [common]
        weights = zipf_weights(
            size, exponent=table.zipf.exponent, cold=cold, cold_share=table.zipf.cold_share
        )
        return [msgspec.structs.replace(common, weights=weights)]

    def _replay(self, place: Place, table: TraceTable, common: Stream) -> list[Stream]:
        """Return a stream per function of a trace."""
        try:
            trace = read_trace(self._directory / table.file)
        except OSError as error:
            self._file.complain(
                place, "arrivals.file", f"cannot read {error.filename}: {error.strerror}"
            )
            return []
        except ConfigurationError as error:
            self._file.complain(place, "arrivals.file", str(error))
            return []
        if table.resample:
            trace = resampled(trace, table.resample, self.seed)
        self.notes.append(f"Replaying trace {trace.source}")
        options = ReplayOptions(
            scale=table.scale,
            stretch=table.stretch,
            interval_ns=table.interval.ns if table.interval else None,
            random_start=table.random_start,
            once=table.once,
            exact=table.exact,
        )
        arrivals = [played(function, options) for function in trace.functions]
        size = len(common.models)
        if table.mapping == "turn":
            mapped = in_turn(arrivals, model_count=size)
        else:
            mapped = in_blocks(arrivals, model_count=size, seed=self.seed)
        return [
            msgspec.structs.replace(
                common,
                models=(common.models[each.models[0]],),
                arrivals=each.arrivals,
                user_id=common.user_id + each.user_id,
            )
            for each in mapped
        ]

    def _streams_to_tune(self, place: Place, label: str, knob: Knob) -> range:
        if label not in self._streams_by_label:
            text = unknown(label, list(self._streams_by_label))
            self._file.complain(place, "streams", f"{text} among the labels of [[streams]]")
            return range(0)
        indices = self._streams_by_label[label]
        fitting = _TUNABLE.get(knob)
        for index in indices:
            arrivals = self.streams[index].arrivals
            if fitting is not None and not isinstance(arrivals, fitting):
                self._file.complain(
                    place, "knob", f"the arrivals of stream {label!r} have no such knob"
                )
                return range(0)
        return indices


def _with_knob(stream: Stream, knob: Knob, value: float) -> Stream:
    """Return `stream` with a knob at `value`, as the start of a ladder."""
    if knob is Knob.SLO_FACTOR:
        return msgspec.structs.replace(stream, slo_ns=0, slo_factor=value)
    field = "rate_per_s" if knob is Knob.RATE else "scale"
    arrivals = msgspec.structs.replace(stream.arrivals, **{field: value})
    return msgspec.structs.replace(stream, arrivals=arrivals)


def _arrivals(
    table: ClosedLoopTable
    | BurstyClosedTable
    | PoissonTable
    | FixedRateTable
    | BurstyOpenTable
    | GammaTable
    | OnOffTable,
) -> Arrivals:
    match table:
        case ClosedLoopTable():
            return ClosedLoop(table.concurrency, table.requests)
        case BurstyClosedTable():
            return BurstyClosed(table.concurrency, table.burst.ns, table.idle.ns)
        case PoissonTable():
            return Poisson(table.rate)
        case FixedRateTable():
            return FixedRate(table.rate)
        case BurstyOpenTable():
            return BurstyOpen(table.rate, table.burst.ns, table.idle.ns)
        case GammaTable():
            return Gamma(table.rate, table.cv)
        case OnOffTable():
            return OnOff(table.small, table.large, table.delay.ns, table.period.ns)
        case _:
            assert_never(table)
