"""A Clockwork of processes for benchmarks: workers, a controller, clients, and what they cost.

Everything runs as the commands that users run. Processes inherit the cores of the benchmark
(`pin`), print into files of the rig's folder, and are metered through /proc, so that metering costs
them nothing.
"""

import ctypes
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

START_TIMEOUT_S: Final = 90.0
STOP_TIMEOUT_S: Final = 40.0
POLL_S: Final = 0.02
METER_S: Final = 0.5
"""Between two readings of CPU times, which take 1 ms of a core that is measured."""
CLOCKWORK: Final = (sys.executable, "-m", "clockwork")
_PR_SET_PDEATHSIG: Final = 1


class RigConfig(Struct, frozen=True, kw_only=True):
    """What runs."""

    # The controller's type.
    policy: str = "INFER4"
    # GPUs of each worker.
    gpus: tuple[int, ...] = (1,)
    is_emulated: bool = True
    controller_arguments: tuple[str, ...] = ()
    worker_arguments: tuple[str, ...] = ()
    # The controller has the first of our cores to itself, and the others share the rest.
    controller_has_core: bool = False


class Process:
    """A child process whose output goes to a file."""

    def __init__(self, name: str, command: Sequence[str], folder: Path, environ: dict[str, str]):
        """Start it; the working directory is `folder`."""
        self.name = name
        self.output = folder / f"{name}.out"
        with self.output.open("wb") as file:
            self._popen = subprocess.Popen(
                command,
                cwd=folder,
                env=os.environ | environ,
                stdout=file,
                stderr=file,
                preexec_fn=_die_with_parent,
            )
        self.pid = self._popen.pid

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Return the first match in what it prints."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s:
            found = re.search(pattern, self.output.read_text(errors="replace"))
            if found:
                return found
            if self._popen.poll() is not None:
                break
            time.sleep(POLL_S)
        raise RuntimeError(f"{self.name} did not print {pattern}: {self._tail()}")

    def wait_for_port(self, port: int) -> None:
        """Wait until somebody listens at a port of this machine."""
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline_s and self._popen.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return
            time.sleep(POLL_S)
        raise RuntimeError(f"{self.name} does not listen at {port}: {self._tail()}")

    def wait(self, timeout_s: float) -> None:
        """Wait for its end; raise if it failed."""
        code = self._popen.wait(timeout_s)
        if code:
            raise RuntimeError(f"{self.name} ended with {code}: {self._tail()}")

    def stop(self) -> None:
        """Ask it to end, and see to it that it does."""
        with suppress(ProcessLookupError):
            self._popen.send_signal(signal.SIGTERM)
        try:
            self._popen.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()

    def memory_bytes(self, field: str = "VmRSS") -> int:
        """Return how much memory it has resident (VmRSS), or had at most (VmHWM)."""
        found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found is not None, f"no {field}"
        return int(found[1]) * 1024

    def _tail(self) -> str:
        return self.output.read_text(errors="replace")[-2000:]


class Rig:
    """Workers and a controller that is connected to them; a context manager."""

    def __init__(self, config: RigConfig, folder: Path, *, environ: dict[str, str] | None = None):
        """Start nothing yet.

        Args:
            folder: exists; takes the logs and what is printed.
            environ: added to the environment of all processes.
        """
        self._config = config
        self.folder = folder
        self._environ = {"CLOCKWORK_LOG_DIR": str(folder)} | (environ or {})
        self.workers: list[Process] = []
        self.controller: Process | None = None
        self.port = 0
        self._client_count = 0

    def __enter__(self) -> "Rig":
        """Start everything."""
        config = self._config
        command = "worker_dummy" if config.is_emulated else "worker"
        for index, gpus in enumerate(config.gpus):
            where = ("--host=127.0.0.1", "--port=0", f"--gpus={gpus}")
            name = f"worker{index}"
            self.workers.append(self._start(name, command, *where, *config.worker_arguments))
        ports = [worker.wait_for(r"listening on \S+:(\d+)")[1] for worker in self.workers]
        addresses = ",".join(f"127.0.0.1:{port}" for port in ports)
        arguments = ("controller", config.policy, addresses, "--host=127.0.0.1", "--port=0")
        limits = (f"--max-gpus={sum(config.gpus)}",)
        self.controller = self._start(
            "controller", *arguments, *limits, *config.controller_arguments
        )
        self.port = int(self.controller.wait_for(r"for clients on \S+:(\d+)")[1])
        return self

    def __exit__(self, *error: object) -> None:
        """Stop everything; the logs are complete afterwards."""
        for process in (self.controller, *self.workers):
            if process is not None:
                process.stop()

    def client(self, *arguments: str) -> Process:
        """Start ``clockwork client`` with arguments; the summary goes to its `json_of`."""
        self._client_count += 1
        name = f"client{self._client_count}"
        address = f"127.0.0.1:{self.port}"
        return self._start(name, "client", address, *arguments, f"--json={name}.json")

    def json_of(self, client: Process) -> Path:
        """Return where a client's summary is when it has ended."""
        return self.folder / f"{client.name}.json"

    @property
    def processes(self) -> list[Process]:
        """Controller and workers."""
        assert self.controller is not None, "not started"
        return [self.controller, *self.workers]

    def _start(self, name: str, *arguments: str) -> Process:
        process = Process(name, (*CLOCKWORK, *arguments), self.folder, self._environ)
        if self._config.controller_has_core:
            # At once: threads inherit it, and Python needs a while until it starts any.
            first, *rest = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(process.pid, {first} if name == "controller" else rest)
        return process


class Meter:
    """CPU time of processes and their threads over time; a context manager."""

    def __init__(self, processes: Sequence[Process]):
        self._processes = list(processes)
        self._instants_ns: list[int] = []
        # By sample: CPU ns by (process, thread) name.
        self._samples: list[dict[str, int]] = []
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Meter":
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        """End."""
        self._is_over.set()
        self._thread.join()

    def cores(self, begin_ns: int, end_ns: int) -> dict[str, float]:
        """Return CPU seconds per second by "process" and "process/thread" (without main threads),
        from the samples between two instants of the wall clock."""
        first = bisect_left(self._instants_ns, begin_ns)
        last = bisect_right(self._instants_ns, end_ns) - 1
        assert first < last, f"less than {2 * METER_S} s were metered"
        elapsed_ns = self._instants_ns[last] - self._instants_ns[first]
        before, after = self._samples[first], self._samples[last]
        return {name: (after[name] - before.get(name, 0)) / elapsed_ns for name in sorted(after)}

    def _run(self) -> None:
        while not self._is_over.wait(METER_S):
            self._instants_ns.append(time.time_ns())
            sample: dict[str, int] = {}
            for process in self._processes:
                with suppress(OSError):
                    sample |= _cpu_ns(process)
            self._samples.append(sample)


def pin(cores: Sequence[int]) -> None:
    """Have this process and all that it starts run on these cores."""
    os.sched_setaffinity(0, cores)


def parse_cores(text: str) -> list[int]:
    """Return the cores that ``0,1`` names, as far as there are; an empty text names all."""
    there = sorted(os.sched_getaffinity(0))
    return [core for core in map(int, text.split(",")) if core in there] if text else there


def make_zoo(folder: Path) -> Path:
    """Return a folder with the published table of models, for emulated GPUs."""
    command = (*CLOCKWORK, "zoo", "emulated", "-o", str(folder))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder


def _die_with_parent() -> None:
    """Have the kernel end this process when the benchmark is killed."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _cpu_ns(process: Process) -> dict[str, int]:
    """Return CPU time by process and by its other threads' names."""
    spent = {process.name: 0}
    for task in Path(f"/proc/{process.pid}/task").iterdir():
        ran_ns = int((task / "schedstat").read_text().split()[0])
        spent[process.name] += ran_ns
        if task.name != str(process.pid):
            name = f"{process.name}/{(task / 'comm').read_text().strip()}"
            spent[name] = spent.get(name, 0) + ran_ns
    return spent
