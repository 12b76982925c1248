"""The canonical strategies and low-rank in plain PyTorch: what a user would write, for comparisons.

Parts have the names that they have in the Flax modules, so that `load` copies values by name, and a test of equal
scores shows that both are one network. Nothing here needs jax.
"""

# What PyTorch's types make of a dynamic module is checked only where it is installed.
# pyright: reportArgumentType=false, reportCallIssue=false

import dataclasses
from collections.abc import Mapping

import numpy as np
import torch  # pyright: ignore[reportMissingImports]
import torch.nn.functional as F  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

PAD = 0  # as in fusion_bench.data.dataset
HEADS = 4


@dataclasses.dataclass(frozen=True)
class Sizes:
    """The sizes of encoders and data; `stages` holds (patch, width, blocks). Else as in fusion_bench's `Widths`."""

    stages: tuple[tuple[int, int, int], ...]
    features: int
    hidden: int
    tokens: int
    layers: int
    patch: int
    vocabulary: int
    words: int
    side: int = 32
    classes: int = 10


class Head(nn.Module):
    def __init__(self, width: int, sizes: Sizes):
        super().__init__()
        self.hidden = nn.Linear(width, sizes.hidden)
        self.scores = nn.Linear(sizes.hidden, sizes.classes)

    def forward(self, x):
        return self.scores(F.relu(self.hidden(x)))


class NormRelu(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return F.relu(self.norm(x), inplace=True)


class ConvNormRelu(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.activate = NormRelu(width)

    def forward(self, x):
        return self.activate(self.conv(x))


class PatchStage(nn.Module):
    def __init__(self, channels: int, patch: int, width: int, blocks: int):
        super().__init__()
        self.stem = nn.Conv2d(channels, width, patch, stride=patch, bias=False)
        self.activate = NormRelu(width)
        self.blocks = nn.ModuleList([ConvNormRelu(width) for _ in range(blocks)])

    def forward(self, x):
        x = self.activate(self.stem(x))
        for block in self.blocks:
            x = x + block(x)
        return x


class CNN(nn.Module):
    def __init__(self, channels: int, sizes: Sizes):
        super().__init__()
        inputs = [channels, *(width for _, width, _ in sizes.stages)]
        stages = [PatchStage(size, *stage) for size, stage in zip(inputs, sizes.stages, strict=False)]
        self.stages = nn.ModuleList(stages)

    def forward(self, x):
        for stage in self.stages:
            x = stage(x)
        return x


class GridEncoder(nn.Module):
    def __init__(self, sizes: Sizes, further_channels: int = 0):
        super().__init__()
        self.cnn = CNN(3 + further_channels, sizes)
        self.features = sizes.stages[-1][1]

    def forward(self, images):
        return self.cnn(images).mean((2, 3))


class PooledTextEncoder(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.embed = nn.Embedding(sizes.vocabulary, sizes.features)
        self.project = nn.Linear(sizes.features, sizes.features)
        self.features = sizes.features

    def forward(self, words):
        return masked_mean(F.relu(self.project(self.embed(words))), words != PAD)


class PooledEncoder(nn.Module):
    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder
        self.features = encoder.features
        self.norm = nn.BatchNorm1d(encoder.features)

    def forward(self, x):
        return self.norm(self.encoder(x))


def pooled_encoder(modality: str, sizes: Sizes) -> PooledEncoder:
    return PooledEncoder(GridEncoder(sizes) if modality == "image" else PooledTextEncoder(sizes))


class Unimodal(nn.Module):
    def __init__(self, sizes: Sizes, modality: str):
        super().__init__()
        self.modality = modality
        self.encoder = pooled_encoder(modality, sizes)
        self.head = Head(self.encoder.features, sizes)

    def forward(self, inputs):
        return self.head(self.encoder(inputs[self.modality]))


class FeatureFusion(nn.Module):
    """Encoders and a head over what `join` makes of their features."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.encoders = nn.ModuleDict({name: pooled_encoder(name, sizes) for name in ("image", "text")})
        self.widths = {name: encoder.features for name, encoder in self.encoders.items()}

    def linear_maps(self, width: int) -> nn.ModuleDict:
        return nn.ModuleDict({name: nn.Linear(features, width) for name, features in self.widths.items()})

    def forward(self, inputs):
        features = {name: encoder(inputs[name]) for name, encoder in self.encoders.items()}
        return self.head(self.join(features))


class Concat(FeatureFusion):
    def __init__(self, sizes: Sizes):
        super().__init__(sizes)
        self.head = Head(sum(self.widths.values()), sizes)

    def join(self, features):
        return torch.cat([features["image"], features["text"]], 1)


class Tensor(FeatureFusion):
    def __init__(self, sizes: Sizes, width: int = 16):
        super().__init__(sizes)
        self.projections = self.linear_maps(width)
        self.head = Head((width + 1) ** 2, sizes)

    def join(self, features):
        a, b = (F.pad(self.projections[name](features[name]), (1, 0), value=1.0) for name in ("image", "text"))
        return (a[:, :, None] * b[:, None, :]).flatten(1)


class LowRank(FeatureFusion):
    def __init__(self, sizes: Sizes, rank: int = 4, width: int = 64):
        super().__init__(sizes)
        self.factors = self.linear_maps(rank * width)
        self.rank = rank
        self.weights = nn.Parameter(torch.zeros(rank))
        self.bias = nn.Parameter(torch.zeros(width))
        self.head = Head(width, sizes)

    def join(self, features):
        a, b = (self.factors[name](features[name]) for name in ("image", "text"))
        return torch.einsum("brk,r->bk", (a * b).unflatten(1, (self.rank, -1)), self.weights) + self.bias


class LateMean(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.members = nn.ModuleDict({name: Unimodal(sizes, name) for name in ("image", "text")})

    def forward(self, inputs):
        return torch.stack([member(inputs) for member in self.members.values()]).mean(0)


class OverlaidChannels(nn.Module):
    def __init__(self, sizes: Sizes, channels: int, loudness: float):
        super().__init__()
        self.embed = nn.Embedding(sizes.vocabulary, channels)
        self.norm = nn.BatchNorm1d(channels, affine=False)
        self.loudness = loudness

    def forward(self, words):
        return self.loudness * self.norm(masked_mean(self.embed(words), words != PAD))


class EarlyChannel(nn.Module):
    def __init__(self, sizes: Sizes, channels: int = 16, loudness: float = 0.1):
        super().__init__()
        self.embeddings = nn.ModuleDict({"text": OverlaidChannels(sizes, channels, loudness)})
        self.encoder = PooledEncoder(GridEncoder(sizes, channels))
        self.head = Head(self.encoder.features, sizes)

    def forward(self, inputs):
        image, channels = inputs["image"], self.embeddings["text"](inputs["text"])
        layers = channels[:, :, None, None].expand(-1, -1, *image.shape[2:])
        joined = torch.cat([image, layers], 1).contiguous(memory_format=torch.channels_last)
        return self.head(self.encoder(joined))


class Attention(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x, mask):
        query, key, value = (
            layer(x).unflatten(2, (HEADS, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None, :])
        return self.out(read.transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm_attention = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width)
        self.norm_mlp = nn.LayerNorm(width, eps=1e-6)
        self.expand = nn.Linear(width, 2 * width)
        self.contract = nn.Linear(2 * width, width)

    def forward(self, x, mask):
        x = x + self.attention(self.norm_attention(x), mask)
        return x + self.contract(F.gelu(self.expand(self.norm_mlp(x)), approximate="tanh"))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int):
        super().__init__()
        self.blocks = nn.ModuleList([TransformerBlock(width) for _ in range(layers)])
        self.norm = nn.LayerNorm(width, eps=1e-6)

    def forward(self, x, mask):
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


class TokenEmbedding(nn.Module):
    def __init__(self, modality: str, sizes: Sizes):
        super().__init__()
        self.patch = sizes.patch
        if modality == "image":
            self.embed = nn.Linear(3 * sizes.patch**2, sizes.tokens)
            length = (sizes.side // sizes.patch) ** 2
        else:
            self.embed = nn.Embedding(sizes.vocabulary, sizes.tokens)
            length = sizes.words
        self.is_image = modality == "image"
        self.position = nn.Parameter(torch.zeros(length, sizes.tokens))

    def forward(self, values):
        if not self.is_image:
            return self.embed(values) + self.position, values != PAD
        batch, channels, height, width = values.shape
        size = self.patch
        grid = values.reshape(batch, channels, height // size, size, width // size, size)
        patches = grid.permute(0, 2, 4, 3, 5, 1).reshape(batch, -1, size * size * channels)
        tokens = self.embed(patches) + self.position
        return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool)


class EarlyToken(nn.Module):
    def __init__(self, sizes: Sizes):
        super().__init__()
        self.embeddings = nn.ModuleDict({name: TokenEmbedding(name, sizes) for name in ("image", "text")})
        self.transformer = Transformer(sizes.tokens, sizes.layers)
        self.head = Head(sizes.tokens, sizes)

    def forward(self, inputs):
        embedded = [embed(inputs[name]) for name, embed in self.embeddings.items()]
        tokens, mask = (torch.cat(parts, 1) for parts in zip(*embedded, strict=True))
        return self.head(masked_mean(self.transformer(tokens, mask), mask))


def masked_mean(tokens, mask):
    weights = mask.to(tokens.dtype)[:, :, None]
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)


def make_network(strategy: str, sizes: Sizes) -> nn.Module:
    """Returns the network of a strategy, in training mode, with PyTorch's own initial values, channels last."""
    if strategy.endswith("-only"):
        network = Unimodal(sizes, strategy.removesuffix("-only"))
    else:
        network = {
            "early-channel": EarlyChannel,
            "early-token": EarlyToken,
            "concat": Concat,
            "tensor": Tensor,
            "low-rank": LowRank,
            "late-mean": LateMean,
        }[strategy](sizes)
    return network.to(memory_format=torch.channels_last)


def load(network: nn.Module, values: Mapping[str, np.ndarray]) -> None:
    """Copies the values of a Flax module's parameters, by their paths: "encoder.head.hidden.kernel".

    Those of its operator are the network's own here: "operator.weights" is "weights".
    """
    names = {"kernel": "weight", "scale": "weight", "embedding": "weight"}
    parameters = dict(network.named_parameters())
    with torch.no_grad():
        for path, value in values.items():
            stem, _, leaf = path.removeprefix("operator.").rpartition(".")
            name = f"{stem}.{names.get(leaf, leaf)}".lstrip(".")
            parameter = parameters.pop(name)
            if leaf == "kernel":
                outputs = parameter.shape[0]
                value = value.reshape(-1, outputs).T
                if parameter.ndim == 4:  # a kernel's or a patch's rows, columns, channels
                    channels, rows, columns = parameter.shape[1:]
                    value = value.reshape(outputs, rows, columns, channels).transpose(0, 3, 1, 2)
            parameter.copy_(torch.tensor(value.reshape(parameter.shape)))
    if parameters:
        raise ValueError(f"no values for {', '.join(parameters)}")
