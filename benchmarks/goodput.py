"""Measures goodput on real models against offered load, beside a plain Python server.

Twelve ResNet-18s for images of 112 x 112 (`--image-size`), popularity by Zipf's law, open-loop
Poisson arrivals at 0.25 to 4 times C, where C is what ONNX Runtime alone does on one core at batch
size 1. A request is good if it is answered within the SLO, counted from its scheduled arrival.
Clockwork knows the SLO; the control (`control_server.py`) serves in the order of arrival, so that
one run of it tells its goodput for every SLO.

    python benchmarks/goodput.py [--cores 0,1] [--slo 100] [--loads 1 2] [--out DIR] [--add FILE]

C is measured before and after, and the mean counts: other guests of a machine change what it can
do. So a run may also be done in pieces, each with a C of its own, which `--add` puts together.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import msgspec
from load_point import Load, measure_zipf
from msgspec import Struct
from msgspec.structs import astuple
from rig import CLOCKWORK, Process, RigConfig, parse_cores, pin

from clockwork.telemetry import plot_style

MODELS: Final = 12
MODEL: Final = "resnet18_v1"
SIDE: Final = 112
SLOS_MS: Final = (25.0, 50.0, 100.0, 250.0, 500.0)
LOADS: Final = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
SERVERS: Final = ("clockwork", "control")
MACHINE_S: Final = 2.0
HERE: Final = Path(__file__).parent


class Outcome(Struct, frozen=True):
    """Goodput of one server at one SLO and one offered load."""

    server: str
    slo_ms: float
    # Of C.
    load: float
    offered_per_s: float
    goodput_per_s: float


class Machine(Struct, frozen=True):
    """What ONNX Runtime alone does here, in inferences per second."""

    # One core at batch size 1: C.
    one_core: float
    # All cores at once, at batch sizes 1 and 8.
    batch_1: float
    batch_8: float

    def __str__(self) -> str:
        return (
            f"C = {self.one_core:.0f}/s (one core, batch 1); all cores: "
            f"{self.batch_1 / self.one_core:.2f} C at batch 1, "
            f"{self.batch_8 / self.one_core:.2f} C at batch 8"
        )


class Run(Struct, frozen=True):
    """What was measured in one go."""

    machine: Machine
    outcomes: list[Outcome]


class Row(Struct, frozen=True):
    """A line of the summary: a server at an SLO. Rates are multiples of C."""

    server: str
    slo_ms: float
    peak: float
    # As a share of what the cores do at batch size 8 with nothing else to do.
    peak_of_batch_8: float
    # Shares of the peak that are left at loads of 2 C and 4 C; absent if these were not offered.
    kept_at_2: float | None
    kept_at_4: float | None

    def __str__(self) -> str:
        kept = [
            f"  at {load} C {share:6.1%} of it"
            for load, share in ((2, self.kept_at_2), (4, self.kept_at_4))
            if share is not None
        ]
        return (
            f"{self.server:>9} SLO {self.slo_ms:>3.0f} ms: peak {self.peak:4.2f} C = "
            f"{self.peak_of_batch_8:4.0%} of batch 8{''.join(kept)}"
        )


class Report(Struct, frozen=True):
    """What goodput.json holds."""

    runs: list[Run]
    summary: list[Row]


def measure_machine(onnx_file: Path, cores: list[int], seconds: float) -> Machine:
    """Return the machine's limits, measured one after the other."""

    def rate(batch: int, on: list[int]) -> float:
        script = str(HERE / "onnx_alone.py")
        runs = [
            subprocess.Popen(
                [sys.executable, script, str(onnx_file), str(core), str(batch), str(seconds)],
                stdout=subprocess.PIPE,
                text=True,
            )
            for core in on
        ]
        return sum(float(run.communicate()[0]) for run in runs)

    return Machine(rate(1, cores[:1]), rate(1, cores), rate(8, cores))


def build_zoo(side: int) -> Path:
    """Return a folder with the model, as a model directory and as an ONNX file; kept if there."""
    folder = Path(f"bench-out/zoo-{side}").resolve()
    if not (folder / f"{MODEL}.onnx").exists():
        command = ("zoo", "build", MODEL, f"--image-size={side}", "--onnx", "-o", str(folder))
        subprocess.run((*CLOCKWORK, *command), check=True, stdout=subprocess.DEVNULL)
    return folder


def run_ours(options: argparse.Namespace, zoo: Path, machine: Machine) -> list[Outcome]:
    """Return what Clockwork did at every SLO and load."""
    config = RigConfig(
        gpus=(options.gpus,),
        is_emulated=False,
        worker_arguments=(f"--cores-per-gpu={options.cores_per_gpu}", *options.worker_argument),
        controller_arguments=tuple(options.controller_argument),
    )
    outcomes = []
    for slo_ms in options.slo:
        for load in options.loads:
            offered = Load(
                rate_per_s=load * machine.one_core,
                models=MODELS,
                clients=1,
                slo_ms=slo_ms,
                seconds=options.seconds,
                warm_up_s=options.warm_up,
                sends_inputs=True,
                model=MODEL,
            )
            point = measure_zipf(config, offered, zoo=zoo, keep=options.keep_logs)
            outcome = Outcome("clockwork", slo_ms, load, point.offered_per_s, point.goodput_per_s)
            outcomes.append(outcome)
            cpu = " ".join(f"{k}={v:.2f}" for k, v in point.cores.items() if "/" not in k)
            text = line(outcome, machine)
            print(f"{text} p50={point.p50_ms:.1f} p99={point.p99_ms:.1f} {cpu}", flush=True)
    return outcomes


def run_control(options: argparse.Namespace, zoo: Path, machine: Machine) -> list[Outcome]:
    """Return what the control did at every SLO and load."""
    outcomes = []
    for index, load in enumerate(options.loads):
        seen = _control_point(options, zoo, load * machine.one_core, index)
        for slo_ms in options.slo:
            good = sum(each is not None and each <= slo_ms for each in seen["latencies_ms"])
            offered, rate = len(seen["latencies_ms"]) / seen["seconds"], good / seen["seconds"]
            outcome = Outcome("control", slo_ms, load, offered, rate)
            outcomes.append(outcome)
            print(line(outcome, machine), flush=True)
    return outcomes


def _control_point(
    options: argparse.Namespace, zoo: Path, rate: float, index: int
) -> dict[str, Any]:
    """Return what the HTTP client saw of a fresh control at one rate."""
    port = str(18_400 + index)
    threads = str(len(parse_cores(options.cores)))
    input_bytes = 3 * options.image_size**2 * 4
    onnx_file = str(zoo / f"{MODEL}.onnx")
    with TemporaryDirectory(prefix="clockwork-bench-") as name:
        folder = Path(name)
        script = str(HERE / "control_server.py")
        server = Process(
            "control", (sys.executable, script, port, threads, onnx_file, str(MODELS)), folder, {}
        )
        try:
            server.wait_for("ready")
            server.wait_for_port(int(port))
            out = folder / "out.json"
            times = (str(options.seconds), str(options.warm_up), str(MODELS), str(input_bytes))
            load = str(HERE / "http_load.py")
            command = (sys.executable, load, port, str(rate), *times, str(index), str(out))
            subprocess.run(command, check=True)
            seen: dict[str, Any] = json.loads(out.read_text())
        finally:
            server.stop()
    return seen


def line(outcome: Outcome, machine: Machine) -> str:
    """Return what is printed of an outcome."""
    return (
        f"  {outcome.server:>9} SLO {outcome.slo_ms:>3.0f} ms, {outcome.load:4.2f} C offered "
        f"({outcome.offered_per_s:5.0f}/s): goodput "
        f"{outcome.goodput_per_s / machine.one_core:5.2f} C ({outcome.goodput_per_s:5.0f}/s)"
    )


def curve(runs: Sequence[Run], server: str, slo_ms: float) -> dict[float, tuple[float, float]]:
    """Return goodput by offered load, both in C, as multiples of C and of batch 8."""
    return {
        each.load: (
            each.goodput_per_s / run.machine.one_core,
            each.goodput_per_s / run.machine.batch_8,
        )
        for run in runs
        for each in run.outcomes
        if (each.server, each.slo_ms) == (server, slo_ms)
    }


def summary(runs: Sequence[Run]) -> list[Row]:
    """Return a row per server and SLO."""
    rows = []
    for server in SERVERS:
        for slo_ms in _slos(runs):
            goodput = curve(runs, server, slo_ms)
            if not goodput:
                continue
            peak, of_batch_8 = max(goodput.values())
            kept = [
                round(goodput[load][0] / peak, 3) if load in goodput else None
                for load in (2.0, 4.0)
            ]
            rows.append(Row(server, slo_ms, round(peak, 2), round(of_batch_8, 2), *kept))
    return rows


def draw(runs: Sequence[Run], out: Path) -> list[Path]:
    """Write the plot of goodput against offered load, one panel per SLO."""
    slos = _slos(runs)
    with plot_style.style():
        figure = plot_style.new_figure(width_inches=plot_style.PAGE_INCHES, height_inches=2.1)
        panels = figure.subplots(1, len(slos), sharey=True, squeeze=False)[0]
        for axes, slo_ms in zip(panels, slos, strict=True):
            axes.plot([0, 4], [0, 4], color="#BBBBBB", linewidth=0.8, label="offered")
            for number, server in enumerate(SERVERS):
                goodput = curve(runs, server, slo_ms)
                loads = sorted(goodput)
                axes.plot(
                    loads,
                    [goodput[load][0] for load in loads],
                    color=plot_style.COLOURS[number],
                    linestyle=plot_style.DASHES[number],
                    label=server,
                )
            x = "offered load / C" if axes is panels[len(panels) // 2] else ""
            y = "goodput / C" if axes is panels[0] else ""
            plot_style.label_axes(axes, x=x, y=y, title=f"SLO {slo_ms:g} ms")
        panels[0].set_ylim(0, 3)
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper right", ncols=3)
        return plot_style.save(figure, out / "goodput")


def _slos(runs: Sequence[Run]) -> list[float]:
    return sorted({each.slo_ms for run in runs for each in run.outcomes})


def main(say: Callable[[str], None] = print) -> None:
    """Run the benchmark from the command line."""
    options = _options()
    pin(parse_cores(options.cores))
    # Absolute: the processes run in folders of their own.
    zoo = build_zoo(options.image_size)
    runs = [msgspec.json.decode(path.read_bytes(), type=Report).runs for path in options.add]
    earlier = [run for several in runs for run in several]
    new = [] if options.only_add else [measure(options, zoo, say)]
    report = Report([*earlier, *new], summary([*earlier, *new]))
    for row in report.summary:
        say(str(row))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        for path in draw(report.runs, options.out):
            say(f"wrote {path}")
        (options.out / "goodput.json").write_bytes(msgspec.json.format(msgspec.json.encode(report)))


def measure(options: argparse.Namespace, zoo: Path, say: Callable[[str], None]) -> Run:
    """Return one run of all that is asked for."""
    onnx_file, cores = zoo / f"{MODEL}.onnx", parse_cores(options.cores)
    before = measure_machine(onnx_file, cores, MACHINE_S)
    say(str(before))
    outcomes = []
    if "clockwork" in options.servers:
        outcomes += run_ours(options, zoo, before)
    if "control" in options.servers:
        outcomes += run_control(options, zoo, before)
    after = measure_machine(onnx_file, cores, MACHINE_S)
    say(str(after))
    mean = [(one + other) / 2 for one, other in zip(astuple(before), astuple(after), strict=True)]
    return Run(Machine(*mean), outcomes)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cores", default="0,1", help="cores for everything")
    parser.add_argument("--slo", type=float, nargs="+", default=SLOS_MS, help="in ms")
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS, help="multiples of C")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each point")
    parser.add_argument("--warm-up", type=float, default=3.0, help="seconds before each point")
    parser.add_argument("--gpus", type=int, default=2, help="devices of our worker")
    parser.add_argument("--cores-per-gpu", type=int, default=1)
    parser.add_argument("--worker-argument", action="append", default=[])
    parser.add_argument("--controller-argument", action="append", default=[])
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=SERVERS)
    parser.add_argument("--add", type=Path, nargs="+", default=(), help="goodput.json of others")
    parser.add_argument("--only-add", action="store_true", help="measure nothing")
    parser.add_argument("--image-size", type=int, default=SIDE, help="pixels of a side")
    parser.add_argument("--keep-logs", type=Path, help="folder for our logs of each point")
    parser.add_argument("--out", type=Path, help="folder for the plot and goodput.json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
