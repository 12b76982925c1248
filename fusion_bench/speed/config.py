"""Configuration of the speed benchmark."""

import dataclasses
from pathlib import Path
from typing import Literal

from fusion_bench.config import Choice, DataConfig, ModelConfig
from fusion_bench.errors import ConfigError
from fusion_bench.fields import Checked, Count

_COMPARES = ("compare", "reference", "format", "figure")


@dataclasses.dataclass(frozen=True)
class SpeedConfig(Checked):
    """Measure how fast every strategy is on this device, or compare devices."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    strategies: tuple[str | Choice, ...] = ("canonical",)
    """As in `BenchmarkConfig`."""
    batch_sizes: tuple[Count, ...] = (1, 8, 64, 256, 1024)
    """Batch sizes to measure; 1 is added for the latency."""
    repetitions: Count = 6
    """Number of timed passes of each strategy, in turn; with an even number a steady drift of the machine cancels."""
    out: Path | None = None
    """File for the measurements; an existing file is replaced."""
    compare: tuple[Path, ...] = ()
    """Measure nothing; compare the devices of these files, strategy by strategy."""
    reference: Path | None = None
    """File of the device that the others are compared with."""
    format: Literal["terminal", "md", "csv", "latex"] = "terminal"
    """Format of the table; csv has unrounded values for every batch size."""
    figure: Path | None = None
    """Draw FILE.svg and FILE.png: the roofline, or the compared ratios."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.compare:
            if self.reference is not None:
                raise ConfigError("reference", self.reference, "it does nothing where no devices are compared")
            return
        for part in (self.data, self.model, self):
            for field in dataclasses.fields(part):
                value = getattr(part, field.name)
                if field.name not in _COMPARES and value != getattr(type(part)(), field.name):
                    raise ConfigError(field.name, value, "it does nothing where devices are only compared")

    def sizes(self, num_train: int) -> tuple[int, ...]:
        """Returns the batch sizes of the sweep, ascending, with 1.

        Raises:
          ConfigError: there are fewer training examples than one of them.
        """
        sizes = tuple(sorted({1, *self.batch_sizes}))
        if sizes[-1] > num_train:
            raise ConfigError("batch_sizes", sizes[-1], f"there are only {num_train:,} training examples")
        return sizes
