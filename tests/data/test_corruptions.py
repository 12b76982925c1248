"""Corruptions of images, against their formulas and against faults of public implementations."""

import colorsys
import io

import numpy as np
import pytest
from PIL import Image

from fusion_bench.data.corruptions import CORRUPTIONS, SEVERITIES, corrupt, disk_kernel
from fusion_bench.errors import UserError

NOISE = ("gaussian_noise", "shot_noise", "impulse_noise")
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 12, 10, 3)).astype(np.uint8)
GREY = np.full((20, 32, 32, 3), 128, np.uint8)


def apply(images, name, severity, **more):
    return corrupt(images, name, severity, examples=np.arange(len(images)), **more)


def assert_cut(found, expected):
    """Checks that numbers are cut to whole ones, up to a rounding beside a whole number."""
    difference = expected - found
    assert ((difference > -1e-6) & (difference < 1 + 1e-6)).all()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_stays_one_and_is_corrupted_alike_in_any_company(name):
    for images in (IMAGES, IMAGES[..., :1], IMAGES[:, :1, :1]):
        found = apply(images, name, 3)
        assert found.shape == images.shape
        assert found.dtype == np.uint8
        part = corrupt(images[[4, 1]], name, 3, examples=np.array([4, 1]))
        np.testing.assert_array_equal(part, found[[4, 1]])
    np.testing.assert_array_equal(apply(IMAGES, name, 3), apply(IMAGES, name, 3))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_higher_severity_is_farther_from_the_image(name):
    smooth = np.linspace(40, 200, 32 * 32 * 3).reshape(1, 32, 32, 3).astype(np.uint8)
    images = np.repeat(smooth, 8, 0) // 2 + RNG.integers(0, 60, (8, 32, 32, 3)).astype(np.uint8)
    distances = [np.abs(apply(images, name, s).astype(float) - images).mean() for s in SEVERITIES]
    assert distances[0] > 0
    assert distances == sorted(distances)


@pytest.mark.parametrize("name", NOISE)
def test_noise_depends_on_seed_example_and_severity(name):
    found = apply(GREY, name, 3)
    assert (found[0] != found[1]).any()
    assert (found != apply(GREY, name, 3, seed=1)).any()
    moved = [np.sign(apply(GREY, name, severity).astype(int) - 128).ravel() for severity in (4, 5)]
    assert abs(np.corrcoef(moved)[0, 1]) < 0.05  # and not the same noise, stronger


@pytest.mark.parametrize("severity", SEVERITIES)
def test_the_noise_is_as_strong_as_published(severity):
    i, count = severity - 1, GREY.size
    gaussian = apply(GREY, "gaussian_noise", severity).astype(float) - 128
    assert gaussian.std() == pytest.approx(255 * (0.04, 0.06, 0.08, 0.09, 0.10)[i], rel=0.02)
    assert gaussian.mean() == pytest.approx(-0.5, abs=0.5)  # cut, not rounded
    photons = (500, 250, 100, 75, 50)[i]
    shot = apply(GREY, "shot_noise", severity).astype(float)
    assert shot.std() == pytest.approx(255 * np.sqrt(128 / 255 / photons), rel=0.03)
    steps = np.arange(photons + 1) * 255 / photons
    assert set(np.unique(shot)) <= set(steps.astype(np.uint8).tolist())
    amount = (0.01, 0.02, 0.03, 0.05, 0.07)[i]
    impulse = apply(GREY, "impulse_noise", severity)
    assert set(np.unique(impulse)) == {0, 128, 255}  # salt is white, 255, and not 1
    for value in (0, 255):
        assert (impulse == value).mean() == pytest.approx(amount / 2, abs=4 * np.sqrt(amount / 2 / count))


@pytest.mark.parametrize("name", NOISE)
def test_noise_is_in_colour(name):
    found = apply(GREY, name, 5)
    assert ((found != found[..., :1]).any(-1)).mean() > 0.1


@pytest.mark.parametrize("severity", SEVERITIES)
def test_contrast_pulls_each_channel_to_its_mean(severity):
    factor = (0.75, 0.5, 0.4, 0.3, 0.15)[severity - 1]
    found = apply(IMAGES, "contrast", severity)
    for image, corrupted in zip(IMAGES.astype(float), found, strict=True):
        for c in range(3):
            mean = image[:, :, c].mean()
            assert_cut(corrupted[:, :, c], mean + factor * (image[:, :, c] - mean))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_brightness_is_added_to_the_value_of_hsv(severity):
    images = IMAGES.copy()
    images[0, 0, 0] = 0  # black has no hue
    images[0, 0, 1] = (255, 10, 3)
    found = apply(images, "brightness", severity)
    for pixel, corrupted in zip(images.reshape(-1, 3) / 255, found.reshape(-1, 3), strict=True):
        hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
        brighter = min(1, value + (0.05, 0.1, 0.15, 0.2, 0.3)[severity - 1])
        assert_cut(corrupted, 255 * np.array(colorsys.hsv_to_rgb(hue, saturation, brighter)))


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_the_mean_over_a_smoothed_disk(severity):
    radius, std = ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1, 0.2), (1.5, 0.1))[severity - 1]
    inside = [(r, c) for r in range(-8, 9) for c in range(-8, 9) if r * r + c * c <= radius**2]
    weights = [np.exp(-(d**2) / (2 * std**2)) for d in (-1, 0, 1)]
    kernel = np.zeros((17, 17))
    for row, column in inside:
        for r in (-1, 0, 1):
            for c in (-1, 0, 1):
                weight = weights[r + 1] * weights[c + 1] / sum(weights) ** 2
                kernel[8 + row + r, 8 + column + c] += weight / len(inside)
    np.testing.assert_allclose(disk_kernel(radius, std), kernel[6:11, 6:11], atol=1e-12)
    assert kernel[6:11, 6:11].sum() == pytest.approx(1)
    found = apply(IMAGES, "defocus_blur", severity)
    padded = np.pad(IMAGES[0].astype(float), ((8, 8), (8, 8), (0, 0)), mode="reflect")
    for row in range(12):
        for column in range(10):
            window = padded[row : row + 17, column : column + 17]
            assert_cut(found[0, row, column], np.einsum("rc,rcd->d", kernel, window))


def test_pixelate_takes_means_over_boxes():
    image = RNG.integers(0, 256, (1, 40, 40, 3)).astype(np.uint8)
    found = apply(image, "pixelate", 4)[0]  # 0.75: 40 pixels become 30, each 4/3 wide
    small = np.zeros((30, 30, 3))
    for row in range(30):
        for column in range(30):
            inside = [
                image[0, r, c].astype(float)
                for r in range(40)
                for c in range(40)
                if row * 4 / 3 < r + 0.5 < (row + 1) * 4 / 3 and column * 4 / 3 < c + 0.5 < (column + 1) * 4 / 3
            ]
            small[row, column] = np.mean(inside, 0)
    for row in range(40):
        for column in range(40):
            nearest = small[int((row + 0.5) * 3 / 4), int((column + 0.5) * 3 / 4)]
            np.testing.assert_allclose(found[row, column], nearest, atol=1.01)  # Pillow rounds after each axis


@pytest.mark.parametrize("severity", SEVERITIES)
def test_jpeg_has_the_published_quality(severity):
    picture = io.BytesIO()
    Image.fromarray(IMAGES[2]).save(picture, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
    np.testing.assert_array_equal(apply(IMAGES, "jpeg_compression", severity)[2], np.asarray(Image.open(picture)))


def test_other_requests_are_refused():
    with pytest.raises(UserError, match="unknown corruption 'gausian_noise'; did you mean gaussian_noise"):
        apply(IMAGES, "gausian_noise", 1)
    with pytest.raises(ValueError, match="severity 6"):
        apply(IMAGES, "contrast", 6)
    with pytest.raises(ValueError, match="4 channels"):
        apply(np.zeros((2, 8, 8, 4), np.uint8), "contrast", 1)
