"""Models in NumPy float64, written from the formulas: what several tests compare with."""

from typing import Any

import numpy as np


def array(variable):
    return np.asarray(variable[...], np.float64)


def linear(module, x):
    y = x @ array(module.kernel)
    return y if module.bias is None else y + array(module.bias)


def head(module, x):
    return linear(module.scores, np.maximum(linear(module.hidden, x), 0))


def softmax(x):
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def log_softmax(x):
    return np.log(softmax(x))


def masked_mean(x, mask):
    """Mean over the tokens of each example where the mask is True; zero where it nowhere is."""
    rows = zip(x, np.asarray(mask), strict=True)
    return np.stack([tokens[keep].mean(0) if keep.any() else 0 * tokens[0] for tokens, keep in rows])


def patches(x, size):
    """[batch, rows, columns, size * size * channel]; a patch's pixels row by row, zero outside the image."""
    batch, height, width, channel = x.shape
    rows, columns = int(np.ceil(height / size)), int(np.ceil(width / size))
    out = np.zeros((batch, rows, columns, size * size * channel), x.dtype)
    for n, i, j, c in np.ndindex(x.shape):
        out[n, i // size, j // size, ((i % size) * size + j % size) * channel + c] = x[n, i, j, c]
    return out


def layer_norm(module, x):
    centred = x - x.mean(-1, keepdims=True)
    scale = np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return centred / scale * array(module.scale) + array(module.bias)


def batch_norm(module, x):
    """Batch normalisation in evaluation: with the running mean and variance."""
    x = (x - array(module.mean)) / np.sqrt(array(module.var) + 1e-5)
    return x if module.scale is None else x * array(module.scale) + array(module.bias)


def cnn(module, x, *, overlay=lambda depth, x: x, modulations=None):
    """Patch stages; `overlay` makes the input of each stage, and the last map; (scale, shift) modulate the blocks."""

    def norm_relu(activate, x, scale: Any = 1.0, shift: Any = 0.0):
        return np.maximum(batch_norm(activate.norm, x) * scale + shift, 0)

    remaining = iter(modulations or [])
    for depth, stage in enumerate(module.stages):
        x = norm_relu(stage.activate, linear(stage.stem, patches(overlay(depth, x), stage.patch)))
        for block in stage.blocks:
            (height, width), kernel = x.shape[1:3], array(block.conv.kernel)
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            convolved = sum(padded[:, p : p + height, q : q + width] @ kernel[p, q] for p in range(3) for q in range(3))
            scale, shift = (part[:, None, None] for part in next(remaining, [np.ones((1, 1)), np.zeros((1, 1))]))
            x = x + norm_relu(block.activate, convolved, scale, shift)
    return overlay(len(module.stages), x)


def gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def attention(module, x, mask, source=None):
    """Softmax of q·k / √d over the tokens that are not masked, one example and one head at a time.

    Keys and values are those of the source, `x` itself if there is none.
    """
    source = x if source is None else source
    q, k, v = (
        np.einsum("ntf,fhd->nthd", read, array(part.kernel)) + array(part.bias)
        for part, read in ((module.query, x), (module.key, source), (module.value, source))
    )
    out = np.zeros_like(q)
    for n, h in np.ndindex(q.shape[0], q.shape[2]):
        scores = q[n, :, h] @ k[n, :, h].T / np.sqrt(q.shape[-1])
        out[n, :, h] = softmax(np.where(np.asarray(mask[n]), scores, -1e30)) @ v[n, :, h]
    return np.einsum("nthd,hdf->ntf", out, array(module.out.kernel)) + array(module.out.bias)


def transformer(module, x, mask):
    for block in module.blocks:
        if block.order == "post":
            x = layer_norm(block.norm_attention, x + attention(block.attention, x, mask))
            x = layer_norm(block.norm_mlp, x + linear(block.contract, gelu(linear(block.expand, x))))
            continue
        x = x + attention(block.attention, layer_norm(block.norm_attention, x), mask)
        x = x + linear(block.contract, gelu(linear(block.expand, layer_norm(block.norm_mlp, x))))
    return x if module.norm is None else layer_norm(module.norm, x)
