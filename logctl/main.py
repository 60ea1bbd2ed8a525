"""The program: the tree of commands, and how every one of them ends."""

import sys

try:
    import os
    import signal
    from collections.abc import Sequence
    from importlib.metadata import PackageNotFoundError, version
    from types import FrameType

    import click
    from click.shell_completion import get_completion_class, shell_complete

    from logctl.demo.command import demo
    from logctl.errors import ExitCode, Terminated, failure_of
    from logctl.groups import groups, seek
    from logctl.options import Command, Group, Settings
    from logctl.records import consume, produce
    from logctl.segments.command import segments
    from logctl.streams import discard, open_closed, tell
    from logctl.topics import topics
except KeyboardInterrupt:
    sys.exit(130)  # Whoever changes his mind at once is not shown where the imports were.

PROGRAM = "logctl"
COMPLETION_VARIABLE = "_LOGCTL_COMPLETE"


def _show_version(context: click.Context, param: click.Parameter, value: bool) -> None:
    if value:
        try:
            installed = version("tailrace")
        except PackageNotFoundError:
            installed = "unknown"  # a checkout that is not installed
        click.echo(f"{PROGRAM} {installed}")
        context.exit()


@click.group(
    cls=Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    examples=[
        "logctl topics create flights --partitions 4",
        "logctl produce flights flights.csv --key-field tail --time-field departed",
        "logctl consume flights --group dashboard",
        "logctl seek --group dashboard --topic flights --to-time ago:1h",
        'eval "$(logctl completion bash)"',
    ],
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show it, and exit."
)
def logctl() -> None:
    """Tailrace on the command line: topics, records and consumer groups.

    --server and --json go anywhere on the line.

    \b
    Exit codes: 0 done, 1 refused or failed in part, 2 bad usage, 3 cannot
    connect, 4 timed out, 130 interrupted by Ctrl-C.
    """


@logctl.command(cls=Command, examples=['eval "$(logctl completion bash)"', "logctl completion fish | source"])
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script.

    It completes commands, options, and the names of topics and groups that the server has.
    """
    completion_class = get_completion_class(shell)
    assert completion_class is not None, "click knows the three shells"
    click.echo(completion_class(logctl, {}, PROGRAM, COMPLETION_VARIABLE).source())


for command in (topics, produce, consume, groups, seek, segments, demo):
    logctl.add_command(command)


def main() -> None:
    open_closed()
    signal.signal(signal.SIGTERM, _terminate)
    if instruction := os.environ.get(COMPLETION_VARIABLE):
        sys.exit(shell_complete(logctl, {}, PROGRAM, COMPLETION_VARIABLE, instruction))
    status = run(sys.argv[1:])
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # who presses Ctrl-C while the interpreter ends wants no traceback
    sys.exit(status)


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line and return its exit code. Errors have been told."""
    settings = Settings()
    status: int = ExitCode.DONE
    try:
        status = _invoke(arguments, settings)
        sys.stdout.flush()
    except (KeyboardInterrupt, click.Abort) as ended:
        tell(sys.stdout, "")
        if not isinstance(ended, Terminated):
            tell(sys.stderr, "\n")
        if isinstance(ended.__cause__, Exception) and (failure := failure_of(ended.__cause__)):
            failure.write(sys.stderr, as_json=settings.output.as_json)  # what it leaves open
        return 128 + signal.SIGTERM if isinstance(ended, Terminated) else ExitCode.INTERRUPTED
    except BrokenPipeError:
        discard(sys.stdout)  # whoever read us has what it wanted
    except Exception as error:
        failure = failure_of(error)
        if failure is None:
            raise
        tell(sys.stdout, "")  # what was said before
        as_json = settings.output.as_json or "--json" in arguments  # bad usage may stop the parser before it gets there
        if isinstance(error, click.exceptions.NoArgsIsHelpError) and not as_json:
            error.show()  # the help, on stderr
        else:
            failure.write(sys.stderr, as_json=as_json)
        return failure.exit_code
    return status


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _invoke(arguments: Sequence[str], settings: Settings) -> int:
    try:
        with logctl.make_context(PROGRAM, list(arguments), obj=settings) as context:
            logctl.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    return ExitCode.DONE


if __name__ == "__main__":
    main()
