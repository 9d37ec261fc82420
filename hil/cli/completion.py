"""`hil completion`, and what a shell is told when somebody presses Tab: light, because he waits for it."""

from __future__ import annotations

import json
import os

import click


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the script that completes commands, options, and the boards, links and benches that are up.

    \b
    Examples:
      hil completion bash > ~/.local/share/bash-completion/completions/hil
      eval "$(hil completion zsh)"                       in ~/.zshrc, after compinit
      hil completion fish > ~/.config/fish/completions/hil.fish
    """
    from click.shell_completion import get_completion_class

    from hil.cli.app import cli

    found = get_completion_class(shell)
    assert found is not None  # click has all three
    click.echo(found(cli, {}, "hil", "_HIL_COMPLETE").source())


def bench_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Benches that are up."""
    return [name for name in _up(None) if name.startswith(incomplete)]


def board_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Boards of the bench that is meant, else of all that are up."""
    from hil.bench.state import read_state

    found: dict[str, None] = {}
    for name in _up(_bench_of(ctx)):
        state = read_state(name)
        found.update(dict.fromkeys(state.consoles if state else ()))
    return [name for name in found if name.startswith(incomplete)]


def link_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Links of the bench that is meant, else of all that are up, as the link box notes them."""
    from hil.bench.state import link_socket

    found: dict[str, None] = {}
    for name in _up(_bench_of(ctx)):
        try:
            document = json.loads(link_socket(name).with_suffix(".json").read_text(encoding="utf-8"))
            found.update(dict.fromkeys(link["name"] for link in document["links"]))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # it is going down now: nothing to complete
    return [name for name in found if name.startswith(incomplete)]


def _bench_of(ctx: click.Context) -> str | None:
    return ctx.params.get("bench_name") or os.environ.get("HIL_BENCH")


def _up(name: str | None) -> list[str]:
    from hil.bench.state import is_up, known_benches

    return [each for each in ([name] if name else known_benches()) if is_up(each)]
