"""The command-line parser of every entry point: jsonargparse with short, helpful errors.

All entry points share one style: underscored flags, ``--help`` grouped by the dataclass that owns the option,
``--config FILE.yaml`` with command-line overrides, and exit code 2 with one clear sentence on bad input.
"""

from __future__ import annotations

import dataclasses
import difflib
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any, NoReturn, TypeVar, get_type_hints

import docstring_parser
import jsonargparse
import yaml

from shards.base.errors import ENDING, UserError, shown
from shards.base.printing import lasting_output, printable
from shards.base.yaml_text import guarded
from shards.command_line.arguments import check_files, config_first, join_lists, join_parts
from shards.command_line.naming import as_called
from shards.command_line.option_checks import check_nulls, check_numbers, check_sections

jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
jsonargparse.set_loader("yaml", guarded(jsonargparse.get_loader("yaml")), (yaml.YAMLError,))

ConfigT = TypeVar("ConfigT")

_MAX_CHARACTERS = 1000
_raises = ContextVar("_raises", default=False)
_collected: ContextVar[dict[str, Parser] | None] = ContextVar("_collected", default=None)

_UNKNOWN_OPTION = re.compile(
    r"unrecognized arguments: *--([\w.-]+)|does not accept (?:option|key) '([\w.]+)'"
    r"|[Oo]ption '([\w.]+)' is not accepted"
)


class _Failure(SystemExit):
    """Ends the program over bad input. Not a ``ValueError``: the parser would catch and rephrase it."""

    def __init__(self, message: str) -> None:
        super().__init__(2)
        self.message = message


class _Collected(BaseException):
    """Ends an entry point that was only asked for its parsers; not an ``Exception``, which it might handle."""


class Parser(jsonargparse.ArgumentParser):
    """An argument parser whose errors are one sentence and name the nearest right option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, allow_abbrev=False, **kwargs)

    def known_options(self) -> list[str]:
        """Every dotted option name that this parser and its subcommands accept."""
        names = [action.dest for action in self._actions if action.dest not in ("help", "==SUPPRESS==")]
        for action in self._actions:
            if isinstance(action.choices, dict):
                for subparser in action.choices.values():
                    names += [name for name in subparser.known_options() if name not in names]
        return names

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:  # type: ignore[override]
        """Prints one line, with the nearest right name for an unknown option, and exits with code 2."""
        fail(_one_sentence(message, self.known_options()))


def fail(message: str) -> NoReturn:
    """Prints ``message`` as a one-line error and exits with code 2; a very long one without its middle."""
    if not _raises.get():
        line = printable(as_called(message))
        if len(line) > _MAX_CHARACTERS:  # Values from outside have any length; the advice is at the end.
            line = f"{line[: _MAX_CHARACTERS // 2]} ... {line[-_MAX_CHARACTERS // 2 :]}"
        print(f"error: {line}", file=sys.stderr)
    raise _Failure(message)


@contextmanager
def raising() -> Iterator[None]:
    """Raises a ``UserError`` where bad input inside would end the program."""
    token = _raises.set(True)
    try:
        yield
    except _Failure as failure:
        raise UserError(failure.message) from None
    finally:
        _raises.reset(token)


def run(main: Callable[[], None]) -> None:
    """Runs an entry point: a ``UserError``, or an error of a disk, becomes one sentence and exit code 2."""
    ENDING.clear()
    with lasting_output():
        try:
            main()
        except UserError as error:
            fail(str(error))
        except OSError as error:
            if error.errno is None:  # Raised by a library, not by the system.
                raise
            place = "a file" if error.filename is None else error.filename
            fail(f"{place} cannot be used ({error.strerror}); fix this, then rerun the command.")
        finally:
            ENDING.set()


def parse(
    config_class: type[ConfigT],
    *,
    prog: str,
    description: str,
    positional: Sequence[str] = (),
    args: Sequence[str] | None = None,
) -> ConfigT:
    """Parses a command line into one dataclass.

    Args:
        config_class: The dataclass. Its fields become options, the docstrings under them the help texts.
        prog: How the program is called, as usage shows it.
        description: First paragraph of ``--help``.
        positional: Fields given by position, in order; a list field takes one or more values.
        args: Arguments; the process's own when None.

    Returns:
        An instance of ``config_class``. Bad input, a ``ValueError`` of its ``__post_init__`` included, exits with
        code 2 and one sentence.
    """
    arguments = list(sys.argv[1:] or ["--help"]) if args is None else list(args)
    parser = Parser(prog=as_called(prog), description=as_called(description))
    _add_config(parser, config_class, positional)
    if (collected := _collected.get()) is not None:
        collected[prog] = parser
        raise _Collected
    ordered = config_first(join_lists(parser, join_parts(arguments)))
    try:
        check_files(config_class, ordered)
        namespace = parser.parse_args(ordered)
        return _instantiate(parser, config_class, namespace)
    except (ValueError, ArithmeticError) as error:
        parser.error(str(error))


def parsers_of(main: Callable[[], Any]) -> dict[str, Parser]:
    """The parsers of an entry point, by how the program is called; nothing else of it runs."""
    token = _collected.set({})
    try:
        with suppress(_Collected):
            main()
        return _collected.get() or {}
    finally:
        _collected.reset(token)


def from_values(config_class: type[ConfigT], values: Any, source: str) -> ConfigT:
    """A config dataclass from nested plain values, checked like a file of options.

    Args:
        config_class: The dataclass.
        values: Its options by name.
        source: Where they come from, as the beginning of the sentence.

    Raises:
        UserError: A wrong name or value.
    """
    parser = Parser()
    parser.add_class_arguments(config_class)
    try:
        with raising():
            if not isinstance(values, Mapping):
                raise UserError(f"expected options by name, not {shown(values)}.")
            check_sections(config_class, values)
            return _instantiate(parser, config_class, parser.parse_object(dict(values)))
    except (ValueError, ArithmeticError) as error:
        raise UserError(f"{source}: {error}") from None


def _instantiate(parser: Parser, config_class: type[ConfigT], namespace: jsonargparse.Namespace) -> ConfigT:
    check_nulls(config_class, namespace)
    values = vars(parser.instantiate(namespace))
    names = [field.name for field in dataclasses.fields(config_class)]  # type: ignore[arg-type]
    config = config_class(**{name: values[name] for name in names})
    check_numbers(config)
    return config


def parse_command(
    commands: Mapping[str, type],
    *,
    prog: str,
    description: str,
    dest: str,
    positional: Callable[[str], Sequence[str]] = lambda name: (),
    args: Sequence[str] | None = None,
) -> tuple[str, Any]:
    """Parses ``NAME [options]``, where each name has a config dataclass of its own.

    Args:
        commands: Name of each command and its dataclass.
        prog: How the program is called.
        description: First paragraph of ``--help``.
        dest: What the name is called in usage and errors, for example ``source``.
        positional: Gives the positional fields of a command.
        args: Arguments; the process's own when None.

    Returns:
        The chosen name and an instance of its dataclass. Bad input exits with code 2 and one sentence.
    """
    arguments = list(sys.argv[1:] if args is None else args)
    name = arguments[0] if arguments else "--help"
    summaries = {
        command: (docstring_parser.parse(config_class.__doc__ or "").short_description or "").strip()
        for command, config_class in commands.items()
    }
    if _collected.get() is not None:
        for command, config_class in commands.items():
            with suppress(_Collected):
                parse(config_class, prog=f"{prog} {command}", description="", positional=positional(command), args=[])
        raise _Collected
    if name in ("-h", "--help"):
        listing = "\n".join(f"  {command:<14}{summary}" for command, summary in summaries.items())
        print(
            f"usage: {as_called(prog)} {dest.upper()} [options]\n\n{as_called(description)}\n\n"
            f"{dest}, each with a --help of its own:\n{listing}"
        )
        raise SystemExit(0)
    if name not in commands:
        close = nearest(name, list(commands))
        hint = f"; did you mean '{close}'?" if close else "."
        fail(f"the first argument must be the {dest}, one of {', '.join(commands)}, not '{name}'{hint}")
    config = parse(
        commands[name],
        prog=f"{prog} {name}",
        description=summaries[name],
        positional=positional(name),
        args=arguments[1:],
    )
    return name, config


def _add_config(parser: Parser, config_class: type, positional: Sequence[str]) -> None:
    parser.add_argument("--config", action="config", help="YAML file of options; options on the command line win.")
    hints = get_type_hints(config_class)
    # Base classes first: their help texts are inherited and can be overridden.
    bases = [base for base in reversed(getattr(config_class, "__mro__", (config_class,))) if base is not object]
    documented = [param for base in bases for param in docstring_parser.parse_from_object(base).params]
    helps = {param.arg_name: param.description for param in documented}
    for name in positional:
        is_list = getattr(hints[name], "__origin__", None) in (list, tuple)
        kind = hints[name].__args__[0] if is_list else hints[name]
        parser.add_argument(name, type=kind, nargs="+" if is_list else None, help=helps.get(name))
    parser.add_class_arguments(config_class, skip=set(positional))
    for action in parser._actions:
        if getattr(action, "_typehint", None) is bool:
            # `--dry_run` alone means true; `--augment.flip false` still works.
            action.nargs, action.const = "?", True


def _one_sentence(message: str, known_options: Sequence[str]) -> str:
    unknown = _UNKNOWN_OPTION.search(message)
    if unknown:
        name = next(group for group in unknown.groups() if group)
        return no_option(name, known_options)
    union = re.search(r'Parser key "([\w.]+)":.*Union subtypes.*Given value: (.*)', message, re.DOTALL)
    if union:
        kinds = re.findall(r"Expected an? (?:<class ')?([\w.]+)", message)
        wanted = " or ".join(dict.fromkeys("null" if kind == "NoneType" else kind for kind in kinds))
        return f"option '{union[1]}': expected {wanted}. Got value: {union[2].strip()}"
    message = re.sub(r'Parser key "([\w.]+)": *', r"option '\1': ", " ".join(message.split()))
    message = re.sub(r"<class '([\w.]+)'>", r"\1", message)
    return re.sub(r"Expected an? typing.Literal", "expected one of ", message)


def no_option(name: str, known_options: Sequence[str]) -> str:
    """The sentence about an option that does not exist, with the nearest one that does."""
    close = nearest(name, known_options)
    return f"there is no option '{name}'; " + (f"did you mean '{close}'?" if close else "--help lists them all.")


def nearest(name: str, known_options: Sequence[str]) -> str | None:
    """The name that a wrong one may stand for; None where none is near."""
    close = difflib.get_close_matches(name, known_options, n=1, cutoff=0.6)
    if close:
        return close[0]
    # A right name in the wrong group, such as --lr for --optim.lr.
    by_last_part = {option.rsplit(".", 1)[-1]: option for option in known_options}
    close = difflib.get_close_matches(name.rsplit(".", 1)[-1], by_last_part, n=1, cutoff=0.6)
    return by_last_part[close[0]] if close else None
