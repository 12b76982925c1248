"""Image files of anybody, as arrays of a model's size: decoded with limits, cropped and scaled by one rule."""

import io

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps

from fusion_bench.errors import UserError

FORMATS = ("PNG", "JPEG", "WEBP")
"""Formats that are decoded. Decoders of rarer formats have had more faults, so no other is tried."""
MAX_PIXELS = 4096 * 4096
"""Largest number of pixels of an image of anybody. The header is read before any pixel."""
RULE = (
    "PNG, JPEG or WebP of one frame; turned upright by its EXIF orientation, put on "
    "white where it is transparent, the middle cropped to the model's aspect ratio, scaled with a Lanczos filter"
)
"""The rule of `decode`, for people."""


def decode(
    content: bytes, shape: tuple[int, ...], max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "height width channel"]:
    """Returns the pixels of an image file, 8 bits, brought to the shape [height, width, channel] by `RULE`.

    An image of exactly this size stays as it is.

    Args:
      content: of the file.
      shape: of the model's input; it has 3 channels, or 1 for grey images.
      max_pixels: largest number of pixels.

    Raises:
      UserError: it is no image of these formats, has several frames, is too large or is damaged.
    """
    height, width, channels = shape
    try:
        image = Image.open(io.BytesIO(content), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"the image has more than {max_pixels:,} pixels") from error
    except Exception as error:  # a decoder raises errors of any type for a damaged header
        raise UserError("it is no PNG, JPEG or WebP image") from error
    with image:
        if image.width * image.height > max_pixels:
            raise UserError(f"the image has {image.width} × {image.height} pixels; at most {max_pixels:,} are right")
        if image.format != "MPO" and getattr(image, "is_animated", False):  # a camera's JPEG may hold previews
            raise UserError("the image is animated; one frame is right")
        try:
            image.load()
            upright = ImageOps.exif_transpose(image)
            fitted = ImageOps.fit(_opaque(upright), (width, height), Image.Resampling.LANCZOS)
        except Exception as error:  # as above, for damaged or truncated pixels
            raise UserError("the image is damaged or truncated") from error
    pixels = np.asarray(fitted.convert("RGB" if channels == 3 else "L"))
    return pixels.reshape(shape)


def _opaque(image: Image.Image) -> Image.Image:
    """Returns an image in colour, of 8 bits; what is transparent is white."""
    if image.mode.startswith("I"):  # 16 bits of grey
        image = Image.fromarray((np.asarray(image).clip(0, 65535) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    colours = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), colours).convert("RGB")
