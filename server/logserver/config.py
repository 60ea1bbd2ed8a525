"""The server's settings: one frozen record, filled from flags, then LOGSERVER_* variables, then a TOML file.

Each setting is a field with its parser and its help beside it; the flag, the variable and the key of the file follow
from its name: `fetch_wait_ms_max` is `--fetch-wait-ms-max`, `LOGSERVER_FETCH_WAIT_MS_MAX` and
`fetch_wait_ms_max = ...`.
"""

import difflib
import ipaddress
import re
import socket
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

from logserver.errors import InvalidServerConfig
from logstore.config import PARTITIONS_MAX

ENVIRONMENT_PREFIX = "LOGSERVER_"

#: What Kubernetes puts into every pod's environment when a service is named logserver, as NAME=VALUE.
_NOT_SETTINGS = re.compile(r"LOGSERVER_((CONFIG|PORT_\w+|SERVICE_\w+)=.*|PORT=\w+://.*)", re.DOTALL)

#: Words by which others name what is called `listen` here.
_PARTS_OF_LISTEN = frozenset({"port", "host", "address", "addr", "bind", "interface", "ip"})


class Address(NamedTuple):
    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(value: object) -> Address:
    """HOST:PORT, an IPv6 host in brackets. Raises ValueError."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]\s]+):([0-9]{1,5})", str(value))
    if match is None or int(match[2]) > 65535:
        raise ValueError("HOST:PORT, such as 127.0.0.1:7070 or [::1]:7070")
    return Address(match[1].strip("[]"), int(match[2]))


def is_loopback(host: str) -> bool:
    """True when the host can be reached from this machine only. A name is judged by all it resolves to; raises OSError
    or UnicodeError when that is nothing."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return all(ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_loopback for address in found)


def parse_path(value: object) -> Path:
    if not isinstance(value, str) or not value or "\0" in value:
        raise ValueError("a path")
    return Path(value)


def parse_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}
    try:
        return known[str(value).lower()]
    except KeyError:
        raise ValueError("true or false") from None


def whole(least: int, most: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        allowed = f"a whole number from {least} to {most}"
        text = str(value)
        if isinstance(value, bool) or re.fullmatch(r"-?[0-9]{1,18}", text) is None:
            raise ValueError(allowed)
        if not least <= int(text) <= most:
            raise ValueError(allowed)
        return int(text)

    return parse


def one_of(*choices: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return str(value)

    return parse


def _about(parse: Callable[[object], Any], documentation: str) -> dict[str, Any]:
    return {"parse": parse, "documentation": documentation}


_MIB = 1 << 20
_DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    data_dir: Path = field(
        default=Path("./tailrace-data"), metadata=_about(parse_path, "Directory of the logs; created when missing.")
    )
    listen: Address = field(
        default=Address("127.0.0.1", 7070),
        metadata=_about(parse_address, "Where gRPC clients connect. Port 0: any free."),
    )
    advertise: Address | None = field(
        default=None,
        metadata=_about(parse_address, "What clients are told to connect to, where that differs from --listen."),
    )
    kafka_listen: Address | None = field(
        default=None,
        metadata=_about(parse_address, "Where Kafka's clients connect, such as 127.0.0.1:9092. Without it: nowhere."),
    )
    kafka_advertise: Address | None = field(
        default=None,
        metadata=_about(parse_address, "What Kafka's clients are told to connect to, where that differs."),
    )
    allow_insecure_listen: bool = field(
        default=False,
        metadata=_about(
            parse_flag, "Listen beyond this machine, where everyone who connects may read and delete everything."
        ),
    )
    auto_create_topics: bool = field(
        default=True, metadata=_about(parse_flag, "Create a topic when a client first asks for it or produces to it.")
    )
    default_partitions: int = field(
        default=1, metadata=_about(whole(1, PARTITIONS_MAX), "Partitions of a topic created without a number.")
    )
    log_level: str = field(
        default="info", metadata=_about(one_of("debug", "info", "warning", "error"), "Least level that is logged.")
    )

    request_bytes_max: int = field(
        default=16 * _MIB, metadata=_about(whole(64 << 10, 256 * _MIB), "Largest message a client may send.")
    )
    kafka_request_bytes_max: int = field(
        default=100 * _MIB,
        metadata=_about(whole(64 << 10, 1024 * _MIB), "Largest request of a Kafka client: socket.request.max.bytes."),
    )
    kafka_answers_bytes_max: int = field(
        default=32 * _MIB,
        metadata=_about(
            whole(1 * _MIB, 1 << 40),
            "Answers that Kafka clients have not taken yet, of all connections, and as much again of large ones that "
            "are being made: many clients that read slowly need more.",
        ),
    )
    stream_bytes_in_flight_max: int = field(
        default=16 * _MIB,
        metadata=_about(whole(1, 1 << 40), "Unanswered bytes of one stream; reading it pauses there."),
    )
    connection_bytes_in_flight_max: int = field(
        default=64 * _MIB,
        metadata=_about(whole(1, 1 << 40), "Unanswered bytes of one connection, its streams and calls together."),
    )
    total_bytes_in_flight_max: int = field(
        default=256 * _MIB, metadata=_about(whole(1, 1 << 40), "Unanswered bytes of all connections.")
    )
    connection_streams_max: int = field(
        default=1000, metadata=_about(whole(1, 100_000), "Calls one connection may have open at once.")
    )
    concurrent_calls_max: int = field(
        default=20_000, metadata=_about(whole(1, 1_000_000), "Calls open at once in all.")
    )
    dirty_bytes_max: int = field(
        default=64 * _MIB,
        metadata=_about(whole(1 * _MIB, 1 << 40), "Appended bytes waiting for a sync; producers wait there."),
    )
    fetch_bytes_max: int = field(
        default=8 * _MIB, metadata=_about(whole(1, 256 * _MIB), "Largest answer to one fetch.")
    )
    fetch_wait_ms_max: int = field(
        default=60_000, metadata=_about(whole(0, 600_000), "Longest wait of a fetch or of a group's heartbeat.")
    )
    produce_timeout_ms: int = field(
        default=30_000,
        metadata=_about(
            whole(1, 600_000),
            "Longest wait of a producer for room or for a sync, and of who deletes records, when its own deadline is "
            "later.",
        ),
    )
    write_timeout_ms: int = field(
        default=60_000,
        metadata=_about(
            whole(1, 600_000),
            "A stream, or a connection of a Kafka client, that takes nothing of its answers for so long is cut.",
        ),
    )
    stop_grace_ms: int = field(
        default=8_000, metadata=_about(whole(0, 600_000), "Time calls have to end after SIGTERM.")
    )

    retention_interval_ms: int = field(
        default=60_000, metadata=_about(whole(10, _DAY_MS), "Between two looks for segments to delete.")
    )
    compaction_interval_ms: int = field(
        default=15_000,
        metadata=_about(whole(10, _DAY_MS), "Between two looks for logs of compacted topics that are worth a pass."),
    )
    compaction_bytes_per_second: int = field(
        default=32 * _MIB,
        metadata=_about(whole(4096, 1 << 40), "So fast compaction reads and writes, in a process of its own."),
    )
    scrub_interval_ms: int = field(
        default=_DAY_MS,
        metadata=_about(
            whole(0, 3650 * _DAY_MS),
            "After so long, again and again, all sealed segments are read and checked for rot; 0: never.",
        ),
    )
    scrub_bytes_per_second: int = field(
        default=8 * _MIB, metadata=_about(whole(4096, 1 << 40), "So fast, so that the disk is left to others.")
    )
    group_session_timeout_ms: int = field(
        default=45_000, metadata=_about(whole(100, 3_600_000), "A group's member that is silent for so long is out.")
    )
    group_heartbeat_interval_ms: int = field(
        default=5_000, metadata=_about(whole(10, 3_600_000), "What members are told to keep to.")
    )
    group_offsets_retention_ms: int = field(
        default=7 * _DAY_MS,
        metadata=_about(
            whole(-1, 3650 * _DAY_MS),
            "Offsets of a group that has no members are kept for so long, then the group is gone; -1: for ever.",
        ),
    )
    group_total_bytes_max: int = field(
        default=64 * _MIB,
        metadata=_about(
            whole(1 * _MIB, 1 << 40),
            "What the members of all groups may bring together: names, subscriptions, assignments of classic groups.",
        ),
    )
    group_initial_rebalance_delay_ms: int = field(
        default=0,
        metadata=_about(
            whole(0, 600_000), "An empty group of Kafka's classic protocol waits so long for more members to join."
        ),
    )
    group_min_session_timeout_ms: int = field(
        default=6_000, metadata=_about(whole(1, _DAY_MS), "No member of a classic group may ask for a shorter one.")
    )
    group_max_session_timeout_ms: int = field(
        default=1_800_000, metadata=_about(whole(1, _DAY_MS), "No member of a classic group may ask for a longer one.")
    )

    test_clock_ms: int | None = field(
        default=None,
        metadata=_about(
            whole(0, 36500 * _DAY_MS),
            "For tests: the clocks are so far ahead, and go on when standard input, a pipe, says `advance MS`. The "
            "server ends with it.",
        ),
    )

    @property
    def advertised(self) -> Address:
        return self.advertise or self.listen

    def check(self, named: Callable[[str], str]) -> None:
        """Raise InvalidServerConfig for settings that contradict one another. named: what a setting is called where it
        was given."""
        for name, listen, advertise in (
            ("listen", self.listen, self.advertise),
            ("kafka_listen", self.kafka_listen, self.kafka_advertise),
        ):
            if listen is not None:
                self._check_listen(
                    named(name), listen, advertise, "--advertise" if name == "listen" else "--kafka-advertise"
                )
        if self.test_clock_ms is not None and self.allow_insecure_listen:
            raise InvalidServerConfig(
                f"{named('test_clock_ms')} is for tests, and {named('allow_insecure_listen')} for serving others",
                remedy="Leave one of them out.",
            )
        if self.group_heartbeat_interval_ms >= self.group_session_timeout_ms:
            raise InvalidServerConfig(
                f"{named('group_heartbeat_interval_ms')}={self.group_heartbeat_interval_ms} is not below "
                f"{named('group_session_timeout_ms')}={self.group_session_timeout_ms}",
                remedy="Let several heartbeats fit into one session timeout.",
            )
        if self.group_min_session_timeout_ms > self.group_max_session_timeout_ms:
            raise InvalidServerConfig(
                f"{named('group_min_session_timeout_ms')}={self.group_min_session_timeout_ms} is above "
                f"{named('group_max_session_timeout_ms')}={self.group_max_session_timeout_ms}",
                remedy="Leave members something to ask for.",
            )

        if self.kafka_advertise is not None and self.kafka_listen is None:
            raise InvalidServerConfig(
                f"{named('kafka_advertise')}={self.kafka_advertise} says where a door is that is not open",
                remedy=f"Open it with {named('kafka_listen')}, or leave this out.",
            )

    def _check_listen(self, name: str, listen: Address, advertise: Address | None, advertise_flag: str) -> None:
        try:
            is_here_only = is_loopback(listen.host)
        except (OSError, UnicodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no name of a host"
            raise InvalidServerConfig(
                f"{name}={listen} cannot be listened on: the host {listen.host} does not resolve ({why})",
                remedy="Correct the name, or give an address of this machine, such as 127.0.0.1.",
            ) from error
        if not self.allow_insecure_listen and not is_here_only:
            raise InvalidServerConfig(
                f"{name}={listen} can be reached from other machines, and the server has neither encryption nor "
                "authentication",
                remedy="Listen on 127.0.0.1, or allow it with --allow-insecure-listen in a network you trust.",
            )
        if advertise is None and listen.host in ("0.0.0.0", "::"):
            raise InvalidServerConfig(
                f"{name}={listen} is every address of this machine, and none that a client can be told",
                remedy=f"Say with {advertise_flag} HOST:PORT where clients connect.",
            )


def settings() -> tuple[Field[Any], ...]:
    """The fields of ServerConfig, in the order in which help shows them."""
    return fields(ServerConfig)


def means_listen(name: str) -> bool:
    """Whether somebody who wrote a name that no setting has may have meant `listen`: --port, LOGSERVER_HOST."""
    return not _PARTS_OF_LISTEN.isdisjoint(re.split("[-_]", name.lower()))


def _nearest_setting(name: str) -> str | None:
    if means_listen(name):
        return "listen"
    return next(iter(difflib.get_close_matches(name, [setting.name for setting in settings()], n=1)), None)


def load_config(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None) -> ServerConfig:
    """Merge the three sources, flags first. Raises InvalidServerConfig with the setting as it was given, its value
    and what is allowed.

    flags holds what was given on the command line, by field name.
    """
    by_name = {setting.name: setting for setting in settings()}
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    for spell, where, given in (
        (str, f" in {file}", _read_file(file) if file is not None else {}),
        (_variable, "", _read_environment(environment)),
        (_flag, "", flags),
    ):
        for name, value in given.items():
            setting = by_name.get(name)
            if setting is None:
                meant = _nearest_setting(name)
                how = ", as HOST:PORT" if means_listen(name) else ""
                raise InvalidServerConfig(
                    f"{spell(name)}{where} is no setting of the server",
                    remedy=(
                        f"Did you mean {spell(meant)}{how}?"
                        if meant
                        else "Remove it; `logserver --help` shows what there is."
                    ),
                )
            try:
                values[name] = setting.metadata["parse"](value)
            except ValueError as allowed:
                raise InvalidServerConfig(
                    f"{spell(name)}={value!r}{where} is not what it can be", remedy=f"Set it to {allowed}."
                ) from None
            names[name] = spell(name)
    config = ServerConfig(**values)
    config.check(lambda name: names.get(name) or _flag(name))
    return config


def _variable(name: str) -> str:
    return ENVIRONMENT_PREFIX + name.upper()


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _read_file(path: Path) -> Mapping[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise InvalidServerConfig(
            f"the configuration file {path} cannot be read: {error.strerror}", remedy="Correct --config."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidServerConfig(
            f"the configuration file {path} is not TOML: {error}", remedy="Write one `name = value` a line."
        ) from error


def _read_environment(environment: Mapping[str, str]) -> Mapping[str, object]:
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX) and _NOT_SETTINGS.fullmatch(f"{name}={value}") is None
    }
