"""Log-mel spectrograms of recordings.

    mel(f)    = 2595 log10(1 + f / 700), f in hertz
    hann[n]   = (1 - cos(2π n / window)) / 2
    P[t, k]   = |Σ_n hann[n] x[hop · t + n] exp(-2πi kn / size)|², x in -1..1
    H[m, k]   = max(0, min((f_k - c_{m-1}) / (c_m - c_{m-1}), (c_{m+1} - f_k) / (c_{m+1} - c_m)))
    out[t, m] = log(max(Σ_k H[m, k] P[t, k], floor))

f_k is the frequency of bin k; c_0 .. c_{M+1} are equally spaced in mel from 0 to half the sampling rate.

References: mel scale: O'Shaughnessy, Speech Communication: Human and Machine, 1987; bank of triangles: Davis and
Mermelstein, IEEE TASSP 28(4), 1980, in the form of Young et al., The HTK Book, 2006, section 5.4.
"""

import dataclasses

import numpy as np
from jaxtyping import Float32, Float64


@dataclasses.dataclass(frozen=True)
class LogMel:
    """The measures of a spectrogram.

    Attributes:
      rate: samples in a second.
      window: samples of one frame.
      hop: samples from one frame to the next.
      size: samples of a frame's Fourier transform, `window` or more; those beyond it are zeros.
      bands: number M of mel bands.
      floor: least energy; by default 94 dB below a tone of full scale.
    """

    rate: int = 8000
    window: int = 200
    hop: int = 80
    size: int = 256
    bands: int = 40
    floor: float = 1e-6

    def frames(self, samples: int) -> int:
        """Returns the number of whole frames in so many samples; one where there are fewer than a frame has."""
        return 1 + max(0, samples - self.window) // self.hop

    def __call__(self, wave: Float64[np.ndarray, " sample"]) -> Float32[np.ndarray, "frame band"]:
        """Returns the spectrogram of samples in -1..1; zeros follow them where they are fewer than a frame has."""
        wave = np.pad(wave, (0, max(0, self.window - len(wave))))
        hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(self.window) / self.window)
        frames = np.lib.stride_tricks.sliding_window_view(wave, self.window)[:: self.hop]
        power = np.abs(np.fft.rfft(hann * frames, self.size)) ** 2
        return np.log(np.maximum(power @ mel_filters(self).T, self.floor)).astype(np.float32)


def mel_filters(of: LogMel) -> Float64[np.ndarray, "band bin"]:
    """Returns the weight H of every bin of the Fourier transform in every mel band."""
    highest = 2595 * np.log10(1 + of.rate / 2 / 700)
    corners = 700 * (10 ** (np.linspace(0, highest, of.bands + 2) / 2595) - 1)
    low, centre, high = (corners[start : start + of.bands, None] for start in range(3))
    bins = np.arange(of.size // 2 + 1) * of.rate / of.size
    return np.maximum(0, np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)))
