import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest

from fusion_bench.models.convolution import F2, F4, conv3x3, winograd_conv3x3, xla_conv3x3
from fusion_bench.models.portable import portable
from tests.tasks import jit

SHAPES = [
    (2, 8, 8, 3, 5),
    (3, 4, 6, 2, 4),
    (2, 2, 2, 1, 3),
    (2, 7, 5, 3, 2),
    (2, 2, 4, 3, 2),
    (1, 1, 4, 2, 2),
    (2, 1, 1, 2, 3),
]
TOLERANCE = 1e-5  # of the largest entry


def draw(batch, height, width, channel, feature):
    rng = np.random.default_rng([batch, height, width, channel, feature])
    shapes = (batch, height, width, channel), (3, 3, channel, feature), (batch, height, width, feature)
    return [rng.normal(size=shape) for shape in shapes]


def loop_conv3x3(x, kernel):
    out = np.zeros((*x.shape[:3], kernel.shape[-1]))
    for n, i, j, f in np.ndindex(out.shape):
        for p, q in np.ndindex(3, 3):
            row, column = i + p - 1, j + q - 1
            if 0 <= row < x.shape[1] and 0 <= column < x.shape[2]:
                out[n, i, j, f] += x[n, row, column] @ kernel[p, q, :, f]
    return out


def assert_close(got, expected):
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=TOLERANCE * np.abs(expected).max())


def weighted(conv):
    return lambda x, kernel, dy: (conv(x, kernel) * dy).sum()


@pytest.mark.parametrize("conv", [conv3x3, xla_conv3x3])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_is_the_sum_over_the_neighbourhood(conv, shape):
    x, kernel, _ = draw(*shape)
    assert_close(jit(conv)(jnp.float32(x), jnp.float32(kernel)), loop_conv3x3(x, kernel))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_gradients_are_those_of_lax_conv(shape):
    arguments = [jnp.float32(array) for array in draw(*shape)]
    got = jit(jax.grad(weighted(conv3x3), (0, 1)))(*arguments)
    expected = jit(jax.grad(weighted(xla_conv3x3), (0, 1)))(*arguments)
    for ours, reference in zip(got, expected, strict=True):
        assert_close(ours, reference)


@pytest.mark.parametrize(("transforms", "size"), [(F2, 2), (F4, 4)])
def test_transforms_are_exact_but_for_rounding(transforms, size):
    rng = np.random.default_rng(size)
    tile, kernel = rng.normal(size=(size + 2, size + 2)), rng.normal(size=(3, 3))
    products = (transforms.kernel @ kernel @ transforms.kernel.T) * (transforms.inputs @ tile @ transforms.inputs.T)
    windows = np.lib.stride_tricks.sliding_window_view(tile, (3, 3))
    expected = np.einsum("ijpq,pq->ij", windows, kernel)
    np.testing.assert_allclose(transforms.outputs @ products @ transforms.outputs.T, expected, atol=1e-12)


@pytest.mark.parametrize(("size", "dtype", "transforms"), [(8, "float32", F4), (2, "float32", F2), (4, "bfloat16", F2)])
def test_winograd_is_what_runs_on_a_cpu(size, dtype, transforms):
    x, kernel, _ = (jnp.asarray(array, dtype) for array in draw(2, size, size, 3, 2))
    expected = jit(lambda x, kernel: winograd_conv3x3(x, kernel, transforms))(x, kernel)
    np.testing.assert_array_equal(jit(conv3x3)(x, kernel), expected)


@pytest.mark.parametrize(("platform", "uses_convolution"), [("cpu", False), ("cuda", True), ("tpu", True)])
def test_the_platform_decides_which_lowering(platform, uses_convolution):
    def value_and_gradients(*arguments):
        return jax.value_and_grad(weighted(conv3x3), (0, 1))(*arguments)

    arguments = [jnp.float32(array) for array in draw(2, 4, 4, 3, 2)]
    exported = jax.export.export(jax.jit(value_and_gradients), platforms=[platform])(*arguments)
    assert ("stablehlo.convolution" in exported.mlir_module()) == uses_convolution


def test_bfloat16_stays_bfloat16():
    x, kernel, _ = draw(2, 4, 4, 3, 2)
    got = jit(conv3x3)(jnp.bfloat16(x), jnp.bfloat16(kernel))
    expected = loop_conv3x3(x, kernel)
    assert got.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(got), expected, rtol=0, atol=0.05 * np.abs(expected).max())


def test_is_one_operation_of_xla_where_it_is_exported():
    arrays = [jnp.float32(array) for array in draw(*SHAPES[0])[:2]]
    with portable():
        exported = jax.make_jaxpr(lambda *arrays: conv3x3(*arrays))(*arrays)
    assert [equation.primitive.name for equation in exported.eqns] == ["conv_general_dilated"]
    assert "platform_index" in str(jax.make_jaxpr(lambda *arrays: conv3x3(*arrays))(*arrays))
