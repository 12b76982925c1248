"""`fusion-bench predict`: what a stored model says of one example, or of many."""

import csv
import dataclasses
import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from rich.bar import Bar
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text
from tyro.conf import Positional, arg

from fusion_bench import files
from fusion_bench.cli.flags import option
from fusion_bench.errors import UserError, unknown_name
from fusion_bench.fields import Checked, Count

if TYPE_CHECKING:
    from fusion_bench.deploy.examples import Prediction, Row
    from fusion_bench.deploy.model import Classifier

BAR = 40
"""Width of the bar of probability 1, in characters."""
SURROGATES = "surrogateescape"
"""How a byte that is not UTF-8 is read: as a fault of its row alone."""
ONLY = "-"
"""Id of the example that the flags give."""


@dataclasses.dataclass(frozen=True)
class PredictCommand(Checked):
    """Predict the class of your own images and texts with a stored model, with calibrated probabilities.

    An image may be PNG, JPEG or WebP of any size: it is turned upright, its middle is cropped to the model's aspect
    ratio, and it is scaled with a Lanczos filter.
    """

    directory: Annotated[Positional[Path], option("DIR")]
    """The --out directory of `fusion-bench run`."""
    run: Annotated[Positional[str], option("RUN")]
    """The run: its identifier, or the beginning of it, such as concat-s0."""
    image: Annotated[str | None, arg(metavar="FILE|-", help_behavior_hint="(optional)")] = None
    """Image file of one example; - reads standard input."""
    text: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="(optional)")] = None
    """Text of one example, or of all images of --folder that have none beside them."""
    inputs: Annotated[tuple[str, ...], arg(name="input", metavar="NAME=VALUE", help_behavior_hint="(optional)")] = ()
    """Another modality of one example, by its name: an image file, an .npy file or a text."""
    csv: Annotated[Path | None, arg(metavar="FILE|-", help_behavior_hint="(optional)")] = None
    """CSV file of examples: columns id and one for each modality, of texts or of the paths of files."""
    folder: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(optional)")] = None
    """Folder of images; the text of NAME.png is in NAME.txt."""
    missing: Literal["error", "neutral"] = "error"
    """Treatment of a missing modality. neutral: it is a text that says nothing, the mean of the training images."""
    format: Literal["auto", "bars", "csv", "jsonl"] = "auto"
    """Output. auto: bars for one example, CSV for many: id, label, probability of each class."""
    top: Count = 5
    """Number of classes that have a bar, the best ones."""


def run(command: PredictCommand, console: Console) -> int:
    """Returns the exit status: 1 if an example has no prediction."""
    from fusion_bench.training import backend

    given = [command.csv is not None, command.folder is not None, bool(_cells(command))]
    if (command.csv is not None and sum(given) > 1) or sum(given) == 0:
        raise UserError("give one example, by --image, --text or --input; or a --csv file; or a --folder")
    backend.start()
    from fusion_bench.deploy.examples import BATCH, predict_rows
    from fusion_bench.deploy.model import load_classifier

    classifier = load_classifier(command.directory, command.run)
    is_one = command.csv is None and command.folder is None
    with _rows(command, classifier) as rows:
        found = predict_rows(classifier, rows, neutral=command.missing == "neutral", batch=1 if is_one else BATCH)
        form = ("bars" if is_one else "csv") if command.format == "auto" else command.format
        write: Callable[[Iterable[Prediction], Classifier, PredictCommand, Console], None]
        write = {"bars": _write_bars, "csv": _write_csv, "jsonl": _write_lines}[form]
        faults: list[str] = []
        try:
            write(_told(found, faults), classifier, command, console)
        except BrokenPipeError:  # whoever reads the output has enough; what is buffered goes nowhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 1 if faults else 0


def _cells(command: PredictCommand) -> dict[str, str]:
    """Returns what the command line gives of one example, by flag or by the name after --input."""
    cells = {"--image": command.image, "--text": command.text}
    for word in command.inputs:
        name, sign, value = word.partition("=")
        if not sign:
            raise UserError(f"--input is {word}; it must be NAME=VALUE, for example audio=sound.npy")
        cells[name] = value
    return {name: value for name, value in cells.items() if value is not None}


@contextmanager
def _rows(command: PredictCommand, classifier: "Classifier") -> "Iterator[Iterable[Row]]":
    """Opens the examples that the command names."""
    from fusion_bench.deploy import examples

    if command.csv is not None:
        names = [*classifier.modalities]
        if str(command.csv) == examples.STANDARD_INPUT:
            with io.TextIOWrapper(sys.stdin.buffer, "utf-8-sig", SURROGATES, newline="") as lines:
                yield examples.read_csv(lines, "standard input", Path(), names)
            return
        with files.explained(f"{command.csv} cannot be read"):
            file = command.csv.open(encoding="utf-8-sig", errors=SURROGATES, newline="")
        with file:
            yield examples.read_csv(file, str(command.csv), command.csv.parent, names)
        return
    cells: dict[str, str] = {}
    for name, value in _cells(command).items():
        modality = _modality(classifier, name)
        if modality in cells:
            raise UserError(f"{modality} is given twice, by {name} too")
        cells[modality] = value
    if command.folder is None:
        yield [examples.Row(ONLY, cells, Path())]
        return
    texts = [name for name, spec in classifier.modalities.items() if spec.kind == "tokens"]
    picture = _modality(classifier, "--image")
    if picture in cells:
        raise UserError(f"{picture} is given twice: the images are those of --folder")
    rows = examples.read_folder(command.folder, picture, texts[0] if texts else None)
    yield (row._replace(cells={**cells, **row.cells}) for row in rows)


def _modality(classifier: "Classifier", given: str) -> str:
    """Returns the modality that a flag or a name stands for; raises UserError if the model has none or several."""
    from fusion_bench.deploy.examples import is_picture

    modalities = classifier.modalities
    if given in modalities:
        return given
    if given not in ("--image", "--text"):
        raise unknown_name("modality", given, modalities)
    fits = [n for n, spec in modalities.items() if (is_picture(spec) if given == "--image" else spec.kind == "tokens")]
    if len(fits) != 1:
        way = f"has {' and '.join(fits)}; give --input NAME=VALUE" if fits else f"reads {', '.join(modalities)} alone"
        raise UserError(f"{given}: {classifier.run.id} {way}")
    return fits[0]


def _told(found: "Iterable[Prediction]", faults: list[str]) -> "Iterator[Prediction]":
    """Yields the predictions that there are; prints a line for each other one."""
    for prediction in found:
        if prediction.probabilities is not None:
            yield prediction
            continue
        faults.append(prediction.id)
        named = prediction.fault if prediction.id == ONLY else f"example {prediction.id}: {prediction.fault}"
        line = "".join(character if character.isprintable() else "�" for character in named)
        print(f"fusion-bench: {line}", file=sys.stderr)


def _write_bars(
    found: "Iterable[Prediction]", classifier: "Classifier", command: PredictCommand, console: Console
) -> None:
    for prediction in found:
        assert prediction.probabilities is not None
        if prediction.id != ONLY:
            console.print(Text(prediction.id, style="bold"))
        table = Table("class", Column("probability", justify="right"), "", box=None, show_header=False, pad_edge=False)
        for index in (-prediction.probabilities).argsort(kind="stable")[: command.top]:
            share = float(prediction.probabilities[index])
            table.add_row(Text(classifier.class_names[index]), f"{100 * share:.1f} %", Bar(1, 0, share, width=BAR))
        console.print(table)
        way = f"calibrated on validation (temperature {classifier.temperature:.2f})"
        console.out(f"{classifier.run.id}; probabilities are {way}", style="dim")


def _write_csv(
    found: "Iterable[Prediction]", classifier: "Classifier", command: PredictCommand, console: Console
) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["id", "label", *(f"probability_{name}" for name in classifier.class_names)])
    for id, label, values in _records(found, classifier):
        writer.writerow([id, label, *values])
        sys.stdout.flush()


def _write_lines(
    found: "Iterable[Prediction]", classifier: "Classifier", command: PredictCommand, console: Console
) -> None:
    for id, label, values in _records(found, classifier):
        record = {"id": id, "label": label, "probabilities": dict(zip(classifier.class_names, values, strict=True))}
        print(json.dumps(record, ensure_ascii=False), flush=True)


def _records(found: "Iterable[Prediction]", classifier: "Classifier") -> "Iterator[tuple[str, str, Sequence[float]]]":
    """Yields id, label and rounded probabilities of each prediction."""
    for prediction in found:
        assert prediction.probabilities is not None
        label = classifier.class_names[int(prediction.probabilities.argmax())]
        yield prediction.id, label, [float(f"{share:.6g}") for share in prediction.probabilities]
