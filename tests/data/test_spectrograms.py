"""Log-mel spectrograms against loops in float64."""

import dataclasses
import math

import numpy as np
import pytest

from fusion_bench.data.spectrograms import LogMel, mel_filters

SMALL = LogMel(rate=1000, window=20, hop=7, size=32, bands=5, floor=1e-4)


def mel(hertz):
    return 2595 * math.log10(1 + hertz / 700)


def filters_by_loop(of):
    """Triangles whose corners are equally spaced on the mel scale."""
    corners = [700 * (10 ** (mel(of.rate / 2) * i / (of.bands + 1) / 2595) - 1) for i in range(of.bands + 2)]
    weights = np.zeros((of.bands, of.size // 2 + 1))
    for band in range(of.bands):
        low, centre, high = corners[band : band + 3]
        for k in range(of.size // 2 + 1):
            f = k * of.rate / of.size
            if low < f <= centre:
                weights[band, k] = (f - low) / (centre - low)
            elif centre < f < high:
                weights[band, k] = (high - f) / (high - centre)
    return weights


def spectrogram_by_loop(of, wave):
    weights, rows = filters_by_loop(of), []
    for start in range(0, max(1, len(wave) - of.window + 1), of.hop):
        frame = [float(wave[start + n]) if start + n < len(wave) else 0.0 for n in range(of.window)]
        power = np.zeros(of.size // 2 + 1)
        for k in range(len(power)):
            hann = (0.5 - 0.5 * math.cos(2 * math.pi * n / of.window) for n in range(of.window))
            terms = (
                x * w * np.exp(-2j * math.pi * k * n / of.size)
                for n, (x, w) in enumerate(zip(frame, hann, strict=True))
            )
            power[k] = abs(sum(terms)) ** 2
        rows.append([math.log(max(float(row @ power), of.floor)) for row in weights])
    return np.array(rows)


@pytest.mark.parametrize("of", [SMALL, LogMel()], ids=["small", "usual"])
def test_the_filters_are_those_of_a_loop(of):
    weights = mel_filters(of)
    np.testing.assert_allclose(weights, filters_by_loop(of), rtol=0, atol=1e-12)
    assert (weights.sum(1) > 0).all()  # no band falls between two bins


@pytest.mark.parametrize("samples", [1, 19, 20, 26, 27, 100])
def test_a_spectrogram_is_that_of_a_loop(samples):
    wave = np.random.default_rng(samples).uniform(-1, 1, samples)
    expected = spectrogram_by_loop(SMALL, wave)
    assert SMALL.frames(samples) == len(expected)
    np.testing.assert_allclose(SMALL(wave), expected, rtol=1e-5, atol=1e-5)


def test_a_second_at_the_usual_measures():
    of = LogMel()
    tone = 0.5 * np.sin(2 * np.pi * 1000 * np.arange(of.rate) / of.rate)
    found = of(tone)
    assert found.shape == (98, 40)
    centres = [700 * (10 ** (mel(4000) * i / 41 / 2595) - 1) for i in range(1, 41)]
    assert abs(centres[int(found.mean(0).argmax())] - 1000) < 60
    np.testing.assert_allclose(of(tone[:360]), spectrogram_by_loop(of, tone[:360]), rtol=1e-5, atol=1e-5)


def test_silence_is_the_floor():
    of = dataclasses.replace(SMALL, floor=0.25)
    np.testing.assert_allclose(of(np.zeros(50)), math.log(0.25), rtol=1e-6)
