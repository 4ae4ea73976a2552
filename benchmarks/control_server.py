"""The control of the goodput benchmark: a plain Python server for the same ONNX files.

FastAPI on uvicorn, one session per model, one pool of as many threads as cores. What most people
would write: requests run one by one in the order of their arrival.

    python benchmarks/control_server.py PORT THREADS ONNX_FILE MODELS
"""

import sys
from asyncio import get_running_loop
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np
import onnxruntime as ort
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response


class Model:
    """A session, and what it takes."""

    def __init__(self, path: str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        described = self._session.get_inputs()[0]
        self._input = described.name
        self._shape = (1, *described.shape[1:])
        self.input_bytes = 4 * prod(self._shape)

    def infer(self, body: bytes) -> bytes:
        """Return the output for one input."""
        image = np.frombuffer(body, np.float32).reshape(self._shape)
        outputs: list[Any] = self._session.run(None, {self._input: image})
        return bytes(outputs[0].tobytes())


def make_app(path: str, *, models: int, threads: int) -> FastAPI:
    """Return the application; every model has a session and weights of its own."""
    app = FastAPI()
    pool = ThreadPoolExecutor(threads)
    loaded = [Model(path) for _ in range(models)]

    @app.post("/models/{model_id}/infer")
    async def infer(model_id: int, request: Request) -> Response:
        body = await request.body()
        if not 0 <= model_id < len(loaded) or len(body) != loaded[model_id].input_bytes:
            raise HTTPException(status_code=422)
        output = await get_running_loop().run_in_executor(pool, loaded[model_id].infer, body)
        return Response(output, media_type="application/octet-stream")

    return app


def main() -> None:
    """Serve until stopped."""
    port, threads, path, models = sys.argv[1:]
    app = make_app(path, models=int(models), threads=int(threads))
    print("ready", flush=True)
    uvicorn.run(app, host="127.0.0.1", port=int(port), loop="uvloop", log_level="error")


if __name__ == "__main__":
    main()
