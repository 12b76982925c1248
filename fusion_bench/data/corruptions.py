"""Corruptions of images at five severities: the eight of CIFAR-10-C that need nothing but the image.

Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations", ICLR 2019,
arXiv:1903.12261. The parameters are those of CIFAR-10-C, for images of 32×32 pixels (ImageNet-C's are other ones);
noise, contrast, brightness and JPEG do not depend on the size, blur is in pixels, and pixelate is relative to it. In
formulas an image x is in 0..1; results are cut, not rounded, to whole numbers of 0..255, as the published files are.
"""

import functools
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8
from scipy.ndimage import convolve, correlate

from fusion_bench.errors import unknown_name

SEVERITIES = (1, 2, 3, 4, 5)
CHANNELS = (1, 3)
"""Numbers of channels of an image for which all corruptions are defined: grey and RGB."""
_STREAM = 0xC044  # keeps these draws apart from those of splits and captions, which have the same seed

Images = UInt8[np.ndarray, "example height width channel"]
Generators = Iterator[np.random.Generator]


class Corruption(NamedTuple):
    """A corruption.

    Attributes:
      parameters: one for each severity.
      apply: returns corrupted images, of 8 bits or in 0..1 before they are clipped, from images of 8 bits, the
        parameter and a random generator for each image.
    """

    parameters: tuple[Any, ...]
    apply: Callable[[Images, Any, Generators], np.ndarray]


def corrupt(
    images: Images, name: str, severity: int, *, examples: Int[np.ndarray, " example"], seed: int = 0
) -> Images:
    """Returns corrupted images.

    The draws of each image depend on the seed, its example, the corruption and the severity alone. So a part of the
    images is corrupted as in the whole, and every model sees the same pixels.

    Args:
      images: grey or RGB, of 8 bits.
      name: a key of `CORRUPTIONS`.
      severity: 1 to 5.
      examples: a number of each image, as its index in a dataset.
      seed: of the draws.

    Raises:
      UserError: there is no such corruption.
      ValueError: the severity is none, or the images have another number of channels.
    """
    if name not in CORRUPTIONS:
        raise unknown_name("corruption", name, CORRUPTIONS)
    if severity not in SEVERITIES or images.shape[-1] not in CHANNELS:
        raise ValueError(f"severity {severity} of {images.shape[-1]} channels; 1 to 5, and 1 or 3 channels are right")
    corruption, key = CORRUPTIONS[name], [seed, _STREAM, severity, *name.encode()]
    generators = (np.random.default_rng([*key, example]) for example in examples.tolist())
    corrupted = np.empty_like(images)
    for start in range(0, len(images), 256):  # floats of a few images at a time
        rows = slice(start, start + 256)
        found = corruption.apply(images[rows], corruption.parameters[severity - 1], generators)
        is_done = found.dtype == np.uint8
        corrupted[rows] = found if is_done else (255 * np.clip(found, 0, 1)).astype(np.uint8)
    return corrupted


def _gaussian_noise(images: Images, std: float, generators: Generators) -> np.ndarray:
    """Each value plus N(0, std²)."""
    return images / 255 + std * _drawn(generators, images, np.random.Generator.standard_normal)


def _shot_noise(images: Images, photons: int, generators: Generators) -> np.ndarray:
    """Poisson(photons · x) / photons of each value."""
    drawn = [next(generators).poisson(photons * image) for image in images / 255]
    return np.stack(drawn) / photons


def _impulse_noise(images: Images, fraction: float, generators: Generators) -> np.ndarray:
    """1 or 0, equally often, in place of a fraction of the values; the channels are drawn independently."""
    drawn = _drawn(generators, images, np.random.Generator.random)
    return np.where(drawn < fraction / 2, 1.0, np.where(drawn < fraction, 0.0, images / 255))


def _defocus_blur(images: Images, disk: tuple[float, float], generators: Generators) -> np.ndarray:
    """The mean over a disk of a radius, whose edge is smoothed by a 3×3 Gaussian; mirrored beyond the edges."""
    return correlate(images / 255, disk_kernel(*disk)[None, :, :, None], mode="mirror")


def _contrast(images: Images, factor: float, generators: Generators) -> np.ndarray:
    """(x - mean) factor + mean, with the mean of each channel of each image."""
    x = images / 255
    mean = x.mean((1, 2), keepdims=True)
    return (x - mean) * factor + mean


def _brightness(images: Images, added: float, generators: Generators) -> np.ndarray:
    """V + added in hue, saturation and value V, the largest channel: all channels grow by one factor."""
    x = images / 255
    value = x.max(-1, keepdims=True)
    brighter = np.minimum(value + added, 1)
    return np.where(value > 0, x * (brighter / np.where(value > 0, value, 1)), brighter)


def _pixelate(images: Images, scale: float, generators: Generators) -> np.ndarray:
    """An image at a part of its size, each pixel the mean of those whose centres it covers, and back by the nearest."""
    from PIL.Image import Resampling

    height, width = images.shape[1:3]
    small = max(1, int(width * scale)), max(1, int(height * scale))
    box = Resampling.BOX
    return _pictures(images, lambda picture: picture.resize(small, box).resize((width, height), box))


def _jpeg_compression(images: Images, quality: int, generators: Generators) -> np.ndarray:
    """JPEG of a quality of the IJG scale, 1 to 100."""
    from PIL import Image

    def compressed(picture: Image.Image) -> Image.Image:
        picture.save(file := io.BytesIO(), "JPEG", quality=quality)
        return Image.open(file)

    return _pictures(images, compressed)


CORRUPTIONS: Mapping[str, Corruption] = {
    "gaussian_noise": Corruption((0.04, 0.06, 0.08, 0.09, 0.10), _gaussian_noise),
    "shot_noise": Corruption((500, 250, 100, 75, 50), _shot_noise),
    "impulse_noise": Corruption((0.01, 0.02, 0.03, 0.05, 0.07), _impulse_noise),
    "defocus_blur": Corruption(((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)), _defocus_blur),
    "contrast": Corruption((0.75, 0.5, 0.4, 0.3, 0.15), _contrast),
    "brightness": Corruption((0.05, 0.1, 0.15, 0.2, 0.3), _brightness),
    "pixelate": Corruption((0.95, 0.9, 0.85, 0.75, 0.65), _pixelate),
    "jpeg_compression": Corruption((80, 65, 58, 50, 40), _jpeg_compression),
}
"""Every corruption, by the name of its file in CIFAR-10-C."""


@functools.cache
def disk_kernel(radius: float, std: float) -> Float[np.ndarray, "row column"]:
    """Returns the kernel of a disk of a radius up to 1.5 pixels, convolved with a 3×3 Gaussian; it sums to 1."""
    row, column = np.mgrid[-2:3, -2:3]
    disk = (row**2 + column**2 <= radius**2).astype(np.float64)
    edge = np.exp(-0.5 * (np.arange(-1, 2) / std) ** 2)
    return convolve(disk / disk.sum(), np.outer(edge, edge) / edge.sum() ** 2, mode="constant")


def _drawn(
    generators: Generators, images: Images, draw: Callable[[np.random.Generator, Any], np.ndarray]
) -> np.ndarray:
    """Returns a random number for each value, from the generator of its image."""
    return np.stack([draw(next(generators), image.shape) for image in images])


def _pictures(images: Images, change: Callable[[Any], Any]) -> Images:
    """Returns images after a change by Pillow, for which a grey image has no axis of channels."""
    from PIL import Image

    pictures = images[..., 0] if images.shape[-1] == 1 else images
    changed = [np.asarray(change(Image.fromarray(picture))) for picture in pictures]
    return np.stack(changed).reshape(images.shape)
