"""What the program `logserver` does: settings, signals, exit codes.

0  stopped by a signal, everything synced      1  the directory, the port or the disk does not allow it
2  a setting is wrong                          130, 143  SIGINT or SIGTERM came before it was ready
"""

import gc
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from stat import S_ISFIFO
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from logserver.config import ENVIRONMENT_PREFIX, ServerConfig, load_config, means_listen, settings
from logserver.errors import InvalidServerConfig
from logserver.main import EXIT_REFUSED, STOPPING

if TYPE_CHECKING:
    from logserver.moved_time import MovedClock

EXIT_USAGE = 2

#: A thread that computes gives way to the loop after this long, instead of the usual 5 ms.
_SWITCH_INTERVAL_S = 0.0001

#: What is imported where it is needed: here, and by what is named here.
_LOADED_LATE = (
    "logserver.logging_setup",
    "logserver.server",
    "logserver.kafka.server",
    "logserver.moved_time",
    "grpc_reflection.v1alpha.reflection",
    "encodings.idna",  # by asyncio, for addresses
)
#: What a server imports when it is ready, before somebody would wait for it. Its libraries have to be there from the
#: start.
_LOADED_LAST = "logstore.arrays"
_LIBRARIES_LOADED_LAST = ("numpy", "mmap_ninja")


class _Command(click.Command):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if not means_listen(error.option_name):
                raise
            hint = f"No such option {error.option_name!r}. Did you mean '--listen HOST:PORT'?"
            raise click.NoSuchOption(error.option_name, hint, ctx=ctx) from None


def run() -> None:
    command = _Command(
        "logserver",
        params=[*_options()],
        callback=_start,
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
    options.append(
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="Show the version and exit.",
        )
    )
    return options


def _show_version(context: click.Context, option: click.Parameter, asked: bool) -> None:
    if asked:
        from logserver.version import server_version  # What reads it takes longer to import than all of click.

        click.echo(f"logserver, version {server_version()}")
        context.exit()


def _option(setting: Any) -> click.Option:
    name = "--" + setting.name.replace("_", "-")
    documentation = setting.metadata["documentation"]
    if setting.default is False or setting.default is True:
        declared = name if setting.default is False else f"{name}/--no-{name[2:]}"
        shown = " [default: on]" if setting.default else " [default: off]"
        return click.Option([declared], default=None, is_flag=True, help=documentation + shown)
    default = "" if setting.default is None else f" [default: {setting.default}]"
    return click.Option([name], default=None, metavar="VALUE", help=documentation + default)


def _start(**flags: object) -> None:
    os.umask(0o077)
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    given = {name: value for name, value in flags.items() if value is not None}
    file = given.pop("config", None) or os.environ.get(ENVIRONMENT_PREFIX + "CONFIG")
    try:
        config = load_config(given, os.environ, Path(str(file)) if file is not None else None)
        if config.test_clock_ms is not None and not S_ISFIFO(os.fstat(sys.stdin.fileno()).st_mode):
            raise InvalidServerConfig(
                "the clock of tests is moved through standard input, and that is no pipe",
                remedy="Leave --test-clock-ms out, or start the server from a program that keeps the pipe open.",
            )
    except InvalidServerConfig as error:
        _refuse(error, error.remedy, EXIT_USAGE)
    # Only now what is heavy: a wrong flag and --help answer at once.
    _restrain_libraries()
    for name in _LIBRARIES_LOADED_LAST:
        if find_spec(name) is None:
            raise ModuleNotFoundError(name=name)
    from logserver.logging_setup import configure_logs
    from logstore.errors import ExplainedError

    configure_logs(config.log_level)
    try:
        status = _run(config)
    except ExplainedError as error:
        _refuse(error, error.remedy, EXIT_REFUSED)
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)  # All is done, and Python is still ending.
    sys.exit(status)


def load() -> None:
    """Import all that a server with both doors and moved time takes, and start nothing: neither thread nor loop.

    A process that has done only this can be forked into servers.
    """
    _restrain_libraries()
    for name in _LOADED_LATE:
        import_module(name)


def load_last() -> None:
    """Import what nobody waits for while a server starts."""
    import_module(_LOADED_LAST)


def _restrain_libraries() -> None:
    """Before they are imported: they are to load, to start and to print only what somebody needs."""
    # What is loaded only because it is installed takes as long as half the rest.
    unused = ["hypothesis"]  # kio registers strategies with it
    if not sys.stderr.isatty():
        unused.append("rich")  # structlog colours tracebacks with it
    for name in unused:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # Importing it raises ModuleNotFoundError.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy searches here, and would start a thread per processor.
    os.environ.setdefault(
        "GRPC_VERBOSITY", "NONE"
    )  # Read when grpc is imported. What fails is told once, by the server.


async def _serve(config: ServerConfig, clock: "MovedClock | None" = None) -> int:
    """Serve until a signal comes. Returns the status to end with."""
    import asyncio

    from logserver.server import Server

    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        """Let a start come to its end, and then to a clean stop. Who asks twice does not want to wait for that."""
        if came:
            os._exit(128 + number)
        came.append(number)

    for number in STOPPING:
        signal.signal(number, note)
    async with Server(config, _die, clock) as server:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in STOPPING:
            loop.add_signal_handler(number, stop.set)
        if came:
            return 128 + came[0]
        kafka = "" if server.kafka_address is None else f" kafka={server.kafka_address}"
        click.echo(f"logserver ready: grpc={server.grpc_address}{kafka} data={_shown(config.data_dir)}")
        await loop.run_in_executor(None, load_last)
        gc.freeze()
        gc.enable()
        if clock is None:
            await stop.wait()
        else:
            from logserver.moved_time import obey_standard_input

            obeying = asyncio.create_task(obey_standard_input(clock, server.broker.catch_up))
            await stop.wait()
            obeying.cancel()
    return 0


def _shown(path: Path) -> str:
    """As a shell takes it: one below the working directory begins with ./."""
    return str(path) if path.is_absolute() or path.parts[:1] == ("..",) else f"./{path}"


def _run(config: ServerConfig) -> int:
    run: Callable[[Coroutine[Any, Any, int]], int]
    if config.test_clock_ms is not None:
        import asyncio

        from logserver.moved_time import MovedClock, MovedLoop

        clock = MovedClock(config.test_clock_ms)
        with asyncio.Runner(loop_factory=lambda: MovedLoop(clock)) as runner:
            return runner.run(_serve(config, clock))
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    return run(_serve(config))


def _die(failure: BaseException) -> None:
    """End at once: after a failed write or sync nobody may be told that something is safe."""
    import structlog

    structlog.get_logger().critical("the disk failed; ending without acknowledging anything", exc_info=failure)
    sys.stderr.flush()
    os._exit(EXIT_REFUSED)


def _refuse(error: Exception, remedy: str, status: int) -> None:
    click.echo(f"logserver: {error}. {remedy}", err=True)
    sys.exit(status)
