"""`logctl demo`."""

import click

from logctl.errors import BadUsage, ExitCode
from logctl.options import Command, Settings


@click.command(cls=Command, examples=["logctl demo"])
@click.pass_context
def demo(context: click.Context) -> None:
    """Show it all at work, on real flights and a private server.

    12,126 flights that left New York in January 2013 go into a topic of four partitions, keyed by aircraft. A group of
    two reads them; one member is killed half-way, then the server, both with kill -9. Then the group is sent back in
    time. What was sent is compared with what was stored, read and replayed; exit code 1 when anything differs.

    It takes about 12 seconds, works in a temporary directory and touches no other server.
    """
    from logctl.demo.story import play

    settings = context.ensure_object(Settings)
    if settings.server is not None:
        raise BadUsage("The demo runs on a server of its own.", remedy="Leave --server out.")
    if not play(as_json=settings.output.as_json):
        context.exit(ExitCode.REFUSED)
