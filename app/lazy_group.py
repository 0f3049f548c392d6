"""A command group that imports a verb's module only when the verb runs, so that each command starts quickly."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup


class Verb(NamedTuple):
    """A verb that is not imported yet."""

    target: str
    """`module:name` of a command function or of a `typer.Typer`."""
    help: str
    """Its line in the group's help: the first sentence of its own help."""


class LazyGroup(TyperGroup):
    """A group of `verbs`, listed and suggested without importing them."""

    verbs: ClassVar[Mapping[str, Verb]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        # The base class lists and suggests from `commands`; for that a name and a line of help are enough.
        for name, verb in self.verbs.items():
            self.add_command(TyperCommand(name, help=verb.help))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The verb that `args` begin with, imported, and the arguments after it."""
        name, _, rest = super().resolve_command(ctx, args)
        return name, None if name is None else load(self.verbs[name].target), rest


def load(target: str) -> Any:
    """The command that `target` ("module:name") names."""
    module, _, name = target.partition(":")
    loaded = getattr(import_module(module), name)
    if not isinstance(loaded, typer.Typer):
        function, loaded = loaded, typer.Typer(add_completion=False, rich_markup_mode=None)
        loaded.command()(function)
    return typer.main.get_command(loaded)
