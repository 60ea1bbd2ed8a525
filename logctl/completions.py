"""What a shell is offered for the name of a topic or a group: those that the server has."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import click

from logctl.options import Settings

if TYPE_CHECKING:
    from tailrace import Admin

#: For the first answer of a server: somebody is typing.
CONNECT_SECONDS_MAX = 1.0


def complete_topics(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return _offered(ctx, incomplete, lambda admin: (listing.topic for listing in admin.list_topics()))


def complete_groups(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return _offered(ctx, incomplete, lambda admin: (listing.group for listing in admin.list_groups()))


def _offered(ctx: click.Context, incomplete: str, names: Callable[["Admin"], Iterable[str]]) -> list[str]:
    from tailrace import Admin, TailraceError

    server = ctx.ensure_object(Settings).server
    try:
        with Admin(server=server, connect_timeout=CONNECT_SECONDS_MAX) as admin:
            return [name for name in names(admin) if name.startswith(incomplete)]
    except TailraceError:  # no server, nothing to offer; there is nowhere to say so while a line is being typed
        return []
