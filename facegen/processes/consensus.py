"""What the processes of a group settle together: the main one decides, and what fails on one fails on all.

Each function is called by every process at the same step. A ``UserError`` of one process becomes the error of all, so
that none waits for a process that has ended.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeVar, cast

from accelerate import PartialState
from accelerate.utils import broadcast_object_list, gather_object

from shards.base.errors import UserError

ResultT = TypeVar("ResultT")


def main_decides(decide: Callable[[], ResultT]) -> ResultT:
    """Calls a function on the main process, and returns its result on every one.

    Raises:
        UserError: What the function raises, on every process.
    """
    result = main_does(decide)
    return cast(ResultT, broadcast_object_list([result])[0])


def main_does(work: Callable[[], ResultT]) -> ResultT | None:
    """Calls a function on the main process while the others wait; they return None.

    Raises:
        UserError: What the function raises, on every process.
    """
    result, error = _attempt(work) if PartialState().is_main_process else (None, None)
    (sentence,) = broadcast_object_list([_sentence(error)])
    _raise(error, sentence)
    return result


def all_do(work: Callable[[], ResultT]) -> ResultT:
    """Calls a function on every process, and returns this one's result.

    Raises:
        UserError: On every process, what the function raises on the first one where it fails; the sentence names that
            process unless it is the main one.
    """
    result, error = _attempt(work)
    sentences = [sentence for sentence in gather_object([_sentence(error)]) if sentence]
    _raise(error, sentences[0] if sentences else "")
    return cast(ResultT, result)


def check_same(value: str, what: str) -> None:
    """Checks that all processes have the same value, such as the checksum of a file.

    Args:
        value: This process's.
        what: What it is the value of, for the message.

    Raises:
        UserError: On every process, if one has another value than the main one.
    """
    found = difference(value)
    if found:
        raise UserError(f"{what} differs between machines: {found}; give all of them the same.")


def difference(value: str) -> str:
    """Who has another value than the main process, in words, the same on every process; empty where all agree."""
    (main, own), *others = gather_object([(here(), value)])
    for place, other in others:
        if other != own:
            return f"{place} has '{other}', and {main} has '{own}'"
    return ""


def _attempt(work: Callable[[], ResultT]) -> tuple[ResultT | None, UserError | None]:
    try:
        return work(), None
    except UserError as error:
        return None, error


def _sentence(error: UserError | None) -> str:
    """What all processes print; empty without an error."""
    if error is None:
        return ""
    return str(error) if PartialState().is_main_process else f"{here()}: {error}"


def _raise(error: UserError | None, sentence: str) -> None:
    """Raises this process's own error where the sentence is its own, so that a single process keeps its class."""
    if not sentence:
        return
    raise error if error is not None and str(error) == sentence else UserError(sentence)


def here() -> str:
    """This process and its machine, for messages."""
    return f"process {PartialState().process_index} on {socket.gethostname()}"
