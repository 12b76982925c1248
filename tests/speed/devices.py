"""Made-up figures of devices, whose ratios and places are known."""

from fusion_bench.speed.record import Ceilings, DeviceSpeed, Latency, Measurement, StrategySpeed, Summary

STUDY = {
    "dataset": "shapes", "fingerprint": "f", "encoder": "tiny", "text_encoder": "pooled", "dtype": "float32",
    "batch_sizes": [1, 8, 64], "repetitions": 3,
}  # fmt: skip


def spread(median):
    return Summary(median, 0.9 * median, 1.1 * median, 3)


def point(batch_size, rate, *, flops: float | None = 2e6, moved_bytes=1e6):
    return Measurement(batch_size, spread(rate), flops, moved_bytes, 3_000_000, 1_000_000)


def sweep(*rates):
    return tuple(point(size, rate) for size, rate in zip((1, 8, 64), rates, strict=True))


def strategy(label, train, inference, latency, family="intermediate"):
    return StrategySpeed(
        label, family, 1000, spread(2.0), sweep(*train) if train else (), sweep(*inference),
        Latency(latency, 2 * latency, 3 * latency, 30),
    )  # fmt: skip


def device(name, *strategies, **study):
    environment = {"device": name, "version": "0.1.0", "packages": {"jax": "0.10.2"}, "commit": "abc"}
    ceilings = Ceilings(1024, spread(1e11), 1 << 28, spread(1e10))
    return DeviceSpeed(environment, STUDY | study, ceilings, None, strategies)


SLOW = device(
    "slow",
    strategy("concat", (100.0, 400.0, 420.0), (200.0, 900.0, 1000.0), 0.010),
    strategy("late-posthoc", (), (100.0, 500.0, 800.0), 0.020, "late"),
)
FAST = device(
    "fast",
    strategy("concat", (100.0, 800.0, 2100.0), (400.0, 1800.0, 3000.0), 0.002),
    strategy("late-posthoc", (), (100.0, 900.0, 1600.0), 0.005, "late"),
    strategy("sum", (100.0, 800.0, 2100.0), (400.0, 1800.0, 3000.0), 0.002),
)
