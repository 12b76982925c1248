"""Image files as arrays: what is decoded, by which rule, and what is refused."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fusion_bench.deploy.images import decode
from fusion_bench.errors import UserError
from tests.deploy.classifiers import draw_pixels, encoded


def bomb(width, height):
    """Returns a PNG whose header states this size; its pixels are few bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("form", "options"), [("PNG", {}), ("WEBP", {"lossless": True})])
def test_an_image_of_the_models_size_stays_as_it_is(form, options):
    pixels = draw_pixels(8, 6)
    np.testing.assert_array_equal(decode(encoded(pixels, form, **options), (8, 6, 3)), pixels)


def test_a_photo_is_close_to_its_pixels():
    smooth = np.linspace(0, 255, 64 * 64 * 3).reshape(64, 64, 3).astype(np.uint8)
    assert np.abs(decode(encoded(smooth, "JPEG", quality=95), (64, 64, 3)).astype(int) - smooth).mean() < 4


def test_the_middle_is_cropped_and_scaled():
    wide = np.full((20, 100, 3), 200, np.uint8)
    wide[:, :20] = wide[:, 80:] = 0  # far from the middle square
    np.testing.assert_array_equal(decode(encoded(wide), (4, 4, 3)), 200)
    halves = np.repeat([[0], [250]], 10, axis=0).repeat(20, axis=1).astype(np.uint8)
    small = decode(encoded(halves), (4, 4, 1))
    assert small.shape == (4, 4, 1)
    assert (small[0] < 25).all()
    assert (small[3] > 225).all()


def test_an_image_is_turned_upright():
    pixels = draw_pixels(8, 8)
    turned = Image.fromarray(np.rot90(pixels).copy())  # a quarter turn to the left
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown a quarter turn to the right
    np.testing.assert_array_equal(decode(encoded(turned, exif=exif), (8, 8, 3)), pixels)


def test_what_is_transparent_is_white():
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:4, :, 3] = 255
    found = decode(encoded(pixels), (8, 8, 3))
    assert (found[:4] == 0).all()
    assert (found[4:] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGBA", "I;16"])
def test_every_mode_of_pixels(mode):
    grey = np.full((8, 8), 200, np.uint8)
    image = Image.fromarray(grey.astype(np.uint16) * 256) if mode == "I;16" else Image.fromarray(grey).convert(mode)
    expected = 255 if mode == "1" else 200
    assert np.abs(decode(encoded(image), (8, 8, 3)).astype(int) - expected).max() <= 1 or mode == "1"


CASES = {
    "text": (b"no image", "no PNG, JPEG or WebP"),
    "empty": (b"", "no PNG, JPEG or WebP"),
    "a GIF": (encoded(draw_pixels(), "GIF"), "no PNG, JPEG or WebP"),
    "a BMP": (encoded(draw_pixels(), "BMP"), "no PNG, JPEG or WebP"),
    "a TIFF": (encoded(draw_pixels(), "TIFF"), "no PNG, JPEG or WebP"),
    "half a PNG": (encoded(draw_pixels(64, 64))[:2000], "damaged or truncated"),
    "half a JPEG": (encoded(draw_pixels(64, 64), "JPEG")[:1000], "damaged or truncated"),
    "half a WebP": (encoded(draw_pixels(64, 64), "WEBP")[:500], "damaged or truncated|no PNG"),
    "a large image": (bomb(4096, 4097), "4096 × 4097 pixels; at most 16,777,216 are right"),
    "a bomb": (bomb(10_000, 10_000), "more than 16,777,216 pixels|10000 × 10000 pixels"),
    "a larger bomb": (bomb(60_000, 60_000), "more than 16,777,216 pixels"),
    "a small bomb": (bomb(4096, 4096), "damaged or truncated"),
    "an animated WebP": (
        encoded(
            Image.fromarray(draw_pixels()), "WEBP", save_all=True, append_images=[Image.fromarray(draw_pixels(seed=1))]
        ),
        "animated",
    ),
    "an animated PNG": (
        encoded(
            Image.fromarray(draw_pixels()), "PNG", save_all=True, append_images=[Image.fromarray(draw_pixels(seed=1))]
        ),
        "animated",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_refused(case):
    content, message = CASES[case]
    with pytest.raises(UserError, match=message):
        decode(content, (8, 8, 3))


def test_the_limit_of_pixels_is_the_callers():
    content = encoded(draw_pixels(20, 30))
    assert decode(content, (8, 8, 3), max_pixels=600).shape == (8, 8, 3)
    with pytest.raises(UserError, match="30 × 20 pixels; at most 599 are right"):
        decode(content, (8, 8, 3), max_pixels=599)


def test_the_previews_in_a_cameras_jpeg_are_no_frames():
    content = encoded(draw_pixels(16, 16), "MPO", save_all=True, append_images=[Image.fromarray(draw_pixels(8, 8))])
    alone = encoded(draw_pixels(16, 16), "JPEG")
    np.testing.assert_array_equal(decode(content, (16, 16, 3)), decode(alone, (16, 16, 3)))
