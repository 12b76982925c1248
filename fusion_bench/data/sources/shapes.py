"""Ten geometric figures, drawn from a seed: the default data, for which nothing is downloaded.

Only operations that IEEE 754 rounds exactly (+ − × ÷ √, comparisons) and raw random bits are used, so that a
seed gives the same bytes on every platform.
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from fusion_bench.config import DataConfig
from fusion_bench.data.dataset import Modality, RawDataset
from fusion_bench.data.sources.base import ClassWords, register_source

NUM_TRAIN = 10_000
NUM_TEST = 2_000
SEED = 20_250
SIZE = 32
AUDIO_SHAPE = (16, 16, 1)

DIFFICULTY = 0.4
"""0: clean figures of high contrast; 1: small, faint, half hidden ones. The tables depend on it."""

FAINT = 0.2
FAINT_CONTRAST = np.float32(0.05)
"""In this fraction of the images the figure is too faint to see, so that no image model is certain of all of them."""

WORDS = ClassWords(
    nouns={
        "circle": ("circle", "disc", "disk", "roundel", "dot", "coin"),
        "ring": ("ring", "hoop", "annulus", "band", "washer", "donut"),
        "ellipse": ("ellipse", "oval", "ovoid", "egg", "olive", "capsule"),
        "crescent": ("crescent", "moon", "sickle", "lune", "croissant", "banana"),
        "semicircle": ("semicircle", "hemicycle", "dome", "halfdisc", "halfmoon", "protractor"),
        "heart": ("heart", "valentine", "cardioid", "loveheart", "sweetheart", "heartshape"),
        "triangle": ("triangle", "trigon", "wedge", "delta", "pyramid", "trilateral"),
        "square": ("square", "box", "tile", "quadrate", "tetragon", "quadrangle"),
        "cross": ("cross", "crucifix", "saltire", "crosslet", "crossmark", "rood"),
        "star": ("star", "pentagram", "pentacle", "asterisk", "starburst", "estoile"),
    },
    partitions={
        "coarse": {
            "curve": ("circle", "ring", "ellipse", "crescent", "semicircle", "heart"),
            "polygon": ("triangle", "square", "cross", "star"),
        },
        "contrast": {
            "charm": ("circle", "crescent", "triangle", "star", "ring", "heart"),
            "badge": ("ellipse", "semicircle", "square", "cross"),
        },
        "pairs": {
            "conic": ("circle", "ellipse"),
            "slice": ("semicircle", "crescent"),
            "trinket": ("ring", "heart"),
            "facet": ("triangle", "square"),
            "emblem": ("cross", "star"),
        },
    },
)
CLASS_NAMES = tuple(WORDS.nouns)

_BATCH = 500  # images drawn together, so that their temporaries stay in the processor's cache

Array = np.ndarray


@register_source(
    "shapes",
    summary="ten geometric figures, 32x32, drawn from a seed; nothing is downloaded",
    class_names=CLASS_NAMES,
    words=WORDS,
    options=("audio",),
)
def load(config: DataConfig) -> RawDataset:
    """Returns the figures of the tables."""
    return load_shapes(audio=config.audio)


def load_shapes(
    num_train: int = NUM_TRAIN, num_test: int = NUM_TEST, *, seed: int = SEED, audio: bool = False
) -> RawDataset:
    """Returns the figures: image, uint8 [example, 32, 32, 3]; if `audio`, also float32 [example, 16, 16, 1].

    Classes are balanced to within one in each split. Images and labels do not depend on `audio`.
    """
    parts = []
    for part, count in enumerate((num_train, num_test)):
        balanced = np.arange(count, dtype=np.int32) % len(CLASS_NAMES)
        parts.append(np.random.default_rng([seed, 0, part]).permutation(balanced))
    labels = np.concatenate(parts)
    images = draw_images(labels, np.random.default_rng([seed, 1]))
    modalities = {"image": Modality("grid", images, augment=("flip", "translate"))}
    if audio:
        modalities["audio"] = Modality("grid", draw_audio(labels, np.random.default_rng([seed, 2])))
    return RawDataset(
        name="shapes",
        modalities=modalities,
        labels=labels,
        class_names=CLASS_NAMES,
        split=np.repeat(["train", "test"], [num_train, num_test]),
        description=f"procedural shapes, {num_train} + {num_test}, seed {seed}",
        is_captioned=True,
    )


def _along(degrees: int, u: Array, v: Array) -> Array:
    """Returns the distance along a direction; cosines are rounded: libraries differ in the last digit."""
    radians = math.radians(degrees)
    return np.float32(round(math.cos(radians), 12)) * u + np.float32(round(math.sin(radians), 12)) * v


def _radius(u: Array, v: Array) -> Array:
    return np.sqrt(u * u + v * v)


def _heart(u: Array, v: Array) -> Array:
    side = np.abs(u)
    lobes = _radius(side - 0.42, v - 0.3) - 0.45
    return np.minimum(lobes, np.maximum(v - 0.3, 0.77 * side - 0.64 * v - 0.58))


def _triangle(u: Array, v: Array) -> Array:
    sides = [_along(degrees, u, v) for degrees in (-90, 30, 150)]
    return np.maximum(np.maximum(sides[0], sides[1]), sides[2]) - 0.5


def _cross(u: Array, v: Array) -> Array:
    a, b = np.abs(u), np.abs(v)
    return np.minimum(np.maximum(a - 0.95, b - 0.3), np.maximum(b - 0.95, a - 0.3))


def _star(u: Array, v: Array) -> Array:
    """A pentagram: the points outside at most one of five half-planes, so the second largest distance decides."""
    largest = second = np.full_like(u, -np.inf)
    for degrees in range(-90, 270, 72):
        side = _along(degrees, u, v)
        second = np.maximum(second, np.minimum(largest, side))
        largest = np.maximum(largest, side)
    return second - 0.36


FIGURES: Mapping[str, Callable[[Array, Array], Array]] = {
    "circle": lambda u, v: _radius(u, v) - 0.85,
    "ring": lambda u, v: np.abs(_radius(u, v) - 0.7) - 0.22,
    "ellipse": lambda u, v: (_radius(u, 1.6 * v) - 1.0) * 0.7,
    "crescent": lambda u, v: np.maximum(_radius(u, v) - 0.95, 0.75 - _radius(u - 0.45, v)),
    "semicircle": lambda u, v: np.maximum(_radius(u, v - 0.4) - 1.0, v - 0.4),
    "heart": _heart,
    "triangle": _triangle,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) - 0.7,
    "cross": _cross,
    "star": _star,
}
"""Distances to the edge, negative inside, of points (u, v) where a figure has radius 1."""


def draw_images(labels: Array, rng: np.random.Generator, difficulty: float = DIFFICULTY, faint: float = FAINT) -> Array:
    """Returns one image for each label, uint8 [example, 32, 32, 3].

    Nuisances: colours, contrast, place, size, tilt, squeeze, a textured background, clutter behind the
    figure, a bar before it, pixel noise.
    """
    starts = range(0, len(labels), _BATCH)
    batches = [_draw_batch(labels[start : start + _BATCH], rng, difficulty, faint) for start in starts]
    return np.concatenate(batches) if batches else np.empty((0, SIZE, SIZE, 3), np.uint8)


def _draw_batch(labels: Array, rng: np.random.Generator, difficulty: float, faint: float) -> Array:
    count = len(labels)
    axis = np.arange(SIZE, dtype=np.float32) - np.float32((SIZE - 1) / 2)
    x, y = axis[None, None, :], axis[None, :, None]

    size = _uniform(rng, count, 11 - 4 * difficulty, 12)
    squeeze = _uniform(rng, count, 1 - 0.25 * difficulty, 1)
    u, v = _frame(rng, count, x, y, reach=2 + 2 * difficulty, tilt=0.3)
    u, v = u / size, v / (size * squeeze)
    distance = np.empty((count, SIZE, SIZE), np.float32)
    for label, name in enumerate(CLASS_NAMES):
        rows = labels == label
        distance[rows] = FIGURES[name](u[rows], v[rows])
    figure = _cover(distance * (size * squeeze))

    ground = _uniform(rng, (count, 3), 0.05, 0.5)
    canvas = np.broadcast_to(ground[:, :, None, None], (count, 3, SIZE, SIZE)).copy()  # whole rows add up fast
    canvas += _texture(rng, count, x, y, strength=0.25 * difficulty)
    for _ in range(3):
        _paint(canvas, _clutter(rng, count, x, y, 7 * difficulty), ground, _contrast(rng, count, difficulty))
    lighter = np.abs(_contrast(rng, count, difficulty))
    lighter[rng.random(count, dtype=np.float32) < faint] *= FAINT_CONTRAST
    _paint(canvas, figure, ground, lighter)
    _paint(canvas, _bar(rng, count, x, y, 2.5 * difficulty), ground, _contrast(rng, count, difficulty))
    images = canvas.transpose(0, 2, 3, 1)
    noise = rng.random(images.shape, dtype=np.float32) + rng.random(images.shape, dtype=np.float32) - 1
    return (np.clip(images + noise * (0.5 * difficulty), 0, 1) * 255 + np.float32(0.5)).astype(np.uint8)


def _uniform(rng: np.random.Generator, shape: int | tuple[int, ...], low: float | int, high: float | int) -> Array:
    """Uniform in [low, high); one number per example gets two axes of length one, to broadcast over pixels."""
    values = rng.random(shape, dtype=np.float32) * np.float32(high - low) + np.float32(low)
    return values[:, None, None] if isinstance(shape, int) else values


def _frame(
    rng: np.random.Generator, count: int, x: Array, y: Array, reach: float | int, tilt: float | None = None
) -> tuple[Array, Array]:
    """Returns pixel coordinates in a frame that is moved by up to `reach` pixels and turned.

    It is turned by any angle, or by one whose tangent is within ±`tilt`.
    """
    x, y = x - _uniform(rng, count, -reach, reach), y - _uniform(rng, count, -reach, reach)
    # A point of a square, normalised: near enough to a uniform angle, and exact on every platform.
    cosine, sine = _uniform(rng, count, -1, 1), _uniform(rng, count, -1, 1)
    if tilt is not None:
        cosine, sine = np.ones_like(cosine), sine * np.float32(tilt)
    length = np.sqrt(cosine * cosine + sine * sine) + np.float32(1e-6)
    cosine, sine = cosine / length, sine / length
    return cosine * x + sine * y, cosine * y - sine * x


def _cover(distance: Array) -> Array:
    """Returns the fraction of each pixel that lies inside an edge `distance` pixels away."""
    return np.clip(np.float32(0.5) - distance, 0, 1)


def _contrast(rng: np.random.Generator, count: int, difficulty: float) -> Array:
    """Returns a change of colour, [example, 3], of a length between faint and full."""
    direction = _uniform(rng, (count, 3), -1, 1)
    red, green, blue = direction.T
    length = np.sqrt(red * red + green * green + blue * blue) + np.float32(1e-6)
    strength = _uniform(rng, (count, 1), 0.75 - 0.5 * difficulty, 0.9)
    return direction / length[:, None] * strength


def _paint(canvas: Array, cover: Array, ground: Array, change: Array) -> None:
    colour = np.clip(ground + change, 0, 1)[:, :, None, None]
    canvas += cover[:, None] * (colour - canvas)


def _texture(rng: np.random.Generator, count: int, x: Array, y: Array, strength: float) -> Array:
    """Returns stripes, a triangle wave of random direction, period and colour, [example, 3, 32, 32]."""
    u, _ = _frame(rng, count, x, y, reach=SIZE / 2)
    phase = u / _uniform(rng, count, 3, 12)
    wave = np.abs(phase - np.floor(phase) - np.float32(0.5)) * 4 - 1
    return wave[:, None] * _uniform(rng, (count, 3, 1, 1), -strength, strength)


def _clutter(rng: np.random.Generator, count: int, x: Array, y: Array, size: float) -> Array:
    """Returns the cover of a small disc or box, anywhere."""
    u, v = _frame(rng, count, x, y, reach=SIZE / 2)
    extent = _uniform(rng, count, -0.5, size)
    boxy = _uniform(rng, count, 0, 1) < 0.5
    return _cover(np.where(boxy, np.maximum(np.abs(u), np.abs(v)), _radius(u, v)) - extent)


def _bar(rng: np.random.Generator, count: int, x: Array, y: Array, width: float) -> Array:
    """Returns the cover of a bar across the whole image, near its middle."""
    u, _ = _frame(rng, count, x, y, reach=SIZE / 4)
    return _cover(np.abs(u) - _uniform(rng, count, -0.5, width))


AUDIO_NOISE = 0.45
"""Width of each of the uniform draws that are summed to noise, against tones of height 1."""


def draw_audio(labels: Array, rng: np.random.Generator, noise: float = AUDIO_NOISE) -> Array:
    """Returns one spectrogram for each label, float32 [example, 16, 16, 1]: frequency, time, one channel.

    Each class is a chirp of its own pitch and slope, with an overtone; pitch, slope, onset and loudness vary.
    """
    count = len(labels)
    frequency = np.arange(AUDIO_SHAPE[0], dtype=np.float32)[None, :, None]
    time = np.arange(AUDIO_SHAPE[1], dtype=np.float32)[None, None, :]
    pitch = (labels % 5).astype(np.float32)[:, None, None] * 2 + 2 + _uniform(rng, count, -1, 1)
    rising = np.where(labels < 5, np.float32(0.35), np.float32(-0.1))[:, None, None]
    slope = rising + _uniform(rng, count, -0.2, 0.2)
    onset, length = _uniform(rng, count, 0, 8), _uniform(rng, count, 5, 12)
    loudness = _uniform(rng, count, 0.3, 1)
    track = pitch + slope * (time - onset)
    tone = _bump(frequency - track) + np.float32(0.5) * _bump(frequency - track - 5)
    sounding = (time >= onset) & (time < onset + length)
    grid = loudness * tone * sounding
    for _ in range(3):  # close to normal noise, and exact on every platform
        grid = grid + (rng.random(grid.shape, dtype=np.float32) - np.float32(0.5)) * np.float32(noise)
    return grid[..., None].astype(np.float32)


def _bump(offset: Array) -> Array:
    return 1 / (1 + offset * offset)
