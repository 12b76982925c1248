"""3×3 convolution that is fast on every backend: Winograd on a CPU, XLA's own elsewhere.

On a CPU, XLA's convolution inside a loop does not thread, and its gradients are slow outside one. Matrix
products are neither, and Winograd's F(m×m, 3×3) turns a convolution into (m + 2)² of them:

    y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        for each tile d of (m + 2)×(m + 2) inputs, giving m×m outputs

with ⊙ a matrix product over channels: for m = 4 four times fewer multiplications than the sum itself, for m = 2
2.25 times. The transforms of images are sums of slices, and both gradients are built of the same three transforms.
Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Float, Inexact

from fusion_bench.models.portable import is_portable

Images = Inexact[Array, "batch height width channel"]
OutputImages = Inexact[Array, "batch height width feature"]
Kernel = Inexact[Array, "3 3 channel feature"]
Tiles = Inexact[Array, "position tile channel"]


class Transforms(NamedTuple):
    """The three matrices of F(m×m, 3×3): Aᵀ of the outputs, Bᵀ of the inputs, G of the kernel."""

    outputs: Float[np.ndarray, "m m+2"]
    inputs: Float[np.ndarray, "m+2 m+2"]
    kernel: Float[np.ndarray, "m+2 3"]

    @property
    def size(self) -> int:
        """m, the outputs on a tile's side."""
        return len(self.outputs)


def toom_cook(points: Sequence[float]) -> Transforms:
    """Returns the transforms that multiply polynomials by their values at m + 1 points and at infinity.

    Any points will do; rounding errors grow with the powers of points far from 1, and shrink if points and their
    reciprocals come in pairs (Barabasz, Anderson, Soodhalter and Gregg, "Error Analysis and Improving the Accuracy of
    Winograd Convolution for Deep Neural Networks", ACM TOMS 46, 2020).
    """
    others = [[q for q in points if q != p] for p in points]
    powers = np.array(points)[:, None] ** np.arange(len(points))
    infinity = np.eye(len(points) + 1)[-1:]
    scales = np.array([[np.prod([p - q for q in rest])] for p, rest in zip(points, others, strict=True)])
    m = len(points) - 1
    return Transforms(
        outputs=np.vstack([powers[:, :m], infinity[:, -m:]]).T,
        inputs=np.vstack([*([*np.poly(rest)[::-1], 0.0] for rest in others), np.poly(points)[::-1]]),
        kernel=np.vstack([powers[:, :3] / scales, infinity[:, -3:]]),
    )


F2 = toom_cook((0.0, 1.0, -1.0))
F4 = toom_cook((0.0, 0.5, -0.5, 2.0, -2.0))


class Conv3x3(nnx.Module):
    """3×3 convolution, stride 1, zero padding, no bias (a normalisation follows)."""

    def __init__(self, in_features: int, out_features: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        initializer = nnx.initializers.he_normal()
        self.kernel = nnx.Param(initializer(rngs.params(), (3, 3, in_features, out_features), jnp.float32))
        self.dtype = dtype

    def __call__(self, x: Images) -> OutputImages:
        return conv3x3(x.astype(self.dtype), self.kernel[...].astype(self.dtype))


def conv3x3(x: Images, kernel: Kernel) -> OutputImages:
    """y[b, i, j, f] = Σ_{p, q, c} x[b, i+p-1, j+q-1, c] · kernel[p, q, c, f], with x zero outside."""
    if is_portable():
        return xla_conv3x3(x, kernel)
    return lax.platform_dependent(x, kernel, cpu=_any_size_winograd, default=xla_conv3x3)


def xla_conv3x3(x: Images, kernel: Kernel) -> OutputImages:
    """`conv3x3` as XLA's own operation."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _any_size_winograd(x: Images, kernel: Kernel) -> OutputImages:
    height, width = x.shape[1:3]
    # Large tiles cost less, unless the image is smaller than a tile; their sums need float32.
    transforms = F2 if max(height, width) <= 2 or x.dtype != jnp.float32 else F4
    margins = ((0, 0), (0, -height % transforms.size), (0, -width % transforms.size), (0, 0))
    return _winograd(transforms)(jnp.pad(x, margins), kernel)[:, :height, :width]


def winograd_conv3x3(x: Images, kernel: Kernel, transforms: Transforms) -> OutputImages:
    """`conv3x3` as matrix products, for height and width that are multiples of `transforms.size`."""
    kernel_tiles = _transform_kernel(transforms.kernel, kernel.reshape(9, *kernel.shape[2:]))
    products = jnp.matmul(_input_tiles(x, transforms), kernel_tiles)
    return _output_images(products, x.shape[:3], transforms)


def _winograd(transforms: Transforms):
    """Returns `winograd_conv3x3` with its gradients."""
    convolve = functools.partial(winograd_conv3x3, transforms=transforms)

    def forward(x: Images, kernel: Kernel):
        return convolve(x, kernel), (x, kernel)

    def backward(residuals: tuple[Images, Kernel], dy: OutputImages) -> tuple[Images, Kernel]:
        x, kernel = residuals
        dx = convolve(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
        tiles, d_tiles = _input_tiles(x, transforms), _output_tiles(dy, transforms)
        products = jnp.einsum("tnc,tnf->tcf", tiles, d_tiles)
        return dx, _transform_kernel(transforms.kernel.T, products).reshape(kernel.shape)

    differentiable = jax.custom_vjp(convolve)
    differentiable.defvjp(forward, backward)
    return differentiable


def _input_tiles(x: Images, transforms: Transforms) -> Tiles:
    """Bᵀ d B for every tile d of the zero-padded input; neighbouring tiles overlap by two."""
    (height, width), step = x.shape[1:3], transforms.size
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    reach = range(step + 2)
    rows = _combine(transforms.inputs, [padded[:, i : i + height - step + 1 : step] for i in reach])
    tiles = _combine(transforms.inputs, [rows[:, :, :, i : i + width - step + 1 : step] for i in reach], axis=1)
    return tiles.reshape(len(reach) ** 2, -1, x.shape[-1])


def _output_images(tiles: Tiles, shape: tuple[Any, ...], transforms: Transforms) -> OutputImages:
    """Aᵀ t A for the products t of every tile, laid side by side; `shape` is (batch, height, width), batch of any type."""
    (batch, height, width), size = shape, transforms.size
    tiles = tiles.reshape(size + 2, size + 2, batch, height // size, width // size, -1)
    columns = _combine(transforms.outputs, [tiles[:, i] for i in range(size + 2)], axis=4)
    return _combine(transforms.outputs, list(columns), axis=2).reshape(*shape, -1)


def _output_tiles(dy: OutputImages, transforms: Transforms) -> Tiles:
    """A dy Aᵀ for every tile of outputs: the transpose of `_output_images`."""
    (batch, height, width, feature), size = dy.shape, transforms.size
    dy = dy.reshape(batch, height // size, size, width // size, size, feature)
    rows = _combine(transforms.outputs.T, [dy[:, :, i] for i in range(size)])
    tiles = _combine(transforms.outputs.T, [rows[:, :, :, :, i] for i in range(size)], axis=1)
    return tiles.reshape((size + 2) ** 2, -1, feature)


def _combine(matrix: np.ndarray, parts: list[Array], axis: int = 0) -> Array:
    """Stacks Σ_i matrix[o, i] · parts[i] for every o, without the terms that are zero.

    The barrier keeps XLA from redoing the sums of one axis for every sum of the other.
    """
    terms = [[(c, part) for c, part in zip(row.tolist(), parts, strict=True) if c] for row in matrix]
    sums = [sum(part if c == 1 else c * part for c, part in row) for row in terms]
    return lax.optimization_barrier(jnp.stack(sums, axis))


def _transform_kernel(matrix: np.ndarray, kernel: Inexact[Array, "i c f"]) -> Inexact[Array, "o c f"]:
    """Applies a matrix to rows and columns: G g Gᵀ."""
    both = jnp.asarray(np.kron(matrix, matrix), kernel.dtype)
    return (both @ kernel.reshape(len(kernel), -1)).reshape(-1, *kernel.shape[1:])
