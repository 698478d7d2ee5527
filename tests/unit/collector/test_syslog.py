from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collector.ingest import syslog

FULL = (
    b"<165>1 2003-10-11T22:14:15.003Z web-01.example.com evntslog 812 ID47 "
    b'[exampleSDID@32473 iut="3" eventSource="App\\"l\\]i\\\\cation"][client@32473 name="acme"] '
    b"\xef\xbb\xbfAn application event \xc3\xa9"
)


def test_a_full_rfc5424_message_is_taken_apart() -> None:
    message = syslog.parse(FULL)
    assert (message.form, message.facility, message.severity) == ("rfc5424", "local4", "notice")
    assert (message.hostname, message.app, message.procid, message.msgid) == (
        "web-01.example.com",
        "evntslog",
        "812",
        "ID47",
    )
    assert message.structured_data == {
        "exampleSDID@32473": {"iut": "3", "eventSource": 'App"l]i\\cation'},
        "client@32473": {"name": "acme"},
    }
    assert message.text == "An application event é"


def test_an_rfc5424_message_of_nils_is_taken_apart() -> None:
    message = syslog.parse(b"<0>1 - - - - - -")
    assert (message.form, message.priority, message.hostname, message.text) == ("rfc5424", 0, "", "")


@pytest.mark.parametrize(
    ("raw", "host", "app", "procid", "text"),
    [
        (b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed", "mymachine", "su", "", "'su root' failed"),
        (b"<13>Feb  5 17:32:18 10.0.0.99 sshd[42]: hello", "10.0.0.99", "sshd", "42", "hello"),
        (
            b"<38>2024-05-01T10:00:00 localhost prg00000[1234]: seq: 1",
            "localhost",
            "prg00000",
            "1234",
            "seq: 1",
        ),
        (b"<13>Feb  5 17:32:18 su: no host", "", "su", "", "no host"),
    ],
)
def test_rfc3164_as_daemons_write_it(raw: bytes, host: str, app: str, procid: str, text: str) -> None:
    message = syslog.parse(raw)
    assert (message.form, message.hostname, message.app, message.procid, message.text) == (
        "rfc3164",
        host,
        app,
        procid,
        text,
    )
    assert syslog.hostname(raw) == host


def test_what_fits_no_form_is_still_a_message() -> None:
    assert syslog.parse(b"just text").text == "just text"
    assert syslog.parse(b"<13>just text") == syslog.Message("other", 13, text="just text")
    assert syslog.parse(b"<999>x").priority is None


def test_the_priority_check_agrees_with_the_priority() -> None:
    for raw in (
        b"<0>",
        b"<191>x",
        b"<192>",
        b"<00>",
        b"<007>",
        b"<1",
        b"<>",
        b"",
        b"x<13>",
        b"<1234>",
        b"< 13>",
    ):
        assert syslog.has_priority(raw) == (syslog.priority(raw) is not None), raw


@given(st.binary(max_size=200))
def test_no_octets_make_the_parser_raise(raw: bytes) -> None:
    message = syslog.parse(raw)
    assert syslog.has_priority(raw) == (message.priority is not None)
    syslog.hostname(raw)
    syslog.sd_param(raw, b"client@32473", b"name")


def test_the_client_is_read_from_structured_data_and_from_nowhere_else() -> None:
    assert syslog.sd_param(FULL, b"client@32473", b"name") == "acme"
    assert syslog.sd_param(FULL, b"client@32473", b"nam") == ""
    in_text = b'<13>1 - host app - - - text [client@32473 name="evil"]'
    assert syslog.sd_param(in_text, b"client@32473", b"name") == ""
    in_value = b'<13>1 - h a - - [x@1 y="[client@32473 name=\\"evil\\"\\]"] t'
    assert syslog.sd_param(in_value, b"client@32473", b"name") == ""


def test_the_hostname_of_an_rfc5424_message() -> None:
    assert syslog.hostname(FULL) == "web-01.example.com"
    assert syslog.hostname(b"<13>1 - - app - - - x") == ""
