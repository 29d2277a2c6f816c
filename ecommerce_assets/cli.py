"""The command `ecommerce-assets`. Its subcommands are defined in the packages."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = {
    "run": "materialize:command",
    "land": "events.landing.command:command",
    "sample": "events.sample:command",
    "lookup": "lookup.commands:lookup",
    "deliver": "delivery.commands:deliver",
    "audience": "delivery.commands:audience",
    "serve": "delivery.commands:serve",
    "compare": "recommendation.commands:compare",
    "parameters": "recommendation.commands:parameters",
    "promote": "recommendation.commands:promote",
    "revert": "recommendation.commands:revert",
    "versions": "storage.commands:versions",
    "lineage": "storage.commands:lineage",
    "verify": "storage.commands:verify",
    "prune": "storage.commands:prune",
    "java-home": "spark.java:command",
}
"""Module and function of each subcommand, by name."""


class _Commands(click.Group):
    """Imports only the module of the subcommand, so that `land` and `lookup` start without Dagster and Spark."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name].partition(":")
        command: click.Command = getattr(import_module(f"ecommerce_assets.{module}"), name)
        return command


@click.group(cls=_Commands)
def main() -> None:
    """Customer segments and product recommendations from a shop's event log.

    Example: ecommerce-assets run

    Completion in bash: eval "$(_ECOMMERCE_ASSETS_COMPLETE=bash_source ecommerce-assets)"; also zsh_source, fish_source.
    """
