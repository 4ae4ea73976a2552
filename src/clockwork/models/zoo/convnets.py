"""Small and densely connected image networks: MobileNet v2, SqueezeNet 1.1, DenseNet-121.

Source: Sandler et al., "MobileNetV2: Inverted Residuals and Linear Bottlenecks"
(https://arxiv.org/abs/1801.04381); Iandola et al., "SqueezeNet" (https://arxiv.org/abs/1602.07360),
in the revised form 1.1 of its authors' repository; Huang et al., "Densely Connected Convolutional
Networks" (https://arxiv.org/abs/1608.06993).
"""

from typing import Final

from clockwork.models.zoo.graph import RESIDUAL_SCALE, Graph, Value

MOBILENET_STAGES: Final = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
"""Expansion, channels, blocks and stride of each stage (table 2 of the paper)."""
SQUEEZENET_FIRES: Final = (16, 16, 0, 32, 32, 0, 48, 48, 64, 64)
"""Squeeze channels of each fire module, a quarter of each expansion; 0 is a pooling."""
DENSENET_LAYERS: Final = (6, 12, 24, 16)
"""Layers of each dense block (table 1 of the paper)."""
DENSENET_GROWTH: Final = 32
"""Channels that each layer of a dense block adds."""
CLASSES: Final = 1000
"""Classes of ImageNet."""


def add_mobilenet_v2(graph: Graph, image: Value) -> None:
    """Append MobileNet v2 of width 1.0."""
    x = _conv_bn_relu6(graph, image, 32, 3, stride=2)
    for expansion, channels, count, stride in MOBILENET_STAGES:
        for index in range(count):
            step = stride if index == 0 else 1
            x = _inverted_residual(graph, x, channels, expansion=expansion, stride=step)
    graph.classifier(_conv_bn_relu6(graph, x, 1280, 1), CLASSES)


def add_squeezenet(graph: Graph, image: Value) -> None:
    """Append SqueezeNet 1.1."""
    x = graph.relu(graph.convolution(image, 64, 3, stride=2, bias=True))
    x = graph.max_pool(x, 3, stride=2, ceil=True)
    for squeeze in SQUEEZENET_FIRES:
        x = _fire(graph, x, squeeze) if squeeze else graph.max_pool(x, 3, stride=2, ceil=True)
    x = graph.relu(graph.convolution(x, CLASSES, 1, bias=True))
    graph.output(graph.pool_all(x), "logits", [CLASSES])


def add_densenet121(graph: Graph, image: Value) -> None:
    """Append DenseNet-121 (growth 32, bottlenecks of 4 x growth, compression by half)."""
    x = graph.relu(graph.batch_norm(graph.convolution(image, 64, 7, stride=2, pad=3)))
    x = graph.max_pool(x, 3, stride=2, pad=1)
    for stage, layers in enumerate(DENSENET_LAYERS):
        for _ in range(layers):
            x = graph.concat(x, _dense_layer(graph, x))
        x = graph.relu(graph.batch_norm(x))
        if stage < len(DENSENET_LAYERS) - 1:
            x = graph.convolution(x, x.channels // 2, 1)
            x = graph.average_pool(x, 2, stride=2)
    graph.classifier(x, CLASSES)


def _conv_bn_relu6(
    graph: Graph, x: Value, channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> Value:
    x = graph.convolution(x, channels, kernel, stride=stride, pad=kernel // 2, groups=groups)
    return graph.relu6(graph.batch_norm(x))


def _inverted_residual(
    graph: Graph, x: Value, channels: int, *, expansion: int, stride: int
) -> Value:
    has_shortcut = stride == 1 and x.channels == channels
    wide = x.channels * expansion
    y = _conv_bn_relu6(graph, x, wide, 1) if expansion > 1 else x
    y = _conv_bn_relu6(graph, y, wide, 3, stride=stride, groups=wide)
    scale = RESIDUAL_SCALE if has_shortcut else 1.0
    y = graph.batch_norm(graph.convolution(y, channels, 1), scale=scale)
    return graph.add(x, y) if has_shortcut else y


def _fire(graph: Graph, x: Value, squeeze: int) -> Value:
    x = graph.relu(graph.convolution(x, squeeze, 1, bias=True))
    return graph.concat(
        graph.relu(graph.convolution(x, 4 * squeeze, 1, bias=True)),
        graph.relu(graph.convolution(x, 4 * squeeze, 3, pad=1, bias=True)),
    )


def _dense_layer(graph: Graph, x: Value) -> Value:
    y = graph.convolution(graph.relu(graph.batch_norm(x)), 4 * DENSENET_GROWTH, 1)
    return graph.convolution(graph.relu(graph.batch_norm(y)), DENSENET_GROWTH, 3, pad=1)
