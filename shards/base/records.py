"""Reads files that may be damaged or come from elsewhere: a wrong one is one sentence with file, field and value.

The dataclass that a file's content becomes is its schema. pydantic checks the types and the bounds of its fields; it is
loaded with the first file that is read.
"""

from __future__ import annotations

import functools
import json
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from annotated_types import Ge, Le

from shards.base.errors import DamagedFile, UserError, shown
from shards.base.formats import Format
from shards.base.operating_system import READ_FLAGS

if TYPE_CHECKING:
    from pydantic import TypeAdapter

MAX_COUNT = 2**53
"""Largest whole number that JSON, floats and int64 all hold exactly."""
Count = Annotated[int, Ge(0), Le(MAX_COUNT)]

RecordT = TypeVar("RecordT")

_PLAIN_KEY = re.compile(r"[\w./-]{1,60}", re.ASCII)


def read_text(path: Path, advice: str) -> str:
    """Reads a UTF-8 file.

    Args:
        path: The file.
        advice: What the user can do about a damaged one, as the end of the sentence.

    Raises:
        DamagedFile: It is not UTF-8.
        UserError: It cannot be read, or is not a file.
    """
    try:
        descriptor = os.open(path, READ_FLAGS)
        with open(descriptor, "rb") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserError(f"{path} is not a file; {advice}.")
            return file.read().decode("utf-8")
    except UnicodeDecodeError as error:
        raise DamagedFile(f"{path} is not UTF-8 (byte {error.start}); {advice}.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); fix this, then rerun the command.") from None


def read_json(path: Path, advice: str) -> Any:
    """Reads a JSON file; arguments as ``read_text``.

    Raises:
        DamagedFile: It is not JSON.
        UserError: It cannot be read.
    """
    return json_value(read_text(path, advice), path, advice)


def json_value(text: str | bytes, path: Path | str, advice: str) -> Any:
    """The value in the text of a JSON file; ``path`` and ``advice`` as ``read_text``.

    Raises:
        DamagedFile: It is not JSON.
    """
    try:
        return parse_json(text)
    except ValueError as error:
        raise DamagedFile(f"{path} is not JSON ({error}); {advice}.") from None


def parse_json(text: str | bytes) -> Any:
    """The value that JSON text stands for.

    Raises:
        ValueError: It is not JSON, nests too deeply, or holds a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it nests too deeply") from None


def read_record(path: Path, kind: type[RecordT], advice: str, format_: Format | None = None) -> RecordT:
    """Reads a JSON file into a dataclass.

    Args:
        path: The file.
        kind: The dataclass. Fields that the file lacks have their default.
        advice: As ``read_text``.
        format_: Brings older versions up to date; None for a file without versions.

    Raises:
        DamagedFile: It is not JSON, or a field is missing, unknown, or has another type or value than ``kind`` says.
        UserError: It cannot be read, or comes from a newer release.
    """
    content = read_json(path, advice)
    return as_record(format_.read(path, content, advice) if format_ else content, kind, path, advice)


def as_record(content: Any, kind: type[RecordT], path: Path | str, advice: str, other_fields: bool = False) -> RecordT:
    """Turns plain values into a dataclass.

    Args:
        content: The values.
        kind: As ``read_record``.
        path: Where they come from, for the message.
        advice: As ``read_text``.
        other_fields: Ignore fields that ``kind`` lacks.

    Raises:
        DamagedFile: As ``read_record``.
    """
    from pydantic import ValidationError

    try:
        # Through JSON, where pydantic is strict about types and yet makes dataclasses from objects, tuples from lists.
        return _adapter(kind).validate_json(
            json.dumps(content), strict=True, extra="ignore" if other_fields else "forbid"
        )
    except ValidationError as error:
        finding = error.errors(include_url=False, include_context=False)[0]
        text = _finding(_dotted(finding["loc"]), finding["type"], finding["msg"], finding["input"])
    except (TypeError, ValueError, RecursionError) as error:
        text = f"a value is not one of JSON's ({error})"
    raise DamagedFile(f"{path}: {text}; {advice}.")


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines; none if there is no file.

    Other lines are left out: a killed writer leaves its last line incomplete, a full disk may damage others.

    Raises:
        UserError: The file cannot be read.
    """
    try:
        lines = path.read_bytes().split(b"\n") if path.is_file() else []
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); fix this, then rerun the command.") from None
    return [content for line in lines if isinstance(content := _parsed_line(line), dict)]


def _parsed_line(line: bytes) -> Any:
    try:
        return parse_json(line)
    except ValueError:
        return None


@functools.cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)


def _dotted(place: Sequence[str | int]) -> str:
    """A field's place as code names it, such as ``shards[0].name``."""
    parts = [f"[{part}]" if isinstance(part, int) else f".{_key(part)}" for part in place]
    return "".join(parts).removeprefix(".")


def _key(name: str) -> str:
    return name if _PLAIN_KEY.fullmatch(name) else shown(name)


def _finding(field: str, kind: str, message: str, value: Any) -> str:
    """What pydantic found, as part of a sentence."""
    if kind == "missing":
        return f"{field} is missing"
    if kind == "unexpected_keyword_argument":
        return f"{field} is not a field of this file"
    if kind == "json_invalid":
        return message[0].lower() + message[1:]
    wanted = re.sub(r"^(Input|String|List|Tuple|Dictionary|Value) ", "", message)
    return f"{field or 'the content'} {wanted}, not {shown(value)}"
