"""`fusion-bench list`: everything that has a name on the command line, or one of these in full."""

import dataclasses
import json
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import Positional, arg

from fusion_bench.config import DataConfig, ModelConfig
from fusion_bench.errors import unknown_name
from fusion_bench.fields import Checked


@dataclasses.dataclass(frozen=True)
class ListCommand(Checked):
    """List strategies, remedies, diagnostics, datasets, caption channels and encoders."""

    name: Annotated[Positional[str], arg(metavar="[NAME]", help_behavior_hint="(optional)")] = ""
    """Show one entry in full: formula, paper, options."""
    json: Annotated[bool, arg(help_behavior_hint="")] = False
    """Print JSON, for scripts."""


def run(command: ListCommand, console: Console) -> int:
    """Returns the exit status."""
    catalogue = list_catalogue()
    if command.name:
        catalogue = _named(catalogue, command.name)
    if command.json:
        print(json.dumps(catalogue, indent=2, ensure_ascii=False))
        return 0
    if command.name:
        for title, entries in catalogue.items():
            for entry in entries:
                _show(title, entry, console)
        return 0
    for title, entries in catalogue.items():
        fields = [field for field in entries[0] if field in _LISTED]
        listing = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
        for field in fields:
            listing.add_column(_LISTED[field], no_wrap=field != "summary")
        for entry in entries:
            cells = [entry[field] for field in fields]
            if entry.get("options"):
                cells[-1] += "\n" + " ".join(f":{name}={value}" for name, value in entry["options"].items())
            listing.add_row(*map(_text, cells))
        console.print(listing, "")
    return 0


def _named(catalogue: dict[str, list[dict[str, Any]]], name: str) -> dict[str, list[dict[str, Any]]]:
    """Returns the entries of this name, those of strategies with facts about their model.

    Raises:
      UserError: there is none.
    """
    found = {title: [entry for entry in entries if entry["name"] == name] for title, entries in catalogue.items()}
    if not any(found.values()):
        raise unknown_name("name", name, [entry["name"] for entries in catalogue.values() for entry in entries])
    found["strategies"] = [entry | _model_facts(name) for entry in found["strategies"]]
    return {title: entries for title, entries in found.items() if entries}


def _model_facts(name: str) -> dict[str, Any]:
    """Returns the number of modalities that a strategy takes, and the number of parameters of its model of `shapes`."""
    from fusion_bench.training import backend

    backend.start()
    from fusion_bench.data.load import load_dataset
    from fusion_bench.fusion.registry import StrategySpec
    from fusion_bench.training.cost import count_params

    spec, model = StrategySpec(name), ModelConfig()
    registration = spec.registration
    modalities = registration.modality or ("two" if registration.pairs_only else "two or more")
    params = count_params(spec, load_dataset(DataConfig()).task, model)
    return {
        "modalities": modalities,
        "parameters": f"{params:,} on shapes with default captions and {model.encoder} encoders",
    }


def _show(title: str, entry: dict[str, Any], console: Console) -> None:
    """Prints an entry: name, summary, description, and one line for every other field."""
    console.print(Text.assemble((entry["name"], "bold"), f" ({_KINDS[title]})"))
    console.print(Text(entry["summary"]), "", sep="\n")
    for paragraph in filter(None, entry.get("description", "").split("\n\n")):
        is_laid_out = any(line.startswith(" ") for line in paragraph.splitlines())  # formulas, arguments
        console.print(Text(paragraph if is_laid_out else " ".join(paragraph.split())), "", sep="\n")
    facts = Table(box=None, show_header=False, pad_edge=False)
    for field, value in entry.items():
        if field in ("name", "summary", "description"):
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{name}={default}" for name, default in value.items()) or "none"
        title = _FIGURES.get(field, field).replace("\n", " ")
        facts.add_row(title, _text(value))
    console.print(*[facts, ""][not facts.row_count :])


def _text(value: Any) -> Text:
    return Text("–" if value is None else f"{value:.3f}" if isinstance(value, float) else str(value))


_KINDS = {
    "strategies": "strategy",
    "remedies": "remedy",
    "diagnostics": "diagnostic",
    "datasets": "dataset",
    "captions": "caption channel",
    "encoders": "encoder",
}
_FIGURES = {
    "bits": "bits",
    "interaction_bits": "interaction\nbits",
    "text_only_ceiling": "text-only\nceiling",
    "image_only_ceiling": "image-only\nceiling",
}
_LISTED = {"name": "name", "family": "family", **_FIGURES, "summary": "summary"}
"""Fields of an entry in the terminal's listing, with their headings."""


def list_catalogue() -> dict[str, list[dict[str, Any]]]:
    """Returns everything that has a name on the command line, as JSON."""
    from fusion_bench.data.captions.channel import make_channel
    from fusion_bench.data.captions.spec import HUMAN, HUMAN_SUMMARY, PRESETS
    from fusion_bench.data.sources.base import class_names, sources
    from fusion_bench.diagnostics.base import diagnostics
    from fusion_bench.fusion.registry import strategies
    from fusion_bench.models.encoders import SUMMARIES
    from fusion_bench.training.remedies.base import remedies

    def described(r: Any) -> dict[str, Any]:
        options = {name: option.default for name, option in r.options.items()}
        return {"summary": r.summary, "description": r.description, "reference": r.reference, "options": options}

    channels = {name: make_channel(name, class_names(DataConfig())) for name in PRESETS}
    return {
        "strategies": [{"name": r.name, "family": r.family, **described(r)} for r in strategies().values()],
        "remedies": [{"name": r.name, **described(r)} for r in remedies.registered().values()],
        "diagnostics": [{"name": r.name, **described(r)} for r in diagnostics.registered().values()],
        "datasets": [{"name": name, "summary": source.summary} for name, source in sources().items()],
        "captions": [
            {"name": name, **{key: getattr(channel, key) for key in _FIGURES}, "summary": PRESETS[name].summary}
            for name, channel in channels.items()
        ]
        + [{"name": f"{HUMAN}:FILE", **dict.fromkeys(_FIGURES), "summary": HUMAN_SUMMARY}],
        "encoders": [{"name": name, "summary": summary} for name, summary in SUMMARIES.items()],
    }
