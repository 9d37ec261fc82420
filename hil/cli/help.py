"""`hil help`: the same as `--help` after a command."""

from __future__ import annotations

import click


@click.command()
@click.argument("words", nargs=-1, metavar="[COMMAND]...")
@click.pass_context
def help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command."""
    context = ctx.find_root()
    for word in words:
        group = context.command
        command = group.get_command(context, word) if isinstance(group, click.Group) else None
        if command is None:
            raise click.UsageError(f"{context.command_path} has no command {word!r}.", context)
        context = click.Context(command, info_name=word, parent=context)
    click.echo(context.get_help())
