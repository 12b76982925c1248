"""`fusion-bench list`: everything that has a name on the command line."""

import dataclasses
import json
from typing import Annotated, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text
from tyro.conf import arg

from fusion_bench.config import DataConfig


@dataclasses.dataclass(frozen=True)
class ListCommand:
    """List strategies, remedies, diagnostics, datasets, caption channels and encoders."""

    json: Annotated[bool, arg(help_behavior_hint="")] = False
    """Print JSON, for scripts."""


def run(command: ListCommand, console: Console) -> int:
    """Returns the exit status."""
    catalogue = list_catalogue()
    if command.json:
        print(json.dumps(catalogue, indent=2, ensure_ascii=False))
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
            listing.add_row(*(Text(f"{cell:.3f}" if isinstance(cell, float) else cell) for cell in cells))
        console.print(listing, "")
    return 0


_FIGURES = {
    "bits": "bits",
    "interaction_bits": "interaction\nbits",
    "text_only_ceiling": "text-only\nceiling",
    "image_only_ceiling": "image-only\nceiling",
}
_LISTED = {"name": "name", "family": "family", **_FIGURES, "summary": "summary"}
"""What the terminal's listing shows of each entry, and the heading; the rest is for scripts."""


def list_catalogue() -> dict[str, list[dict[str, Any]]]:
    """Returns everything that has a name on the command line, as JSON."""
    from fusion_bench.data.captions.channel import PRESETS, make_channel
    from fusion_bench.data.sources.base import class_names, sources
    from fusion_bench.diagnostics.base import diagnostics
    from fusion_bench.fusion.registry import strategies
    from fusion_bench.models.encoders import SUMMARIES
    from fusion_bench.training.remedies.base import remedies

    def described(r: Any) -> dict[str, Any]:
        options = {name: option.default for name, option in r.options.items()}
        return {"summary": r.summary, "reference": r.reference, "options": options}

    channels = {name: make_channel(name, class_names(DataConfig())) for name in PRESETS}
    return {
        "strategies": [{"name": r.name, "family": r.family, **described(r)} for r in strategies().values()],
        "remedies": [{"name": r.name, **described(r)} for r in remedies.registered().values()],
        "diagnostics": [{"name": r.name, **described(r)} for r in diagnostics.registered().values()],
        "datasets": [{"name": name, "summary": source.summary} for name, source in sources().items()],
        "captions": [
            {"name": name, **{key: getattr(channel, key) for key in _FIGURES}, "summary": PRESETS[name].summary}
            for name, channel in channels.items()
        ],
        "encoders": [{"name": name, "summary": summary} for name, summary in SUMMARIES.items()],
    }
