"""3×3 convolution that is fast on every backend: Winograd on a CPU, XLA's own elsewhere.

On a CPU, XLA's convolution inside a loop does not thread, and its gradients are slow outside one. Matrix
products are neither, and Winograd's F(2×2, 3×3) turns a convolution into sixteen of them:

    y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A        for each 4×4 tile d of the input, giving 2×2 outputs

with ⊙ a matrix product over channels: 2.25 times fewer multiplications than the sum itself. The transforms of
images are sums and differences of slices, and both gradients are built of the same three transforms.
Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import lax
from jaxtyping import Array, Inexact

Images = Inexact[Array, "batch height width channel"]
OutputImages = Inexact[Array, "batch height width feature"]
Kernel = Inexact[Array, "3 3 channel feature"]

_B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
_A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])


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
    return lax.platform_dependent(x, kernel, cpu=_any_size_winograd, default=xla_conv3x3)


def xla_conv3x3(x: Images, kernel: Kernel) -> OutputImages:
    """`conv3x3` as XLA's own operation."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def _any_size_winograd(x: Images, kernel: Kernel) -> OutputImages:
    height, width = x.shape[1:3]
    even = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    return winograd_conv3x3(even, kernel)[:, :height, :width]


@jax.custom_vjp
def winograd_conv3x3(x: Images, kernel: Kernel) -> OutputImages:
    """`conv3x3` for even height and width, as matrix products."""
    tiles = jnp.matmul(_input_tiles(x), _transform_kernel(_G, kernel).reshape(16, *kernel.shape[2:]))
    return _output_images(tiles, x.shape[:3])


def _forward(x: Images, kernel: Kernel):
    return winograd_conv3x3(x, kernel), (x, kernel)


def _backward(residuals: tuple[Images, Kernel], dy: OutputImages) -> tuple[Images, Kernel]:
    x, kernel = residuals
    dx = winograd_conv3x3(dy, jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
    products = jnp.einsum("tnc,tnf->tcf", _input_tiles(x), _output_tiles(dy))
    return dx, _transform_kernel(_G.T, products.reshape(4, 4, *products.shape[1:]))


winograd_conv3x3.defvjp(_forward, _backward)


def _input_tiles(x: Images) -> Inexact[Array, "16 tile channel"]:
    """Bᵀ d B for every 4×4 tile d of the zero-padded input; neighbouring tiles overlap by two."""
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    rows = _combine(_B, [padded[:, i : i + height - 1 : 2] for i in range(4)])
    tiles = _combine(_B, [rows[:, :, :, j : j + width - 1 : 2] for j in range(4)], axis=1)
    return tiles.reshape(16, -1, x.shape[-1])


def _output_images(tiles: Inexact[Array, "16 tile feature"], shape: tuple[int, ...]) -> OutputImages:
    """Aᵀ m A for the products m of every tile, laid side by side; `shape` is batch, height, width."""
    batch, height, width = shape
    tiles = tiles.reshape(4, 4, batch, height // 2, width // 2, -1)
    columns = _combine(_A, [tiles[:, j] for j in range(4)], axis=4)
    return _combine(_A, list(columns), axis=2).reshape(*shape, -1)


def _output_tiles(dy: OutputImages) -> Inexact[Array, "16 tile feature"]:
    """A dy Aᵀ for every 2×2 tile: the transpose of `_output_images`."""
    batch, height, width, feature = dy.shape
    dy = dy.reshape(batch, height // 2, 2, width // 2, 2, feature)
    rows = _combine(_A.T, [dy[:, :, i] for i in range(2)])
    return _combine(_A.T, [rows[:, :, :, :, j] for j in range(2)], axis=1).reshape(16, -1, feature)


def _combine(matrix: np.ndarray, parts: list[Array], axis: int = 0) -> Array:
    """Stacks Σ_i matrix[o, i] · parts[i] for every o; entries are 0, 1 and -1, so these are additions.

    The barrier keeps XLA from redoing the sums of one axis for every sum of the other.
    """
    sums = [
        sum(sign * part for sign, part in zip(row.tolist(), parts, strict=True) if sign) for row in matrix
    ]
    return lax.optimization_barrier(jnp.stack(sums, axis))


def _transform_kernel(matrix: np.ndarray, kernel: Inexact[Array, "i j c f"]) -> Inexact[Array, "o p c f"]:
    """Applies a matrix to rows and columns."""
    both = jnp.asarray(np.kron(matrix, matrix), kernel.dtype)
    return (both @ kernel.reshape(both.shape[1], -1)).reshape(*[len(matrix)] * 2, *kernel.shape[2:])
