"""Envelopes as agents and log drains expect them."""

from hypothesis import given
from hypothesis import strategies as st

from controller.loggregator.envelopes import MAX_LINE, Component, batch_of, payload_of
from protos.loggregator import envelope_pb2 as pb
from reconcile.app_log_lines import AppLogLine, ComponentCounter, SourceType
from reconcile.lrps import AppGuid

COMPONENT = Component("docker_cache", "cache", "vm-1")


def test_a_line_belongs_to_its_app_and_names_its_source() -> None:
    tags = {"app_name": "web", "space_name": "prod", "origin": "rep", "source_type": "APP"}
    line = AppLogLine(AppGuid("app-1"), SourceType.CELL, "it runs", 17, is_error=True, tags=tags)
    (envelope,) = batch_of([line], COMPONENT).batch

    assert (envelope.timestamp, envelope.source_id, envelope.instance_id) == (17, "app-1", "0")
    assert envelope.log == pb.Log(payload=b"it runs", type=pb.Log.ERR)
    assert dict(envelope.tags) == {
        "app_id": "app-1",
        "app_name": "web",
        "space_name": "prod",
        "source_type": "CELL",
        "origin": "docker_cache",
    }
    assert not envelope.deprecated_tags


def test_a_counter_belongs_to_this_program() -> None:
    (envelope,) = batch_of([ComponentCounter("ImagesCached", 5, 17)], COMPONENT).batch

    assert (envelope.source_id, envelope.instance_id, dict(envelope.tags)) == (
        "cache",
        "vm-1",
        {"origin": "docker_cache"},
    )
    assert (envelope.counter.name, envelope.counter.total, envelope.counter.delta) == ("ImagesCached", 5, 0)


@given(st.text(), st.integers(0, 4))
def test_a_payload_is_one_line_that_is_not_too_long(text: str, shift: int) -> None:
    long = "x" * shift + text + "é€𝄞" * (MAX_LINE // 8)
    for each in (text, long):
        payload = payload_of(each)
        decoded = payload.decode()
        assert len(payload) <= MAX_LINE
        assert len(decoded.splitlines()) <= 1
        assert decoded == decoded.rstrip("\n")


def test_a_text_that_is_no_unicode_is_sent_all_the_same() -> None:
    assert payload_of("a\udc80b") == b"a?b"
