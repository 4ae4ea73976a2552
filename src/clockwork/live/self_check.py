"""Checks an installation: one request through every stage, on this machine, in a few seconds.

Each stage that is passed is told with the time that it took; the first one that fails raises.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np

from clockwork.errors import ClockworkError, ConfigurationError
from clockwork.live.async_client import AsyncClient, AsyncModel
from clockwork.live.serve import Offer, ServeConfig, Serving
from clockwork.models.zoo.build import build
from clockwork.models.zoo.catalogue import DIGITS
from clockwork.models.zoo.emulated import write_emulated
from clockwork.models.zoo.shipped import digits_test_set
from clockwork.telemetry.rows import REQUEST_LOG

SLO_MS: Final = 10_000.0
"""Chosen: this checks whether it works, not how fast."""

Say = Callable[[str], None]


class _Stages:
    """Tells each stage once it is passed."""

    def __init__(self, say: Say) -> None:
        self._say = say
        self._begin_s = time.monotonic()

    def passed(self, what: str) -> None:
        now_s = time.monotonic()
        self._say(f"✓ {what} ({(now_s - self._begin_s) * 1000:.0f} ms)")
        self._begin_s = now_s


async def check_installation(say: Say) -> None:
    """Run all stages, telling each.

    Raises:
        ClockworkError: a stage failed; the message says which and how.
    """
    stages = _Stages(say)
    with tempfile.TemporaryDirectory(prefix="clockwork-check-") as folder:
        root = Path(folder)
        model_path, is_emulated = _make_model(root, stages)
        config = ServeConfig(
            offers=(Offer(str(model_path)),),
            host="127.0.0.1",
            port=0,
            is_emulated=is_emulated,
            worker_arguments=("--weights-cache-size=256MiB",),
            controller_arguments=(f"--log-dir={root}",),
        )
        serving = Serving(config, lambda name, line: None)
        async with serving:
            stages.passed(f"a worker and a controller started and loaded {model_path.name}")
            async with await AsyncClient.connect(serving.address) as client:
                (model,) = await client.models()
                stages.passed(f"a client connected to {serving.address}")
                await _ask(model, stages, is_emulated=is_emulated)
        stages.passed("all processes stopped")
        _check_log(root / REQUEST_LOG)
        stages.passed("the request log is complete")


def _make_model(root: Path, stages: _Stages) -> tuple[Path, bool]:
    """Return a model directory, and whether only emulated devices can run it."""
    try:
        path = build(DIGITS, root)
    except ConfigurationError as error:
        # Serving needs no compiler: without one the other stages are checked all the same.
        write_emulated(root)
        stages.passed(f"emulated models were written, because {error}")
        return root / "resnet50_v1", True
    stages.passed("an ONNX file was compiled and measured")
    return path, False


async def _ask(model: AsyncModel, stages: _Stages, *, is_emulated: bool) -> None:
    cold = await _infer(model, is_emulated=is_emulated)
    stages.passed("a request was answered from cold weights")
    warm = await _infer(model, is_emulated=is_emulated)
    stages.passed("a request was answered from warm weights")
    await model.evict()
    again = await _infer(model, is_emulated=is_emulated)
    stages.passed("weights were evicted and loaded again")
    if (cold, warm, again) != (True, False, True):
        raise ClockworkError(
            f"cold starts should be first and third, but were {[cold, warm, again]}"
        )


async def _infer(model: AsyncModel, *, is_emulated: bool) -> bool:
    """Ask once, check the answer, and return whether it was a cold start."""
    if is_emulated:
        given = np.zeros(model.inputs[0].shape, model.inputs[0].dtype)
        return (await model.infer(given, slo_ms=SLO_MS)).is_cold_start
    images, labels = digits_test_set()
    inference = await model.infer(images[0], slo_ms=SLO_MS)
    read = int(inference["scores"].argmax())
    if read != labels[0]:
        raise ClockworkError(f"the digit {labels[0]} was read as {read}: this engine is broken")
    return inference.is_cold_start


def _check_log(path: Path) -> None:
    rows = path.read_text(encoding="utf-8").splitlines()[1:]
    if len(rows) != 3:
        raise ClockworkError(f"{path.name} has {len(rows)} rows after 3 requests")
