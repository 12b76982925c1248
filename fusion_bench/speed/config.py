"""What `fusion-bench speed` can be asked for."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fusion_bench.config import DataConfig, ModelConfig, Option
from fusion_bench.errors import UserError

_COMPARES = ("compare", "reference", "format", "figure")


@dataclasses.dataclass(frozen=True)
class SpeedConfig:
    """Measure how fast every strategy is on this device, or compare devices."""

    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    strategies: Annotated[str, Option(metavar="a,b|canonical|all")] = "canonical"
    """Names, comma-separated; an option of a strategy follows a colon: tensor:width=8."""
    batch_sizes: Annotated[str, Option(metavar="N,N")] = "1,8,64,256,1024"
    """Batch sizes to sweep, comma-separated; 1 is always among them, for the latency."""
    repetitions: Annotated[int, Option(metavar="N")] = 6
    """How often everything is timed, the strategies by turns; an even number favours none on a drifting machine."""
    out: Annotated[
        Path | None, Option(metavar="FILE.json", help_behavior_hint="(default: speed/DEVICE.json)")
    ] = None
    """Where the figures go; a file that is there is replaced."""
    compare: Annotated[
        tuple[Path, ...], tyro.conf.arg(metavar="FILE.json [FILE.json ...]", help_behavior_hint="(optional)")
    ] = ()
    """Measure nothing; print the ratios of these devices to the reference, strategy by strategy."""
    reference: Annotated[
        Path | None, Option(metavar="FILE.json", help_behavior_hint="(default: the first one compared)")
    ] = None
    """With --compare: the device that the others are compared with."""
    format: Literal["terminal", "md", "csv", "latex"] = "terminal"
    """csv is for scripts: unrounded, and every batch size."""
    figure: Annotated[Path | None, Option(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Write a figure as FILE.svg and FILE.png: the roofline, or with --compare the ratios."""

    def check(self) -> None:
        """Raises UserError if a number is out of range, or an option would do nothing."""
        if self.repetitions < 1:
            raise UserError(f"--repetitions is {self.repetitions}; it must be at least 1")
        if not self.compare:
            if self.reference is not None:
                raise UserError("--reference does nothing without --compare")
            return
        for part in (self, self.data, self.model):
            for field in dataclasses.fields(part):
                value = getattr(part, field.name)
                if field.name not in _COMPARES and value != getattr(type(part)(), field.name):
                    name = "data" if field.name == "source" else field.name.replace("_", "-")
                    raise UserError(f"--{name} does nothing with --compare, which measures nothing")

    def sizes(self, num_train: int) -> tuple[int, ...]:
        """Returns the batch sizes of the sweep, ascending, with 1.

        Raises:
          UserError: one is not a whole number above 0, or there are fewer than so many training examples.
        """
        words = [word.strip() for word in self.batch_sizes.split(",") if word.strip()]
        if not words or not all(word.isdecimal() and int(word) for word in words):
            example = SpeedConfig.batch_sizes
            raise UserError(
                f"--batch-sizes takes whole numbers above 0, for example {example}; got {self.batch_sizes!r}"
            )
        sizes = tuple(sorted({1, *map(int, words)}))
        if sizes[-1] > num_train:
            raise UserError(f"--batch-sizes has {sizes[-1]}, and there are {num_train:,} training examples")
        return sizes
