"""Dynamic multimodal fusion: a small gate sends each example through one modality alone, or through all."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Inexact, Int

from fusion_bench.data.batches import Inputs, ModalityBatch
from fusion_bench.data.dataset import ModalitySpec
from fusion_bench.fields import NonNegative, Positive
from fusion_bench.fusion.base import (
    EncodedModalities,
    Logits,
    ModalityLogits,
    ModalityWeights,
    Outputs,
    Separable,
    smoothed_cross_entropy,
)
from fusion_bench.fusion.blueprint import Blueprint
from fusion_bench.fusion.registry import register
from fusion_bench.models.encoders import PooledEncoder, WordEmbedding
from fusion_bench.models.layers import masked_mean, total

_CELLS = 4
"""The gate sees a grid as the means of at most this many rows and columns of cells."""


class Seen(NamedTuple):
    """Features of one modality, and what the gate sees of it."""

    features: Inexact[Array, "batch feature"]
    glance: Inexact[Array, "batch gate"]


class Glance(nnx.Module):
    """A cheap summary of an input: a linear map of a coarse grid, a step or a vector, or a word's vector, averaged."""

    def __init__(self, spec: ModalitySpec, features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.kind, self.dtype = spec.kind, dtype
        if spec.kind == "tokens":
            self.embed = WordEmbedding(spec, features, dtype=dtype, rngs=rngs)
        else:
            cells = 1
            if spec.kind == "grid":
                self.cell = tuple(-(-size // _CELLS) for size in spec.shape[:2])
                cells = math.prod(-(-size // side) for size, side in zip(spec.shape[:2], self.cell, strict=True))
            self.embed = nnx.Linear(cells * spec.shape[-1], features, dtype=dtype, rngs=rngs)

    def __call__(self, batch: ModalityBatch) -> Inexact[Array, "batch gate"]:
        if self.kind != "grid":
            values = self.embed(batch.values)
            return values if self.kind == "vector" else masked_mean(values, batch.mask)
        grid = jnp.asarray(batch.values, self.dtype)
        rows, columns = (
            jnp.asarray(averages(size, side), self.dtype) for size, side in zip(grid.shape[1:3], self.cell, strict=True)
        )
        means = jnp.einsum("bhwc,ih,jw->bijc", grid, rows, columns)
        return self.embed(means.reshape(means.shape[0], math.prod(means.shape[1:])))


def averages(size: int, side: int) -> Float[np.ndarray, "cell {size}"]:
    """Returns the matrix that takes the mean of each run of `side` entries; the last run may be shorter."""
    of_cell = np.arange(size) // side == np.arange(-(-size // side))[:, None]
    return (of_cell / of_cell.sum(1, keepdims=True)).astype(np.float32)


@register("dynmm", reference="DynMM: Xue and Marculescu 2022, arXiv:2204.00102", size="")
class DynamicFusion(Separable):
    """A gate chooses for each example between each modality alone and all together: logits = Σ_i g_i z_i, g one-hot.

    z_m = head_m(h_m) for each modality, and z_0 = head([h_1; …; h_M]); the branches share the encoders. The gate sees a
    cheap summary of each input, has one hidden layer of `gate` units, and draws g by the straight-through
    Gumbel-softmax at a temperature in training; in evaluation it takes the most probable branch. The loss, with CE
    smoothed cross-entropy, π the gate's probabilities without noise and at temperature 1, and F_i the fraction of all
    encoders' FLOPs that branch i needs:

        CE(logits) + Σ_i CE(z_i) + cost · mean Σ_i π_i F_i

    Any number of modalities. Parameters beside the encoders: M + 1 heads and the gate. Batches compute all branches;
    `of_one` computes for one example only what its branch needs. The paper trains separate networks for the
    branches first, then the gate; here all are trained together, by the second term. The authors' code for modalities
    has no Gumbel noise, gates that are one-hot only with `--hard`, no loss of each branch, and as its cost the mean
    weight of the costly branch.
    """

    def __init__(self, blueprint: Blueprint, *, cost: NonNegative = 0.1, temperature: Positive = 1.0, gate: int = 32):
        specs, dtype, names = blueprint.task.modalities, blueprint.dtype, blueprint.modalities
        self.cost, self.temperature = cost, temperature
        self.encoders = nnx.Dict({name: blueprint.encoder(name) for name in names})
        widths = {name: encoder.features for name, encoder in self.encoders.items()}
        self.heads = nnx.Dict({name: blueprint.head(widths[name], name) for name in names})
        self.joint = blueprint.head(sum(widths.values()))

        def glance(name: str) -> Glance:
            return Glance(specs[name], gate, dtype=dtype, rngs=blueprint.rngs(f"glance/{name}"))

        self.glances = nnx.Dict({name: glance(name) for name in names})
        rngs = blueprint.rngs("gate")
        self.choose = nnx.Linear(gate, len(names) + 1, dtype=dtype, rngs=rngs)
        needed = {name: encoder_flops(self.encoders[name], specs[name]) for name in names}
        self.needed = tuple(needed[name] / sum(needed.values()) for name in names)

    def encoder_of(self, modality: str) -> PooledEncoder:
        return self.encoders[modality]

    def encode(self, modality: str, batch: ModalityBatch) -> Seen:
        return Seen(self.encoders[modality](batch), self.glances[modality](batch))

    def features_of(self, encoded: Seen) -> Inexact[Array, "batch feature"]:
        return encoded.features

    def __call__(self, inputs: Inputs, *, rngs: nnx.Rngs | None = None) -> Outputs:
        encoded = {name: self.encode(name, inputs[name]) for name in sorted(inputs)}
        return Outputs(self._decide(encoded, rngs), encoded)

    def join(self, encoded: EncodedModalities) -> Logits:
        return self._decide(encoded, None)

    def of_one(self, inputs: Inputs) -> Logits:
        """Returns the logits of a batch of one example; the encoders that its branch does not need are not run."""
        names = [*self.heads]
        glances = total(self.glances[name](inputs[name]) for name in names)
        branch = self.choose(jax.nn.relu(glances)).astype(jnp.float32)[0].argmax()

        def alone(name: str) -> Callable[[], Logits]:
            return lambda: self.heads[name](self.encoders[name](inputs[name]))

        def together() -> Logits:
            return self.joint(jnp.concatenate([self.encoders[name](inputs[name]) for name in names], axis=-1))

        return jax.lax.switch(branch, [*map(alone, names), together])

    def unimodal_logits(self, outputs: Outputs) -> ModalityLogits:
        return {name: head(outputs.encoded[name].features) for name, head in self.heads.items()}

    def modality_weights(self, outputs: Outputs) -> ModalityWeights:
        """Returns 1 where a modality is read and 0 where it is skipped."""
        chosen = jax.nn.one_hot(self._scores(outputs.encoded).argmax(-1), len(self.heads) + 1)
        return {name: chosen[:, i] + chosen[:, -1] for i, name in enumerate(self.heads)}

    def loss(
        self, outputs: Outputs, labels: Int[Array, " batch"], *, label_smoothing: float, epoch: Int[Array, ""] | int = 0
    ) -> Float[Array, ""]:
        branches = [outputs.logits, *self._branches(outputs.encoded)]
        losses = [smoothed_cross_entropy(z, labels, label_smoothing) for z in branches]
        probabilities = jax.nn.softmax(self._scores(outputs.encoded))
        return total(losses) + self.cost * (probabilities @ jnp.asarray([*self.needed, 1.0])).mean()

    def _decide(self, encoded: EncodedModalities, rngs: nnx.Rngs | None) -> Logits:
        scores = self._scores(encoded)
        if rngs is not None:
            scores = scores + jax.random.gumbel(rngs.gate(), scores.shape)
        soft = jax.nn.softmax(scores / self.temperature)
        hard = jax.nn.one_hot(scores.argmax(-1), scores.shape[-1])
        gates = hard + soft - jax.lax.stop_gradient(soft)
        return total(gates[:, i, None] * z for i, z in enumerate(self._branches(encoded)))

    def _branches(self, encoded: EncodedModalities) -> list[Logits]:
        features = {name: encoded[name].features for name in self.heads}
        alone = [head(features[name]) for name, head in self.heads.items()]
        return [*alone, self.joint(jnp.concatenate([*features.values()], axis=-1))]

    def _scores(self, encoded: EncodedModalities) -> Float[Array, "batch branch"]:
        """Returns the gate's logits, the branch of all modalities last; in float32."""
        return self.choose(jax.nn.relu(total(encoded[name].glance for name in self.heads))).astype(jnp.float32)


def encoder_flops(encoder: Any, spec: ModalitySpec) -> float:
    """Returns the operations of an encoder for one example, as the compiler counts them; 1 where it does not count."""
    graph, state = nnx.split(encoder)
    state = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), state)
    values: Any = jax.ShapeDtypeStruct((1, *spec.shape), jnp.int32 if spec.kind == "tokens" else jnp.float32)
    mask: Any = None if spec.kind in ("grid", "vector") else jax.ShapeDtypeStruct((1, spec.shape[0]), bool)
    encode = jax.jit(lambda state, batch: nnx.merge(graph, state, copy=True)(batch))
    return float((encode.lower(state, ModalityBatch(values, mask)).cost_analysis() or {}).get("flops", 1.0))
