"""The command line as it is typed: help, examples, options anywhere, bad usage. No server is needed."""

import json
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import click
import pytest

from logctl.completions import complete_groups, complete_topics
from logctl.main import PROGRAM, logctl, run
from logctl.options import Command, Settings
from tests.processes import ENVIRONMENT, program


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    if isinstance(command, click.Group):
        for name, child in command.commands.items():
            yield from leaves(child, (*path, name))
    else:
        yield path, command


LEAVES = dict(leaves(logctl))
GROUPS = [command for command in logctl.commands.values() if isinstance(command, click.Group)]


def parse(line: str) -> tuple[click.Context, Settings]:
    """The innermost context of a command line, without running anything."""
    settings = Settings()
    arguments = shlex.split(line)
    assert arguments.pop(0) == PROGRAM
    context = logctl.make_context(PROGRAM, arguments, obj=settings)
    while isinstance(context.command, click.Group):
        assert context.command.name is not None
        arguments = [*context._protected_args, *context.args]
        name, child, rest = context.command.resolve_command(context, arguments)
        assert child is not None
        context = child.make_context(name, rest, parent=context)
    return context, settings


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_every_verb_has_help_with_examples_that_parse(
    path: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("flights.csv", "events.jsonl", "notes.txt"):
        (tmp_path / name).touch()
    command = LEAVES[path]
    assert isinstance(command, Command)
    assert command.help
    assert command.examples
    for example in command.examples:
        if example.startswith("eval"):
            continue
        # What stands before and after it on a pipe is the shell's.
        ours = next(part.strip() for part in example.split("|") if part.strip().startswith(PROGRAM))
        context, _ = parse(ours)
        context.close()


@pytest.mark.parametrize("path", LEAVES, ids=" ".join)
def test_help_shows_the_examples_as_they_are_typed(path: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*path, "--help"]) == 0
    shown = capsys.readouterr().out
    command = LEAVES[path]
    assert isinstance(command, Command)
    for example in command.examples:
        assert example in shown


@pytest.mark.parametrize("command", [logctl, *GROUPS], ids=lambda command: command.name)
def test_the_lists_of_commands_fit_a_terminal(command: click.Group) -> None:
    listed = command.get_help(click.Context(command, info_name=PROGRAM, terminal_width=80)).partition("Commands:")[2]
    assert "..." not in listed


def test_every_option_is_explained() -> None:
    for path, command in LEAVES.items():
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.help, f"{param.name} of {' '.join(path)}"


@pytest.mark.parametrize("place", range(4))
def test_server_and_json_stand_anywhere_on_the_line(place: int) -> None:
    words = ["logctl", "topics", "describe", "flights"]
    words[place + 1 : place + 1] = ["--server", "example.org:7171", "--json"]
    _, settings = parse(" ".join(words))
    assert settings.server == "example.org:7171"
    assert settings.output.as_json


def test_the_innermost_server_wins() -> None:
    _, settings = parse("logctl --server a:1 topics --server b:2 list --server c:3")
    assert settings.server == "c:3"
    _, settings = parse("logctl --server a:1 topics list")
    assert settings.server == "a:1"


@pytest.mark.parametrize("address", ["", "localhost", "a:0", "http://a:1"])
def test_a_server_that_is_no_address_is_bad_usage(address: str) -> None:
    assert run(["--server", address, "topics", "list"]) == 2


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("topics", "Missing command."),
        ("topics list extra", "unexpected extra argument"),
        ("topics create", "Missing argument 'TOPIC'"),
        ("topics create t --partitions 0", "0 is less than 1"),
        ("topics create t --partitions -3", "-3 is less than 1"),
        ("topics create t --partitions 99999999999", "is more than 2147483647"),
        ("topics create t --partitions four", "'four' is not a whole number"),
        ("topics create t --config retention.ms", "is not NAME=VALUE"),
        ("topics alter t", "Nothing to alter."),
        ("topics delete t", "needs --yes"),
        ("topics delete-records t --before end", "needs --yes"),
        ("topics delete-records t", "Missing option '--before'"),
        ("topics delete-records t --before beginning", "nothing is before the beginning"),
        ("topics delete-records t --before -1", "'-1' is none of"),
        ("groups delete g", "needs --yes"),
        ("produce", "Missing argument 'TOPIC'"),
        ("produce t --format xml", "xml"),
        ("produce t no-such-file.txt", "no-such-file.txt"),
        ("produce t --acks 2", "2"),
        ("produce t --key-separator ''", "--key-separator"),
        ("produce t --format csv --key-separator TAB", "--key-separator"),
        ("produce t --format text --key-field k", "--key-field"),
        ("produce t --format text --time-field k", "--time-field"),
        ("produce t --format csv --key-separator TAB --key-field k", "--key-separator"),
        ("consume", "Missing argument 'TOPIC'"),
        ("consume t --from yesterday", "'yesterday' is none of `beginning`"),
        ("consume t --from -1", "'-1' is none of"),
        ("consume t --from 99999999999999999999", "larger than any"),
        ("consume t --from 2013-02-30", "2013-02-30"),
        ("consume t --max 0", "0 is less than 1"),
        ("consume t --partition -1", "-1 is less than 0"),
        ("seek --group g --topic t", "Where to?"),
        ("seek --group g --topic t --to-end --to-beginning", "Where to?"),
        ("seek --group g --topic t --offset 1 --shift-by 1", "Where to?"),
        ("seek --group g --topic t --offset -1", "-1 is less than 0"),
        ("seek --group g --topic t --to-time 7", "'7' is not a time"),
        ("seek --group g --topic t --to-time end", "'end' is not a time"),
        ("seek --group g --to-end", "Missing option '--topic'"),
        ("demo --server localhost:7070", "a server of its own"),
        ("completion tcsh", "tcsh"),
        ("completion", "Missing argument 'bash|zsh|fish'. Choose from: bash, zsh, fish"),
        ("nonsense", "No such command 'nonsense'"),
        ("topics list --nonsense", "--nonsense"),
    ],
)
def test_bad_usage_says_what_and_how_and_exits_with_two(
    line: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*shlex.split(line), "--json"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    error = json.loads(told.err)["error"]
    assert set(error) == {"code", "message", "remedy", "retriable"}
    assert error["code"] == "BAD_USAGE"
    assert sentence in error["message"]
    assert error["remedy"]
    assert error["retriable"] is False

    assert run(shlex.split(line)) == 2
    told = capsys.readouterr()
    assert told.out == ""
    if sentence != "Missing command.":  # there, people get the help
        assert f"error: {error['message']}\n       {error['remedy']}\n" == told.err


def test_a_verb_that_is_missing_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["topics"]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_a_server_in_the_environment_that_is_no_address_is_bad_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TAILRACE_SERVER", "nonsense")
    assert run(["topics", "list", "--json"]) == 2
    assert "TAILRACE_SERVER='nonsense'" in json.loads(capsys.readouterr().err)["error"]["message"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script_for_the_shell(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == 0
    assert "_LOGCTL_COMPLETE" in capsys.readouterr().out


def test_completion_offers_verbs_and_options() -> None:
    def offered(*words: str) -> list[str]:
        environment = ENVIRONMENT | {
            "_LOGCTL_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("logctl", *words)),
            "COMP_CWORD": str(len(words)),
        }
        done = subprocess.run(program("logctl.main"), capture_output=True, text=True, check=True, env=environment)
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert {"topics", "produce", "consume", "groups", "seek", "demo"} <= set(offered(""))
    assert offered("topics", "de") == ["delete", "delete-records", "describe"]
    assert offered("seek", "--to-b") == ["--to-beginning"]


@pytest.mark.parametrize("complete", [complete_topics, complete_groups])
def test_completion_does_not_keep_who_types_waiting_for_a_server(complete: Callable[..., list[str]]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        context = click.Context(logctl, obj=Settings(server=f"127.0.0.1:{silent.getsockname()[1]}"))
        started = time.monotonic()
        assert complete(context, click.Argument(["topic"]), "") == []
        assert time.monotonic() - started < 3  # 1, and 4.5 for a command


def test_the_version_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("logctl ")


def test_help_loads_neither_the_client_nor_grpc_nor_rich() -> None:
    timed = [sys.executable, "-X", "importtime", *program("logctl.main")[1:], "--help"]
    done = subprocess.run(timed, capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert "Usage: logctl" in done.stdout
    assert not any(name in done.stderr for name in ("grpc", "rich", "tailrace.", "hypothesis"))


def test_ctrl_c_while_it_is_being_loaded_ends_it_without_a_word() -> None:
    interrupted = """
import sys

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "logctl.topics":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from logctl.main import main
main()
"""
    ended = subprocess.run([sys.executable, "-c", interrupted], env=ENVIRONMENT, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_a_server_that_is_not_there_is_exit_code_three() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))  # bound, and nobody listens
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        lines = (
            "topics list",
            "topics delete t --yes",
            "topics delete-records t --before end --yes",
            "produce t",
            "consume t --exit-at-end",
            "consume t --group g",
            "seek --group g --topic t --to-end",
        )
        started = time.monotonic()
        running = [
            subprocess.Popen(
                [*program("logctl.main"), *line.split(), "--server", address, "--json"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=ENVIRONMENT,
            )
            for line in lines
        ]
        for line, process in zip(lines, running, strict=True):
            out, err = process.communicate()
            assert (process.returncode, out) == (3, b""), line
            error = json.loads(err)["error"]
            assert error["code"] == "SERVER_UNREACHABLE"
            assert address in error["message"]
            assert error["retriable"] is True
    assert time.monotonic() - started < 60  # 5 s each at the same time: nothing waits for ever


@pytest.mark.parametrize(
    "line",
    [
        "topics create 'two words'",
        "topics describe 'two words'",
        "topics delete 'two words' --yes",
        "topics delete-records 'two words' --before end --yes",
        "produce 'two words' /dev/null",
        "consume 'two words'",
        "seek --group g --topic 'two words' --to-end",
    ],
)
def test_a_name_that_no_topic_can_have_is_refused_without_a_server(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*shlex.split(line), "--server", "127.0.0.1:1", "--json"]) == 1
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["retriable"]) == ("INVALID_TOPIC", False)
    assert "'two words' cannot be the name of a topic" in error["message"]
