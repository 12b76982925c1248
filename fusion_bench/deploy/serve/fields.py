"""Bodies of requests as fields by name: forms and JSON, of which whatever is ambiguous or unusual is refused."""

import json
from collections.abc import Collection
from typing import Any

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header
from starlette.exceptions import HTTPException

from fusion_bench.errors import UserError, unknown_name

FORM, JSON = "multipart/form-data", "application/json"


def read_fields(content_type: str, body: bytes, known: Collection[str]) -> dict[str, Any]:
    """Returns the fields of a body by name: of a form bytes, of JSON any value.

    Raises:
      UserError: it is damaged, or a field is unknown or comes twice.
      HTTPException: 415, it is neither.
    """
    kind, options = parse_options_header(content_type)
    if kind == FORM.encode():
        if b"boundary" not in options:
            raise UserError(f"the content type {FORM} has no boundary")
        return _read_form(options[b"boundary"], body, known)
    if kind == JSON.encode():
        fields = _read_json(body)
        if not isinstance(fields, dict):
            raise UserError("the body must be a JSON object")
        check_names(fields, known)
        return fields
    raise HTTPException(415, f"the content type must be {FORM} or {JSON}")


def check_names(fields: Collection[str], known: Collection[str]) -> None:
    """Raises UserError for a field that is not known."""
    for name in fields:
        if name not in known:
            raise unknown_name("field", name[:40], known)


class _Form:
    """Fields of a form, filled by the calls of a parser."""

    def __init__(self, known: Collection[str]):
        self.known = known
        self.fields: dict[str, bytearray] = {}
        self.header, self.value = bytearray(), bytearray()
        self.part: bytearray | None = None
        self.name = ""
        self.is_complete = False

    def on_part_begin(self) -> None:
        self.name = ""

    def on_header_begin(self) -> None:
        self.header, self.value = bytearray(), bytearray()

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        self.header += data[start:end]

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        self.value += data[start:end]

    def on_header_end(self) -> None:
        if self.header.lower() == b"content-disposition":
            _, options = parse_options_header(bytes(self.value))
            self.name = options.get(b"name", b"").decode("utf-8", "replace")

    def on_headers_finished(self) -> None:
        if not self.name:
            raise UserError("a part of the form has no name")
        check_names([self.name], self.known)
        if self.name in self.fields:
            raise UserError(f"{self.name} comes twice; once is right")
        self.part = self.fields[self.name] = bytearray()

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        assert self.part is not None
        self.part += data[start:end]

    def on_end(self) -> None:
        self.is_complete = True


_CALLS = (
    "on_part_begin",
    "on_header_begin",
    "on_header_field",
    "on_header_value",
    "on_header_end",
    "on_headers_finished",
    "on_part_data",
    "on_end",
)


def _read_form(boundary: bytes, body: bytes, known: Collection[str]) -> dict[str, Any]:
    form = _Form(known)
    try:
        calls: Any = {name: getattr(form, name) for name in _CALLS}
        parser = MultipartParser(boundary, calls)
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise UserError("the form is damaged") from error
    if not form.is_complete:
        raise UserError("the form is cut off: its last boundary is missing")
    return {name: bytes(value) for name, value in form.fields.items()}


def _read_json(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), object_pairs_hook=_once, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise UserError("the JSON is nested too deeply") from error
    except ValueError as error:  # also of bytes that are not UTF-8, and of numbers with thousands of digits
        raise UserError("the body is not JSON in UTF-8") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in pairs:
        if name in fields:
            raise UserError(f"{name[:40]} comes twice; once is right")
        fields[name] = value
    return fields


def _refuse_constant(name: str) -> Any:
    raise UserError(f"{name} is no JSON; finite numbers are right")
