"""A whole Clockwork for tests: real processes on free ports, watched by what they print.

Nothing here waits for time to pass: a program is ready when it has printed its line, and a state
is reached when a message says so. The patience below only ends tests that would hang.
"""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import clockwork

PATIENCE_S = 60.0
LOCALHOST = "127.0.0.1"
NOTHING: Mapping[str, str] = {}


class Program:
    """A running `clockwork` command; it dies with the test's process."""

    def __init__(self, *arguments: str, environ: Mapping[str, str] = NOTHING) -> None:
        """Start ``clockwork ARGUMENTS``; of our variables its environment has only `environ`."""
        self.arguments = arguments
        inherited = {key: value for key, value in os.environ.items() if "CLOCKWORK" not in key}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "clockwork", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=inherited | dict(environ),
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._has_ended = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def output(self) -> str:
        """All that it has printed, with the command above it."""
        return "\n".join([f"$ clockwork {' '.join(self.arguments)}", *self.lines])

    def wait_for(self, pattern: str, *, count: int = 1) -> re.Match[str]:
        """Return the match of the line that contains `pattern`, the `count`-th of those."""
        found: list[re.Match[str]] = []

        def is_there() -> bool:
            found[:] = filter(None, (re.search(pattern, line) for line in self.lines))
            return len(found) >= count or self._has_ended

        with self._news:
            self._news.wait_for(is_there, PATIENCE_S)
        assert len(found) >= count, f"no {pattern!r} ({len(found)} of {count}) in:\n{self.output}"
        return found[count - 1]

    def wait(self) -> int:
        """Wait until it ends; return its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        """End it as a user or a supervisor would; it must obey in order."""
        self.process.send_signal(number)
        code = self.wait()
        assert code == 0, f"exit code {code} after {number.name}:\n{self.output}"
        assert "Traceback" not in self.output, self.output

    def kill(self) -> None:
        """End it without a word, if it runs."""
        self.process.kill()
        self.wait()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            # A countdown rewrites its line.
            self._note(line.rstrip("\n").split("\r")[-1])
        with self._news:
            self._has_ended = True
            self._news.notify_all()
        self.process.stdout.close()

    def _note(self, line: str) -> None:
        with self._news:
            self.lines.append(line)
            self._news.notify_all()


class System:
    """Workers and a controller; leaving the context stops all, and everybody must end well.

    Start workers first, then the controller; `connect` gives clients.
    """

    def __init__(self, log_dir: Path) -> None:
        """Start nothing yet; the controller's logs go to `log_dir`."""
        self.log_dir = log_dir
        log_dir.mkdir(parents=True, exist_ok=True)
        # Ports of the workers, in the order of their ids.
        self.worker_ports: list[int] = []
        self.controller_port = 0
        self._programs: list[Program] = []
        self._clients: list[clockwork.Client] = []

    def __enter__(self) -> "System":
        """Return the system itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close clients, stop programs in reverse order; after a failure show what they said."""
        for client in self._clients:
            client.close()
        if kind is not None:
            for program in self._programs:
                program.kill()
                print(program.output)
            return
        stops: list[Callable[[], None]] = [each.stop for each in reversed(self._programs)]
        try:
            while stops:
                stops.pop(0)()
        finally:
            for program in self._programs:
                program.kill()

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{LOCALHOST}:{self.controller_port}"

    def worker(self, *flags: str, command: str = "worker", port: int = 0) -> Program:
        """Start a worker, and return it once it listens."""
        program = self._start(command, f"--host={LOCALHOST}", f"--port={port}", *flags)
        found = program.wait_for(r"IO service thread listening on \S+:(\d+)")
        self.worker_ports.append(int(found[1]))
        return program

    def dummy(self, *flags: str) -> Program:
        """Start an emulated worker, and return it once it listens."""
        return self.worker(*flags, command="worker_dummy")

    def joiner(self, *flags: str) -> Program:
        """Start an emulated worker that joins the controller, and return it once it has."""
        program = self._start("worker_dummy", f"--join={self.address}", *flags)
        program.wait_for("Connection established with")
        return program

    def controller(
        self, *flags: str, type_: str = "INFER4", workers: Sequence[int] | None = None
    ) -> Program:
        """Start a controller, and return it once it listens; its load phase is a short one.

        Args:
            flags: further ones.
            type_: which controller.
            workers: ports to dial; None: those of the workers that were started. Without any,
                workers have to join.
        """
        ports = self.worker_ports if workers is None else workers
        program = self._start(
            "controller",
            type_,
            ",".join(f"{LOCALHOST}:{port}" for port in ports) or "-",
            f"--host={LOCALHOST}",
            "--port=0",
            f"--log-dir={self.log_dir}",
            "--load-stage-timeout=50ms",
            *flags,
        )
        found = program.wait_for(r"listening for clients on \S+:(\d+)")
        self.controller_port = int(found[1])
        return program

    def connect(self, user_id: int = 0) -> clockwork.Client:
        """Return a new client; it is closed with the system."""
        client = clockwork.connect(self.address, timeout_s=PATIENCE_S, user_id=user_id)
        self._clients.append(client)
        return client

    def forget(self, program: Program) -> None:
        """Leave a program out of the end: the test has ended it itself."""
        self._programs.remove(program)

    def _start(self, *arguments: str) -> Program:
        program = Program(*arguments, "--parent", str(os.getpid()))
        self._programs.append(program)
        return program
