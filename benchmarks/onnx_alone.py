"""Measures ONNX Runtime alone: inferences per second of one model on one core, nothing else.

python benchmarks/onnx_alone.py ONNX_FILE CORE BATCH SECONDS
"""

import os
import sys
import time

import numpy as np
import onnxruntime as ort


def rate(path: str, *, core: int, batch: int, seconds: float) -> float:
    """Return inferences per second: the median of five stretches."""
    os.sched_setaffinity(0, [core])
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    described = session.get_inputs()[0]
    shape = (batch, *described.shape[1:])
    inputs = {described.name: np.random.default_rng(0).random(shape, dtype=np.float32)}
    rates = []
    for _ in range(6):
        begin_s, count = time.monotonic(), 0
        while time.monotonic() - begin_s < seconds / 6:
            session.run(None, inputs)
            count += batch
        rates.append(count / (time.monotonic() - begin_s))
    # The first stretch warms up.
    return sorted(rates[1:])[2]


if __name__ == "__main__":
    _, path_, core_, batch_, seconds_ = sys.argv
    print(rate(path_, core=int(core_), batch=int(batch_), seconds=float(seconds_)))
