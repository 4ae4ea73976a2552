"""Train the ``digits`` model of the zoo: a small convolutional network in plain numpy.

Run: ``python examples/train_digits.py`` (under a minute; needs the extras ``train`` and
``compile``). It writes ``digits.onnx`` and ``held_out.npz`` into the package's data folder, or into
the folder given as the only argument, and prints the accuracy on the held-out images. The seed is
fixed: a run repeats to the bit on the same machine, and to rounding on another.

Data: the 1,797 images of scikit-learn's ``load_digits``, which are the test part of the UCI data
set "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, 1998,
https://doi.org/10.24432/C50P49, CC BY 4.0). Images of one writer mostly follow each other there,
so the last 500 are held out as they stand: most are by writers whom the network has never seen,
which is harder, and more honest, than a random choice. The recipe was chosen on the last 300 of
the 1,297 others.

The network: 3x3 convolutions of 16, 32 and 64 channels, a halving after the second, a dense layer.
Images are shifted, turned, scaled and slanted a little, each time anew.
"""

import sys
from math import cos, pi, sqrt
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from sklearn.datasets import load_digits

Array = NDArray[np.float32]
Labels = NDArray[np.int64]

DATA: Final = Path(__file__).parent.parent / "src" / "clockwork" / "data" / "digits"
SEED: Final = 0
TRAINING_COUNT: Final = 1297
EPOCHS: Final = 100
BATCH: Final = 64
LEARNING_RATE: Final = 2e-3


class Layer(Protocol):
    """A step of the network, with what it remembers between the way forth and the way back."""

    # Learned arrays, and after `backward` their gradients in the same order.
    weights: list[Array]
    gradients: list[Array]

    def forward(self, x: Array) -> Array:
        """Return the layer's output for a batch."""

    def backward(self, slope: Array) -> Array:
        """Return the loss's derivative by the input, given that by the output."""


class Convolution:
    """A 3x3 convolution that keeps height and width."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        filters = rng.standard_normal((outputs, inputs, 3, 3)) * sqrt(2 / (9 * inputs))
        self.weights = [filters.astype(np.float32), np.zeros(outputs, np.float32)]
        self.gradients: list[Array] = []

    def forward(self, x: Array) -> Array:
        """Return `[batch, outputs, height, width]`."""
        self._patches = _patches(x)
        filters, bias = self.weights
        out = self._patches @ filters.reshape(len(filters), -1).T + bias
        return _to_images(out, x.shape)

    def backward(self, slope: Array) -> Array:
        """Return the derivative by the input, and keep those by filters and bias."""
        filters = self.weights[0]
        flat = slope.transpose(0, 2, 3, 1).reshape(-1, len(filters))
        self.gradients = [(flat.T @ self._patches).reshape(filters.shape), flat.sum(axis=0)]
        # The way back is a convolution too, with the filters turned by half a circle.
        turned = filters.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1].reshape(filters.shape[1], -1)
        return _to_images(_patches(slope) @ turned.T, slope.shape)


class Relu:
    """max(x, 0)."""

    def __init__(self) -> None:
        self.weights: list[Array] = []
        self.gradients: list[Array] = []

    def forward(self, x: Array) -> Array:
        """Return what is positive."""
        self._is_positive = x > 0
        return x * self._is_positive

    def backward(self, slope: Array) -> Array:
        """Return the derivative where the input was positive."""
        return slope * self._is_positive


class Halve:
    """The maximum of each 2x2 square."""

    def __init__(self) -> None:
        self.weights: list[Array] = []
        self.gradients: list[Array] = []

    def forward(self, x: Array) -> Array:
        """Return half the height and width."""
        batch, channels, height, width = x.shape
        squares = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
        out: Array = squares.max(axis=(3, 5))
        self._is_largest = squares == out[:, :, :, None, :, None]
        return out

    def backward(self, slope: Array) -> Array:
        """Return the derivative at the largest value of each square."""
        batch, channels, height, width = slope.shape
        spread = self._is_largest * slope[:, :, :, None, :, None]
        back: Array = spread.reshape(batch, channels, 2 * height, 2 * width)
        return back


class Dense:
    """A matrix product over all values of an image."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        matrix = rng.standard_normal((outputs, inputs)) * sqrt(1 / inputs)
        self.weights = [matrix.astype(np.float32), np.zeros(outputs, np.float32)]
        self.gradients: list[Array] = []

    def forward(self, x: Array) -> Array:
        """Return `[batch, outputs]`."""
        self._shape = x.shape
        self._flat = x.reshape(len(x), -1)
        matrix, bias = self.weights
        out: Array = self._flat @ matrix.T + bias
        return out

    def backward(self, slope: Array) -> Array:
        """Return the derivative by the input, and keep those by matrix and bias."""
        self.gradients = [slope.T @ self._flat, slope.sum(axis=0)]
        return (slope @ self.weights[0]).reshape(self._shape)


class Adam:
    """The optimizer of Kingma and Ba (https://arxiv.org/abs/1412.6980), with weight decay."""

    def __init__(self, layers: list[Layer]) -> None:
        self._layers = layers
        self._means = [np.zeros_like(weight) for layer in layers for weight in layer.weights]
        self._squares = [np.zeros_like(mean) for mean in self._means]
        self._steps = 0

    def step(self, rate: float, *, decay: float = 1e-3) -> None:
        """Move all weights against their gradients."""
        self._steps += 1
        weights = [weight for layer in self._layers for weight in layer.weights]
        gradients = [gradient for layer in self._layers for gradient in layer.gradients]
        rows = zip(weights, gradients, self._means, self._squares, strict=True)
        for weight, gradient, mean, square in rows:
            mean += 0.1 * (gradient - mean)
            square += 0.001 * (gradient * gradient - square)
            step = mean / (1 - 0.9**self._steps)
            step /= np.sqrt(square / (1 - 0.999**self._steps)) + 1e-8
            weight -= rate * (step + decay * weight)


def train(images: Array, labels: Labels, rng: np.random.Generator) -> list[Layer]:
    """Return the layers of a network that was trained on `[count, 1, 8, 8]` images."""
    layers: list[Layer] = [
        Convolution(rng, 1, 16),
        Relu(),
        Convolution(rng, 16, 32),
        Relu(),
        Halve(),
        Convolution(rng, 32, 64),
        Relu(),
        Dense(rng, 64 * 4 * 4, 10),
    ]
    optimizer = Adam(layers)
    for epoch in range(EPOCHS):
        rate = LEARNING_RATE * (1 + cos(pi * epoch / EPOCHS)) / 2
        order = rng.permutation(len(images))
        loss = 0.0
        for chosen in np.array_split(order, len(order) // BATCH):
            loss += _learn(layers, _vary(images[chosen], rng), labels[chosen]) * len(chosen)
            optimizer.step(rate)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1} of {EPOCHS}: loss {loss / len(order):.4f}", flush=True)
    return layers


def run(layers: list[Layer], x: Array) -> Array:
    """Return the network's ten scores for each image."""
    for layer in layers:
        x = layer.forward(x)
    return x


def write_onnx(layers: list[Layer], path: Path) -> None:
    """Write the network with the input ``image`` and the output ``scores``."""
    nodes, arrays, value = [], [], "image"
    for index, layer in enumerate(layers):
        names = [f"{kind}_{index}" for kind in ("weight", "bias")[: len(layer.weights)]]
        pairs = zip(layer.weights, names, strict=True)
        arrays += [numpy_helper.from_array(weight, name) for weight, name in pairs]
        out = "scores" if index == len(layers) - 1 else f"value_{index}"
        if isinstance(layer, Dense):
            nodes.append(helper.make_node("Flatten", [value], ["flat"]))
            nodes.append(helper.make_node("Gemm", ["flat", *names], [out], transB=1))
        elif isinstance(layer, Convolution):
            nodes.append(helper.make_node("Conv", [value, *names], [out], pads=[1, 1, 1, 1]))
        elif isinstance(layer, Halve):
            pool = helper.make_node("MaxPool", [value], [out], kernel_shape=[2, 2], strides=[2, 2])
            nodes.append(pool)
        else:
            nodes.append(helper.make_node("Relu", [value], [out]))
        value = out
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["batch", 1, 8, 8])
    scores = helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["batch", 10])
    model = helper.make_model(
        helper.make_graph(nodes, "digits", [image], [scores], initializer=arrays),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
        doc_string="Trained on UCI's handwritten digits (CC BY 4.0) by examples/train_digits.py",
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def main() -> None:
    """Train, report, and write the model and the held-out images."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else DATA
    data = load_digits()
    # Pixels are 0 to 16 (how many of 4x4 dots were inked); the network takes 0 to 1.
    images = (data.images[:, None] / 16).astype(np.float32)
    labels = data.target.astype(np.int64)
    layers = train(images[:TRAINING_COUNT], labels[:TRAINING_COUNT], np.random.default_rng(SEED))
    held_out, answers = images[TRAINING_COUNT:], labels[TRAINING_COUNT:]
    accuracy = (run(layers, held_out).argmax(axis=1) == answers).mean()
    print(f"accuracy on {len(answers)} held-out images: {accuracy:.1%}")
    folder.mkdir(parents=True, exist_ok=True)
    write_onnx(layers, folder / "digits.onnx")
    pixels = data.images[TRAINING_COUNT:].astype(np.uint8)
    np.savez_compressed(folder / "held_out.npz", pixels=pixels, labels=answers.astype(np.uint8))


def _learn(layers: list[Layer], x: Array, labels: Labels) -> float:
    """Return the mean cross entropy of a batch, and leave its gradients in the layers."""
    scores = run(layers, x)
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    rows = np.arange(len(labels))
    loss = -np.log(shares[rows, labels]).mean()
    shares[rows, labels] -= 1
    slope = shares / np.float32(len(labels))
    for layer in reversed(layers):
        slope = layer.backward(slope)
    return float(loss)


def _vary(images: Array, rng: np.random.Generator) -> Array:
    """Return each image slightly shifted, turned, scaled and slanted, read between its pixels."""
    angle, scale, slant = (
        rng.uniform(low, high, (len(images), 1, 1)).astype(np.float32)
        for low, high in ((-0.25, 0.25), (0.85, 1.15), (-0.2, 0.2))
    )
    shift = rng.uniform(-0.9, 0.9, (2, len(images), 1, 1)).astype(np.float32)
    y, x = (np.mgrid[0:8, 0:8] - 3.5).astype(np.float32)
    cosine, sine = scale * np.cos(angle), scale * np.sin(angle)
    # Two rows of empty pixels around the image, beyond which nothing is read.
    padded = np.pad(images[:, 0], ((0, 0), (2, 2), (2, 2)))
    from_x = np.clip(cosine * x - sine * y + slant * y + shift[0] + 5.5, 0, 10.999)
    from_y = np.clip(sine * x + cosine * y + shift[1] + 5.5, 0, 10.999)
    left, top = from_x.astype(np.int64), from_y.astype(np.int64)
    part_x, part_y = from_x - left.astype(np.float32), from_y - top.astype(np.float32)
    image = np.arange(len(images))[:, None, None]
    above = (1 - part_x) * padded[image, top, left] + part_x * padded[image, top, left + 1]
    below = (1 - part_x) * padded[image, top + 1, left] + part_x * padded[image, top + 1, left + 1]
    varied: Array = (1 - part_y) * above + part_y * below
    return varied[:, None]


def _patches(x: Array) -> Array:
    """Return the 3x3 surroundings of each pixel: `[batch * height * width, channels * 9]`."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return windows.transpose(0, 2, 3, 1, 4, 5).reshape(-1, x.shape[1] * 9)


def _to_images(rows: Array, shape: tuple[int, ...]) -> Array:
    """Return rows of channels, one per pixel, as `[batch, channels, height, width]`."""
    return rows.reshape(shape[0], shape[2], shape[3], -1).transpose(0, 3, 1, 2)


if __name__ == "__main__":
    main()
