"""Names with options as text: `image-only,tensor:width=8` is ("image-only", Choice("tensor", {"width": 8}))."""

from fusion_bench.config import Choice
from fusion_bench.errors import UserError


def parse_names(text: str) -> tuple[str, ...]:
    """Reads comma-separated words."""
    return tuple(word for word in map(str.strip, text.split(",")) if word)


def parse_choices(text: str) -> tuple[str | Choice, ...]:
    """Reads comma-separated names, each with its options.

    Raises:
      UserError: an option is given twice. Names and values are checked where they are looked up.
    """
    return tuple(map(parse_choice, parse_names(text)))


def parse_choice(text: str) -> str | Choice:
    """Reads one name, with its options after colons."""
    name, *assignments = text.split(":")
    options: dict[str, int | float | str | bool] = {}
    for assignment in assignments:
        option, _, value = assignment.partition("=")
        if option in options:
            raise UserError(f"option {option} of {name} is given twice")
        options[option] = _parse_value(value)
    return Choice(name, options) if options else name


def _parse_value(text: str) -> int | float | str | bool:
    for number in (int, float):
        try:
            return number(text)
        except ValueError:
            continue
    return {"true": True, "false": False}.get(text.lower(), text)
