"""The smallest client: ask every model that is served once, and for a promise nobody can keep.

Run: ``python examples/ask.py [HOST:PORT]`` beside a running ``clockwork serve models``.
"""

import sys

import numpy as np

import clockwork

POSSIBLE_MS = 1000
IMPOSSIBLE_MS = 0.1


def main() -> None:
    """Ask, and print what comes back."""
    address = sys.argv[1] if len(sys.argv) > 1 else "localhost:12346"
    with clockwork.connect(address) as client:
        for model in client.models():
            # One array per input, without a batch dimension: batches are the controller's matter.
            inputs = {each.name: np.zeros(each.shape, each.dtype) for each in model.inputs}
            answer = model.infer(inputs, slo_ms=POSSIBLE_MS)
            shapes = ", ".join(f"{name} {array.shape}" for name, array in answer.items())
            print(f"{model.name}: {shapes} after {answer.latency_ms:.1f} ms")
            try:
                model.infer(inputs, slo_ms=IMPOSSIBLE_MS)
            except clockwork.RejectedError as error:
                # Refused at once, instead of answered late.
                print(f"{model.name}: {error}")


if __name__ == "__main__":
    main()
