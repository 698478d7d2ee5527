"""A configuration is right, or every mistake in it is named."""
# ruff: noqa: E501  (the table of mistakes reads best one line each)

from __future__ import annotations

from pathlib import Path

import pytest

from collector import config
from collector.config import ConfigError

GOOD = """
[spool]
directory = "spool"

[[clients]]
name = "acme"
hostnames = ["acme-*"]

[[clients]]
name = "globex"

[[listeners]]
name = "acme-tcp"
transport = "tcp"
port = 5514
client = "acme"

[[listeners]]
name = "all-udp"
transport = "udp"
host = "::1"
port = 5514

[[faults]]
kind = "sub-binary"
client = "acme"
holder = "registry"
"""


def load(tmp_path: Path, text: str) -> config.Config:
    path = tmp_path / "collector.toml"
    path.write_text(text)
    return config.load(path)


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert all(line.startswith(str(tmp_path / "collector.toml")) for line in str(caught.value).splitlines())
    return str(caught.value)


def test_a_good_configuration_is_read(tmp_path: Path) -> None:
    got = load(tmp_path, GOOD)
    assert [client.name for client in got.clients] == ["acme", "globex"]
    assert got.spool.directory == tmp_path / "spool"
    assert got.listeners_of("acme")[0].address == "127.0.0.1:5514"
    assert got.listeners_of(None)[0].address == "[::1]:5514"
    assert got.listeners_of("globex") == ()
    assert got.faults[0].key == "sub-binary:acme:registry"
    assert not got.diag.allow_actions


def test_the_demo_configuration_is_good() -> None:
    got = config.load(config.demo_path())
    assert got.diag.allow_actions
    assert got.faults


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("port = 5514", "port = 70000", "[[listeners]] 'acme-tcp' port: must be a whole number from 0 to 65535, got 70000"),
        ("port = 5514", "prot = 5514", "[[listeners]] 'acme-tcp' prot: is not a key known here (did you mean 'port'?)"),
        ('"tcp"', '"tpc"', "[[listeners]] 'acme-tcp' transport: must be one of tcp, udp, got 'tpc' (did you mean 'tcp'?)"),
        ('client = "acme"', 'client = "acne"', "no such client named 'acne' (did you mean 'acme'?)"),
        ('name = "globex"', 'name = "acme"', "[[clients]] 'acme': is there 2 times"),
        ('name = "globex"', 'name = "../etc"', "[[clients]] '../etc' name: must start with a letter or digit"),
        ('name = "globex"', 'name = "reject"', "choose another"),
        ('hostnames = ["acme-*"]', 'hostnames = "acme-*"', "[[clients]] 'acme' hostnames: must be a list of texts"),
        ("[spool]", "[spoool]", "spoool: is not a key known here (did you mean 'spool'?)"),
        ("[spool]", "[spool]\nbatch_bytes = true", "[spool] batch_bytes: must be a whole number from"),
        ("[spool]", "[log]\nsyslog = 'tcp:x'\n[spool]", "[log] syslog: must be a socket path"),
        ("[spool]", "[log]\nsyslog = 'udp://nowhere'\n[spool]", "or udp://HOST:PORT, got 'udp://nowhere'"),
        ("[spool]", "[log]\nsyslog = 'udp://h:99999'\n[spool]", "or udp://HOST:PORT, got 'udp://h:99999'"),
        ("[spool]", "[routing]\nsd_id = 'a client'\n[spool]", "[routing] sd_id: must be an RFC 5424 name"),
        ("[spool]", "[routing]\nsd_param = ''\n[spool]", "[routing] sd_param: must be an RFC 5424 name"),
        ('host = "::1"', 'host = ""', "[[listeners]] 'all-udp' host: must not be empty"),
        ('holder = "registry"', 'holder = "ets"', "must be one of locals, registry, queue, transport"),
        ("[spool]", "[routing]\nunknown_client = 'nobody'\n[spool]", "[routing] unknown_client: must be 'reject' or"),
        ('transport = "udp"', 'transport = "udp"\nframing = "octet"', "a datagram is one message"),
        ('transport = "udp"\nhost = "::1"', 'transport = "tcp"', "tcp 127.0.0.1:5514 is taken by 'acme-tcp' already"),
        ('transport = "udp"', 'client = "acme"\ntransport = "udp"', "'globex': nothing can reach it"),
        ("[[clients]]", "[clients]", "is not valid TOML"),
    ],
)  # fmt: skip
def test_every_mistake_is_named_with_place_and_remedy(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    assert said in problems(tmp_path, GOOD.replace(old, new, 1))


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("port = 5514", "port = -1").replace('"registry"', '"ets"')
    assert len(problems(tmp_path, text).splitlines()) == 3


def test_a_required_key_that_is_missing_is_named(tmp_path: Path) -> None:
    said = problems(tmp_path, GOOD.replace("port = 5514", "prot = 5514", 1))
    assert "[[listeners]] 'acme-tcp' port: is required" in said


def test_a_table_that_should_be_a_list_is_named(tmp_path: Path) -> None:
    assert "must be written as [[clients]]" in problems(tmp_path, "[clients]\nname = 'x'\n")


def test_an_empty_file_says_what_is_needed(tmp_path: Path) -> None:
    text = problems(tmp_path, "")
    assert "at least one client" in text
    assert "at least one listener" in text
    assert "[spool] directory: is required" in text


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: cannot be read: No such file"):
        config.load(tmp_path / "nowhere.toml")


def test_the_control_socket_follows_the_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert load(tmp_path, GOOD).control_socket == tmp_path / "collector" / "collector.sock"
    named = load(tmp_path, GOOD + "[collector]\nname = 'north'\n")
    assert named.control_socket == tmp_path / "collector" / "north.sock"
