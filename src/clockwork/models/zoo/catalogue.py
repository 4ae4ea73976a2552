"""The architectures of the zoo: their names, published parameter counts and default inputs.

Weights are random, with one exception (`digits`): the duration of an execution does not depend on
the values of weights, so that such models serve to measure and to demonstrate. Their answers are
numbers without a meaning.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from msgspec import Struct

from clockwork.errors import ModelError
from clockwork.models.zoo.convnets import add_densenet121, add_mobilenet_v2, add_squeezenet
from clockwork.models.zoo.encoder import BERT_BASE, ENCODER_SMALL, EncoderShape, add_encoder
from clockwork.models.zoo.graph import Graph, Value
from clockwork.models.zoo.resnet import add_resnet_v1, add_resnet_v2

DIGITS: Final = "digits"
"""The model that is really trained; it ships as a file, so it is no `Architecture`."""
IMAGE_SIZE: Final = 224
"""Default side of the images, in pixels: that of the papers."""
IMAGE_SIZE_MIN: Final = 32
"""Smallest side: the networks halve an image five times."""
SEQUENCE_LENGTH: Final = 128
"""Default length of token sequences; chosen, the usual length in benchmarks of encoders."""
SEQUENCE_LENGTH_MAX: Final = 512
"""Longest sequence: the encoders have no more position embeddings."""

_TORCHVISION = "torchvision's table of pretrained classification models"
_MXNET = "the model table of Apache MXNet's Gluon Model Zoo"


class Architecture(Struct, frozen=True):
    """A published architecture, and how to append it to an empty graph."""

    name: str
    # One sentence about it.
    summary: str
    # As published, in `source`.
    parameter_count: int
    source: str
    # True if the published count includes running means and variances.
    counts_statistics: bool
    # Takes the graph and the image; None for text encoders.
    add_image_layers: Callable[[Graph, Value], None] | None = None
    # Sizes of a text encoder; None for image models.
    encoder: EncoderShape | None = None


def architecture(name: str) -> Architecture:
    """Return the architecture called `name`.

    Raises:
        ModelError: there is none.
    """
    if name not in ARCHITECTURES:
        known = ", ".join((*ARCHITECTURES, DIGITS))
        raise ModelError(f"no zoo model is called {name!r}; there are {known}")
    return ARCHITECTURES[name]


def new_graph(chosen: Architecture, *, seed: int, image_size: int) -> Graph:
    """Return the whole network of `chosen` with random weights.

    Image models take ``image``, `[batch, 3, image_size, image_size]` float32, and give ``logits``,
    `[batch, 1000]` float32. See `encoder.add_encoder` for text encoders.
    """
    graph = Graph(chosen.name, seed=seed)
    if chosen.add_image_layers is not None:
        image = graph.input("image", "float32", [3, image_size, image_size])
        chosen.add_image_layers(graph, Value(image, channels=3))
    if chosen.encoder is not None:
        add_encoder(graph, chosen.encoder)
    return graph


def _resnets() -> list[Architecture]:
    first = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032}
    second = {18: 11_695_796, 34: 21_811_380, 50: 25_595_060}
    return [
        Architecture(
            name=f"resnet{depth}_v1",
            summary=f"residual network of {depth} layers",
            parameter_count=count,
            source=_TORCHVISION,
            counts_statistics=False,
            add_image_layers=partial(add_resnet_v1, depth=depth),
        )
        for depth, count in first.items()
    ] + [
        Architecture(
            name=f"resnet{depth}_v2",
            summary=f"residual network of {depth} layers with pre-activation",
            parameter_count=count,
            source=_MXNET,
            counts_statistics=True,
            add_image_layers=partial(add_resnet_v2, depth=depth),
        )
        for depth, count in second.items()
    ]


ARCHITECTURES: Final = {
    entry.name: entry
    for entry in (
        *_resnets(),
        Architecture(
            name="mobilenet_v2",
            summary="inverted residuals with depthwise convolutions, width 1.0",
            parameter_count=3_504_872,
            source=_TORCHVISION,
            counts_statistics=False,
            add_image_layers=add_mobilenet_v2,
        ),
        Architecture(
            name="squeezenet",
            summary="SqueezeNet 1.1: fire modules, few parameters",
            parameter_count=1_235_496,
            source=_TORCHVISION,
            counts_statistics=False,
            add_image_layers=add_squeezenet,
        ),
        Architecture(
            name="densenet121",
            summary="densely connected network of 121 layers",
            parameter_count=7_978_856,
            source=_TORCHVISION,
            counts_statistics=False,
            add_image_layers=add_densenet121,
        ),
        Architecture(
            name="encoder_small",
            summary="text encoder, 6 layers of width 384 (the shape of all-MiniLM-L6-v2)",
            parameter_count=22_713_216,
            source="the checkpoint sentence-transformers/all-MiniLM-L6-v2",
            counts_statistics=False,
            encoder=ENCODER_SMALL,
        ),
        Architecture(
            name="bert_base",
            summary="text encoder, 12 layers of width 768 (the shape of bert-base-uncased)",
            parameter_count=109_482_240,
            source="the checkpoint google-bert/bert-base-uncased",
            counts_statistics=False,
            encoder=BERT_BASE,
        ),
    )
}
"""All architectures by name, in the order in which they are listed to users."""
