"""Residual networks, first and second version.

Source: v1 after He et al., "Deep Residual Learning for Image Recognition"
(https://arxiv.org/abs/1512.03385), the stride in a block's first convolution as in the paper;
v2 after He et al., "Identity Mappings in Deep Residual Networks"
(https://arxiv.org/abs/1603.05027), with the normalization of the input image that Apache MXNet's
version of it has.
"""

from typing import Final

from clockwork.models.zoo.graph import RESIDUAL_SCALE, Graph, Value

BLOCKS: Final = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
"""Blocks per stage, by depth (table 1 of the first paper)."""
CLASSES: Final = 1000
"""Classes of ImageNet."""


def add_resnet_v1(graph: Graph, image: Value, *, depth: int) -> None:
    """Append ResNet `depth`, version 1: normalization and ReLU after each convolution."""
    x = graph.relu(graph.batch_norm(graph.convolution(image, 64, 7, stride=2, pad=3)))
    x = graph.max_pool(x, 3, stride=2, pad=1)
    for width, stride in _blocks(depth):
        x = _block_v1(graph, x, width=width, stride=stride, is_bottleneck=depth >= 50)
    graph.classifier(x, CLASSES)


def add_resnet_v2(graph: Graph, image: Value, *, depth: int) -> None:
    """Append ResNet `depth`, version 2: normalization and ReLU before each convolution."""
    x = graph.convolution(graph.batch_norm(image), 64, 7, stride=2, pad=3)
    x = graph.max_pool(graph.relu(graph.batch_norm(x)), 3, stride=2, pad=1)
    for width, stride in _blocks(depth):
        x = _block_v2(graph, x, width=width, stride=stride, is_bottleneck=depth >= 50)
    graph.classifier(graph.relu(graph.batch_norm(x)), CLASSES)


def _blocks(depth: int) -> list[tuple[int, int]]:
    """Return width and stride of each block: the width doubles and the image halves per stage."""
    return [
        (64 << stage, 2 if stage > 0 and index == 0 else 1)
        for stage, count in enumerate(BLOCKS[depth])
        for index in range(count)
    ]


def _block_v1(graph: Graph, x: Value, *, width: int, stride: int, is_bottleneck: bool) -> Value:
    kernels = (1, 3, 1) if is_bottleneck else (3, 3)
    channels = (width, width, 4 * width) if is_bottleneck else (width, width)
    y = x
    for index, (kernel, size) in enumerate(zip(kernels, channels, strict=True)):
        is_last = index == len(kernels) - 1
        step = stride if index == 0 else 1
        y = graph.convolution(y, size, kernel, stride=step, pad=kernel // 2)
        y = graph.batch_norm(y, scale=RESIDUAL_SCALE if is_last else 1.0)
        y = y if is_last else graph.relu(y)
    if stride > 1 or x.channels != y.channels:
        x = graph.batch_norm(graph.convolution(x, y.channels, 1, stride=stride))
    return graph.relu(graph.add(y, x))


def _block_v2(graph: Graph, x: Value, *, width: int, stride: int, is_bottleneck: bool) -> Value:
    # The stride sits in the 3x3 convolution, unlike in version 1.
    kernels = (1, 3, 1) if is_bottleneck else (3, 3)
    strides = (1, stride, 1) if is_bottleneck else (stride, 1)
    channels = (width, width, 4 * width) if is_bottleneck else (width, width)
    shortcut = x
    y = x
    for index, (kernel, step, size) in enumerate(zip(kernels, strides, channels, strict=True)):
        scale = RESIDUAL_SCALE if index == len(kernels) - 1 else 1.0
        y = graph.relu(graph.batch_norm(y, scale=scale))
        if index == 0 and (stride > 1 or x.channels != channels[-1]):
            shortcut = graph.convolution(y, channels[-1], 1, stride=stride)
        y = graph.convolution(y, size, kernel, stride=step, pad=kernel // 2)
    return graph.add(y, shortcut)
