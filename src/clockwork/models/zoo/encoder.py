"""Text encoders of the BERT kind.

Source: Devlin et al., "BERT" (https://arxiv.org/abs/1810.04805), as in the released checkpoint
``bert-base-uncased``; the small one has the shape of ``all-MiniLM-L6-v2``. Normalization after
each residual sum, exact GELU, a pooler on the first token.
"""

from math import sqrt

from msgspec import Struct

from clockwork.models.zoo.graph import Graph

_EPSILON = 1e-12  # of BERT's layer normalization


class EncoderShape(Struct, frozen=True):
    """The sizes of a BERT-like encoder."""

    layers: int
    width: int
    heads: int
    # Width of the feed-forward layers.
    inner: int
    vocabulary: int = 30_522
    # Longest sequence, in tokens.
    positions: int = 512


BERT_BASE = EncoderShape(layers=12, width=768, heads=12, inner=3072)
"""BERT-base, uncased."""
ENCODER_SMALL = EncoderShape(layers=6, width=384, heads=12, inner=1536)
"""all-MiniLM-L6-v2."""


def add_encoder(graph: Graph, shape: EncoderShape) -> None:
    """Append a text encoder with the free dimension ``seq``.

    Inputs ``input_ids``, ``attention_mask`` and ``token_type_ids``, each `[batch, seq]` int64;
    outputs ``last_hidden_state`` `[batch, seq, width]` and ``pooler_output`` `[batch, width]`.
    """
    ids = graph.input("input_ids", "int64", ["seq"])
    mask = graph.input("attention_mask", "int64", ["seq"])
    types = graph.input("token_type_ids", "int64", ["seq"])
    x = _embed(graph, shape, ids, types)
    bias = _attention_bias(graph, mask)
    for _ in range(shape.layers):
        x = _normalize(graph, shape, graph.node("Add", _attend(graph, shape, x, bias), x))
        x = _normalize(graph, shape, graph.node("Add", _feed_forward(graph, shape, x), x))
    graph.output(x, "last_hidden_state", ["seq", shape.width])
    first = graph.node("Gather", x, graph.constant(0), axis=1)
    pooled = graph.node("Tanh", _dense(graph, first, shape.width, shape.width))
    graph.output(pooled, "pooler_output", [shape.width])


def _embed(graph: Graph, shape: EncoderShape, ids: str, types: str) -> str:
    words = graph.weight(shape.vocabulary, shape.width, deviation=0.02)
    positions = graph.weight(shape.positions, shape.width, deviation=0.02)
    kinds = graph.weight(2, shape.width, deviation=0.02)
    length = graph.node("Shape", ids, start=1, end=2)
    used = graph.node("Slice", positions, graph.constant([0]), length, graph.constant([0]))
    x = graph.node("Add", graph.node("Gather", words, ids), graph.node("Gather", kinds, types))
    return _normalize(graph, shape, graph.node("Add", x, used))


def _attention_bias(graph: Graph, mask: str) -> str:
    """Return `[batch, 1, 1, seq]`: 0 where the mask is 1, -10000 where it is 0."""
    kept = graph.node("Cast", graph.node("Unsqueeze", mask, graph.constant([1, 2])), to=1)
    dropped = graph.node("Sub", graph.constant(1.0), kept)
    return graph.node("Mul", dropped, graph.constant(-10000.0))


def _attend(graph: Graph, shape: EncoderShape, x: str, bias: str) -> str:
    query = _heads(graph, shape, x, order=(0, 2, 1, 3))
    # Keys are transposed once, on the way, so that the scores are a plain matrix product.
    key = _heads(graph, shape, x, order=(0, 2, 3, 1))
    value = _heads(graph, shape, x, order=(0, 2, 1, 3))
    scale = graph.constant(sqrt(shape.width / shape.heads))
    scores = graph.node("Div", graph.node("MatMul", query, key), scale)
    weights = graph.node("Softmax", graph.node("Add", scores, bias), axis=-1)
    mixed = graph.node("Transpose", graph.node("MatMul", weights, value), perm=(0, 2, 1, 3))
    joined = graph.node("Reshape", mixed, graph.constant([0, 0, shape.width]))
    return _dense(graph, joined, shape.width, shape.width)


def _heads(graph: Graph, shape: EncoderShape, x: str, *, order: tuple[int, ...]) -> str:
    projected = _dense(graph, x, shape.width, shape.width)
    split = graph.constant([0, 0, shape.heads, shape.width // shape.heads])
    return graph.node("Transpose", graph.node("Reshape", projected, split), perm=order)


def _feed_forward(graph: Graph, shape: EncoderShape, x: str) -> str:
    x = _dense(graph, x, shape.width, shape.inner)
    # GELU, exact: x (1 + erf(x / sqrt 2)) / 2.
    erf = graph.node("Erf", graph.node("Div", x, graph.constant(sqrt(2))))
    grown = graph.node("Mul", x, graph.node("Add", erf, graph.constant(1.0)))
    return _dense(graph, graph.node("Mul", grown, graph.constant(0.5)), shape.inner, shape.width)


def _dense(graph: Graph, x: str, size: int, out: int) -> str:
    weight = graph.weight(size, out, deviation=1 / sqrt(size))
    bias = graph.weight(out, deviation=0.01)
    return graph.node("Add", graph.node("MatMul", x, weight), bias)


def _normalize(graph: Graph, shape: EncoderShape, x: str) -> str:
    scale = graph.weight(shape.width, mean=1.0, deviation=0.1)
    offset = graph.weight(shape.width, deviation=0.1)
    return graph.node("LayerNormalization", x, scale, offset, axis=-1, epsilon=_EPSILON)
