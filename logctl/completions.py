"""What a shell is offered for the name of a topic or a group: those that the server has."""

import click

from logctl.options import Settings


def complete_topics(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from tailrace import Admin, TailraceError

    try:
        with Admin(server=_server(ctx)) as admin:
            names = [listing.topic for listing in admin.list_topics()]
    except TailraceError:  # no server, nothing to offer; there is nowhere to say so while a line is being typed
        return []
    return [name for name in names if name.startswith(incomplete)]


def complete_groups(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    from tailrace import Admin, TailraceError

    try:
        with Admin(server=_server(ctx)) as admin:
            names = [listing.group for listing in admin.list_groups()]
    except TailraceError:
        return []
    return [name for name in names if name.startswith(incomplete)]


def _server(ctx: click.Context) -> str | None:
    return ctx.ensure_object(Settings).server
