import socket
from pathlib import Path
from typing import Any

import pytest

from logserver.config import Address, ServerConfig, is_loopback, load_config, parse_address, settings
from logserver.errors import InvalidServerConfig


def write_toml(directory: Path, text: str) -> Path:
    file = directory / "logserver.toml"
    file.write_text(text)
    return file


def test_without_any_source_the_defaults_hold() -> None:
    config = load_config({}, {}, None)
    assert config == ServerConfig()
    assert str(config.listen) == "127.0.0.1:7070"
    assert config.data_dir == Path("./tailrace-data")


def test_a_flag_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    file = write_toml(tmp_path, 'listen = "127.0.0.1:1"\ndata_dir = "from-file"\ndefault_partitions = 3\n')
    config = load_config(
        {"listen": "127.0.0.1:3"}, {"LOGSERVER_LISTEN": "127.0.0.1:2", "LOGSERVER_DATA_DIR": "from-environment"}, file
    )
    assert config.listen == Address("127.0.0.1", 3)
    assert config.data_dir == Path("from-environment")
    assert config.default_partitions == 3


@pytest.mark.parametrize("source", ["flags", "environment", "file"])
def test_an_unknown_setting_is_refused_by_its_name_wherever_it_stands(source: str, tmp_path: Path) -> None:
    flags = {"lisen": "x"} if source == "flags" else {}
    environment = {"LOGSERVER_LISEN": "x"} if source == "environment" else {}
    file = write_toml(tmp_path, 'lisen = "x"\n') if source == "file" else None
    named = {"flags": "--lisen", "environment": "LOGSERVER_LISEN", "file": f"lisen in {file}"}[source]
    meant = {"flags": "--listen", "environment": "LOGSERVER_LISTEN", "file": "listen"}[source]
    with pytest.raises(InvalidServerConfig) as refused:
        load_config(flags, environment, file)
    assert str(refused.value) == f"{named} is no setting of the server"
    assert refused.value.remedy == f"Did you mean {meant}?"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data-dir", "Did you mean data_dir?"),
        ("retention_ms_interval", "Did you mean retention_interval_ms?"),
        ("port", "Did you mean listen, as HOST:PORT?"),
        ("bind_address", "Did you mean listen, as HOST:PORT?"),
        ("zookeeper", "Remove it;"),
    ],
)
def test_an_unknown_setting_is_answered_with_the_nearest_known_one(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(InvalidServerConfig) as refused:
        load_config({}, {}, write_toml(tmp_path, f'{name} = "7070"\n'))
    assert refused.value.remedy.startswith(said)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("listen", "7070"),
        ("listen", "localhost"),
        ("listen", "127.0.0.1:65536"),
        ("listen", "::1:7070"),
        ("data_dir", ""),
        ("data_dir", "a\0b"),
        ("auto_create_topics", "maybe"),
        ("default_partitions", "0"),
        ("default_partitions", "-1"),
        ("default_partitions", "1.5"),
        ("default_partitions", "9" * 30),
        ("fetch_wait_ms_max", "600001"),
        ("log_level", "loud"),
    ],
)
def test_a_bad_value_is_refused_with_the_value_and_what_is_allowed(name: str, value: str) -> None:
    with pytest.raises(InvalidServerConfig) as refused:
        load_config({}, {f"LOGSERVER_{name.upper()}": value}, None)
    assert str(refused.value) == f"LOGSERVER_{name.upper()}={value!r} is not what it can be"
    assert refused.value.remedy.startswith("Set it to ")


def test_a_bad_value_is_told_with_the_name_it_was_given_by(tmp_path: Path) -> None:
    with pytest.raises(InvalidServerConfig, match=r"^--log-level='loud' is not"):
        load_config({"log_level": "loud"}, {"LOGSERVER_LOG_LEVEL": "info"}, None)
    file = write_toml(tmp_path, 'log_level = "loud"')
    with pytest.raises(InvalidServerConfig, match=r"^log_level='loud' in .*logserver\.toml is not"):
        load_config({}, {}, file)


def test_what_kubernetes_sets_for_a_service_of_our_name_is_no_setting_of_ours() -> None:
    environment = {
        "LOGSERVER_PORT": "tcp://10.0.0.1:7070",
        "LOGSERVER_PORT_7070_TCP_ADDR": "10.0.0.1",
        "LOGSERVER_SERVICE_HOST": "10.0.0.1",
    }
    assert load_config({}, environment, None) == ServerConfig()


def test_a_port_that_somebody_sets_is_not_taken_for_what_kubernetes_sets() -> None:
    with pytest.raises(InvalidServerConfig) as refused:
        load_config({}, {"LOGSERVER_PORT": "7070"}, None)
    assert refused.value.remedy == "Did you mean LOGSERVER_LISTEN, as HOST:PORT?"


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidServerConfig, match="cannot be read"):
        load_config({}, {}, tmp_path / "nowhere.toml")
    with pytest.raises(InvalidServerConfig, match="not TOML"):
        load_config({}, {}, write_toml(tmp_path, "listen: yes"))


@pytest.mark.parametrize("host", ["192.0.2.1", "0.0.0.0", "[::]", "[2001:db8::1]"])
def test_listening_beyond_this_machine_must_be_allowed_in_words(host: str) -> None:
    flags = {"listen": f"{host}:7070", "advertise": "logs.example:7070"}
    with pytest.raises(InvalidServerConfig, match="other machines") as refused:
        load_config(flags, {}, None)
    assert "--allow-insecure-listen" in refused.value.remedy
    assert load_config(flags | {"allow_insecure_listen": True}, {}, None).advertised == Address("logs.example", 7070)


@pytest.mark.parametrize("allowed", [True, False])
@pytest.mark.parametrize("name", ["listen", "kafka_listen"])
@pytest.mark.parametrize(
    ("host", "why"), [("nowhere.invalid", "not known"), ("a..b", "no name of a host")], ids=["unknown", "no-name"]
)
def test_a_host_that_does_not_resolve_is_told_as_that(
    monkeypatch: pytest.MonkeyPatch, name: str, host: str, why: str, allowed: bool
) -> None:
    def resolve(asked: str, *_: object, **__: object) -> Any:
        host.encode("idna")
        if asked == host:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return []

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with pytest.raises(InvalidServerConfig, match="does not resolve") as refused:
        load_config({name: f"{host}:9092", "allow_insecure_listen": allowed}, {}, None)
    flag = "--" + name.replace("_", "-")
    assert str(refused.value).startswith(f"{flag}={host}:9092 cannot be listened on: the host {host} ")
    assert why in str(refused.value)
    assert "other machines" not in str(refused.value)
    assert "Correct the name" in refused.value.remedy


def test_answers_that_wait_have_room_for_one_at_least() -> None:
    with pytest.raises(InvalidServerConfig, match="--kafka-answers-bytes-max="):
        load_config({"kafka_answers_bytes_max": str((1 << 20) - 1)}, {}, None)
    assert load_config({"kafka_answers_bytes_max": str(1 << 20)}, {}, None).kafka_answers_bytes_max == 1 << 20


def test_the_help_says_of_both_doors_that_who_takes_nothing_is_cut() -> None:
    [said] = [setting.metadata["documentation"] for setting in settings() if setting.name == "write_timeout_ms"]
    assert "stream" in said
    assert "Kafka" in said


def test_listening_everywhere_needs_an_address_that_clients_can_be_told() -> None:
    with pytest.raises(InvalidServerConfig) as refused:
        load_config({"listen": "0.0.0.0:7070", "allow_insecure_listen": "true"}, {}, None)
    assert "--advertise" in refused.value.remedy


def test_to_advertise_a_door_that_is_not_open_is_refused() -> None:
    with pytest.raises(InvalidServerConfig, match=r"--kafka-advertise=logs\.example:9092 says") as refused:
        load_config({"kafka_advertise": "logs.example:9092"}, {}, None)
    assert "--kafka-listen" in refused.value.remedy
    assert load_config({"kafka_advertise": "logs.example:9092", "kafka_listen": "127.0.0.1:9092"}, {}, None)


def test_heartbeats_slower_than_the_session_are_refused() -> None:
    with pytest.raises(InvalidServerConfig, match="--group-heartbeat-interval-ms=5000 is not below") as refused:
        load_config({}, {"LOGSERVER_GROUP_SESSION_TIMEOUT_MS": "5000"}, None)
    assert str(refused.value).endswith("LOGSERVER_GROUP_SESSION_TIMEOUT_MS=5000")


def test_session_timeouts_of_which_none_is_allowed_are_refused() -> None:
    with pytest.raises(InvalidServerConfig, match="--group-min-session-timeout-ms=2000 is above"):
        load_config({"group_min_session_timeout_ms": "2000", "group_max_session_timeout_ms": "1000"}, {}, None)


def test_loopback_is_judged_by_all_that_a_name_resolves_to() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("127.8.9.10")
    assert is_loopback("::1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")


def test_an_address_reads_back_as_it_is_written() -> None:
    for text in ("127.0.0.1:7070", "[::1]:7070", "localhost:0"):
        assert str(parse_address(text)) == text


def test_every_setting_has_its_help_and_its_default_passes_its_own_check() -> None:
    for setting in settings():
        assert setting.metadata["documentation"].endswith(".")
        if setting.default is not None:
            parsed = setting.metadata["parse"](
                setting.default if isinstance(setting.default, bool) else str(setting.default)
            )
            assert parsed == setting.default


def test_the_clock_of_tests_is_not_for_a_server_that_others_reach() -> None:
    with pytest.raises(InvalidServerConfig, match="--test-clock-ms is for tests, and LOGSERVER_ALLOW_INSECURE_LISTEN"):
        load_config({"test_clock_ms": "0"}, {"LOGSERVER_ALLOW_INSECURE_LISTEN": "yes"}, None)
