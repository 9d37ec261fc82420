"""Command lines of `hil` as people write them: whether the real commands accept them, without running any."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import click

from hil.cli.app import cli

SEPARATORS = {"|", ">", "2>", "&&", "||", ";", "&"}


def after_hil(words: list[str]) -> list[str] | None:
    """Return the arguments of a command line that starts `hil`; None for another command."""
    words = words[2:] if words[:2] == ["sudo", "-E"] else words
    if not words or words[0] not in ("hil", ".venv/bin/hil"):
        return None
    end = next((i for i, word in enumerate(words) if word in SEPARATORS or word[0:1] == ">"), len(words))
    return words[1:end]


def typed_in(text: str) -> Iterator[list[str]]:
    """Yield the words of every command line of `hil` between backticks of a sentence; optional parts are there."""
    for line in re.findall(r"`(hil [^`]+)`", " ".join(text.split())):
        words = after_hil(shlex.split(re.sub(r"[\[\]]", "", line).replace("…", " 1 ").replace("...", " 1 ")))
        assert words is not None
        yield words


def fault_of(arguments: list[str], *, complete: bool) -> str:
    """Return what is wrong with the arguments of `hil`; empty when they parse.

    With ``complete`` everything that is required must be there, and values must be of the right type.
    """
    command: click.Command = cli
    context = click.Context(cli, info_name="hil")
    try:
        while isinstance(command, click.Group):
            _, arguments, _ = command.make_parser(context).parse_args(list(arguments))
            if not arguments or arguments[0].isupper():
                return ""
            first, *rest = arguments
            if "|" in first:
                return "; ".join(
                    filter(
                        None, (fault_of([*path_of(context), one, *rest], complete=False) for one in first.split("|"))
                    )
                )
            found = command.get_command(context, first)
            if found is None:
                return f"there is no `{context.command_path} {first}`"
            command, arguments = found, rest
            context = click.Context(command, info_name=first, parent=context, **command.context_settings)
        values, left, _ = command.make_parser(context).parse_args(list(arguments))
        if left and complete and not context.allow_extra_args:
            return f"too much: {left}"
        if complete:
            for parameter in command.params:
                check_value(parameter, values.get(parameter.name or ""), context)
    except click.UsageError as exc:
        return exc.format_message()
    nested = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    inner = after_hil(nested)
    return fault_of(inner, complete=complete) if inner is not None else ""


def path_of(context: click.Context) -> list[str]:
    """Return the names of the groups between `hil` and a context."""
    return context.command_path.split()[1:]


def check_value(parameter: click.Parameter, value: Any, context: click.Context) -> None:
    """Raise UsageError when a required parameter has no value, or one of another type than it takes."""
    if parameter.required and parameter.value_is_missing(value):
        raise click.MissingParameter(ctx=context, param=parameter)
    if isinstance(value, str | tuple) and not isinstance(parameter.type, click.Path | click.File):
        parameter.type_cast_value(context, value)
