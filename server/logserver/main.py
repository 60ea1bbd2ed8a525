"""The program `logserver`: settings, signals, exit codes.

0  stopped by a signal, everything synced      1  the directory, the port or the disk does not allow it
2  a setting is wrong
"""

import os
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import click

from logserver.config import ENVIRONMENT_PREFIX, ServerConfig, load_config, means_listen, settings
from logserver.errors import InvalidServerConfig
from logserver.version import server_version

EXIT_REFUSED = 1
EXIT_USAGE = 2

#: A thread that computes gives way to the loop after this long, instead of the usual 5 ms.
_SWITCH_INTERVAL_S = 0.0001


#: What the extra `server` brings; without it only the client's and the tool's dependencies are there.
_SERVER_MODULES = frozenset({"structlog", "uvloop", "numpy", "mmap_ninja", "grpc_health", "grpc_reflection"})


def main() -> None:
    try:
        _main()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _SERVER_MODULES:
            raise
        missing = f"the server's dependencies are not installed ({error.name} is missing)"
        click.echo(f"logserver: {missing}. Install them with: pip install 'tailrace[server]'", err=True)
        sys.exit(EXIT_REFUSED)


class _Command(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if not means_listen(error.option_name):
                raise
            hint = f"No such option {error.option_name!r}. Did you mean '--listen HOST:PORT'?"
            raise click.NoSuchOption(error.option_name, hint, ctx=ctx) from None


def _main() -> None:
    command = _Command(
        "logserver",
        params=[*_options()],
        callback=_run,
        help=(
            "Serve topics, groups and records from one data directory.\n\nEvery option can also be given as "
            f"{ENVIRONMENT_PREFIX}NAME in the environment, or as `name = value` in the TOML file of --config; an "
            "option on the command line wins over the environment, and that over the file."
        ),
        epilog="SIGTERM stops cleanly: open calls are finished and everything is synced.",
    )
    command.main()


def _options() -> list[click.Option]:
    options = [
        click.Option(["--config"], type=click.Path(path_type=Path), help="TOML file of settings."),
        *map(_option, settings()),
    ]
    version = click.version_option(server_version(), prog_name="logserver")

    @version
    def carrier() -> None: ...

    options.extend(carrier.__click_params__)  # type: ignore[attr-defined]
    return options


def _option(setting: Any) -> click.Option:
    name = "--" + setting.name.replace("_", "-")
    documentation = setting.metadata["documentation"]
    if setting.default is False or setting.default is True:
        declared = name if setting.default is False else f"{name}/--no-{name[2:]}"
        shown = " [default: on]" if setting.default else " [default: off]"
        return click.Option([declared], default=None, is_flag=True, help=documentation + shown)
    default = "" if setting.default is None else f" [default: {setting.default}]"
    return click.Option([name], default=None, metavar="VALUE", help=documentation + default)


def _run(**flags: object) -> None:
    os.umask(0o077)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    given = {name: value for name, value in flags.items() if value is not None}
    file = given.pop("config", None) or os.environ.get(ENVIRONMENT_PREFIX + "CONFIG")
    try:
        config = load_config(given, os.environ, Path(str(file)) if file is not None else None)
    except InvalidServerConfig as error:
        _refuse(error, error.remedy, EXIT_USAGE)
    # Only now what is heavy: a wrong flag and --help answer at once.
    from logserver.logging_setup import configure_logs
    from logstore.errors import ExplainedError

    configure_logs(config.log_level)
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # Read when grpc is imported. What fails is told below, once.
    try:
        _run_loop(_serve(config))
    except ExplainedError as error:
        _refuse(error, error.remedy, EXIT_REFUSED)
    except KeyboardInterrupt:
        sys.exit(130)  # Before the server was ready: later on it is a signal like SIGTERM.


async def _serve(config: ServerConfig) -> None:
    import asyncio
    import signal

    from logserver.server import Server

    async with Server(config, _die) as server:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        click.echo(f"logserver ready: grpc={server.grpc_address} data={_shown(config.data_dir)}")
        await stop.wait()


def _shown(path: Path) -> str:
    """As a shell takes it: one below the working directory begins with ./."""
    return str(path) if path.is_absolute() or path.parts[:1] == ("..",) else f"./{path}"


def _run_loop(serving: Coroutine[Any, Any, None]) -> None:
    run: Callable[[Coroutine[Any, Any, None]], None]
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    run(serving)


def _die(failure: BaseException) -> None:
    """End at once: after a failed write or sync nobody may be told that something is safe."""
    import structlog

    structlog.get_logger().critical("the disk failed; ending without acknowledging anything", exc_info=failure)
    sys.stderr.flush()
    os._exit(EXIT_REFUSED)


def _refuse(error: Exception, remedy: str, status: int) -> None:
    click.echo(f"logserver: {error}. {remedy}", err=True)
    sys.exit(status)
