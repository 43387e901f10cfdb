"""The daemon's progress stream: what counts as a failure, however it is cut and whatever is left out."""

import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.engines.docker_errors import error_from_text
from controller.engines.docker_stream import LayerProgress, ProgressEvent, read_events
from controller.engines.progress import CopyProgress, ProgressMeter
from reconcile.errors import Denied, DockerCacheError, Invalid, NotFound, RateLimited, Unavailable
from reconcile.references import parse_digest

DIGEST = f"sha256:{'ab' * 32}"
GOOD = [
    {"status": "The push refers to repository [r.example/x]"},
    {"status": "Preparing", "progressDetail": {}, "id": "aaaaaaaaaaaa"},
    {"status": "Schicht für Schicht", "id": "aaaaaaaaaaaa", "progressDetail": {"current": 1, "total": 2}},
    {"status": f"latest: digest: {DIGEST} size: 946"},
    {"progressDetail": {}, "aux": {"Tag": "latest", "Digest": DIGEST, "Size": 946}},
]
STREAM = b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\r\n" for each in GOOD)
FAILURE = b'{"errorDetail":{"message":"m"},"error":"m"}\r\n'


def events(*chunks: bytes | str) -> list[ProgressEvent]:
    return list(read_events(chunks, "push r.example/x:latest", ("marker-password",)))


@pytest.mark.parametrize("place", range(len(GOOD) + 1))
def test_a_failure_counts_wherever_it_stands(place: int) -> None:
    """docker-progress row 1; G1, G6."""
    parts = STREAM.splitlines(keepends=True)
    parts.insert(place, FAILURE)

    with pytest.raises(Unavailable, match=r"push r\.example/x:latest: m"):
        events(*parts)


@pytest.mark.parametrize(
    "line",
    [
        '{"errorDetail":{"message":"m"}}',
        '{"error":"m"}',
        '{"error":"m","errorDetail":{}}',
        '{"error":"m","status":"Pushed"}',
        '{"errorDetail":{"message":"m"},"aux":{"Digest":"x"}}',
    ],
)
def test_either_field_is_enough_for_a_failure(line: str) -> None:
    """G1."""
    with pytest.raises(DockerCacheError, match=": m"):
        events(line)


@pytest.mark.parametrize(
    ("code", "kind"), [(401, Denied), (403, Denied), (404, NotFound), (429, RateLimited), (500, Unavailable)]
)
def test_the_code_of_a_failure_is_heeded(code: int, kind: type[DockerCacheError]) -> None:
    """docker-progress row 2."""
    with pytest.raises(kind):
        events(f'{{"errorDetail":{{"code":{code},"message":"m"}},"error":"m"}}')


@given(cuts=st.lists(st.integers(0, len(STREAM)), max_size=6))
def test_the_events_are_the_same_however_the_stream_is_cut(cuts: list[int]) -> None:
    places = [0, *sorted(cuts), len(STREAM)]

    assert events(STREAM) == events(*(STREAM[a:b] for a, b in itertools.pairwise(places)))


@pytest.mark.parametrize(
    "stream", [b"\r\n\r\n" + STREAM, STREAM.replace(b"\r\n", b"\n"), STREAM.replace(b"\r\n", b"\r\n \r\n\t\n"), STREAM.rstrip(), STREAM + b" \r\n ", STREAM.decode()]
)  # fmt: skip
def test_white_space_between_objects_means_nothing(stream: bytes | str) -> None:
    """docker-progress row 3."""
    assert events(STREAM) == events(stream)


@pytest.mark.parametrize("cut", range(1, len(FAILURE) - 2, 7))
def test_a_stream_that_ends_inside_an_object_is_cut(cut: int) -> None:
    """docker-progress row 4."""
    with pytest.raises(Unavailable) as caught:
        events(STREAM + FAILURE[:cut])

    assert caught.value.code == "stream-cut"


@pytest.mark.parametrize(
    "line", [b"<html>502</html>\n", b"\xff\xfe\n", b"[" * 100_000 + b"\n", b"x" * 1_100_000]
)
def test_what_is_no_json_is_no_success(line: bytes) -> None:
    with pytest.raises(Unavailable) as caught:
        events(line, b"{}\n")

    assert caught.value.code == "stream-malformed"


@pytest.mark.parametrize(
    "line",
    [
        '{"status":"write /var/lib/docker/tmp: no space left on device"}',
        '{"errorDetail":{"message":"failed to register layer: No space left on device"}}',
    ],
)
def test_a_full_disk_is_recognised_as_progress_and_as_failure(line: str) -> None:
    """G4."""
    with pytest.raises(Unavailable, match="free space") as caught:
        events(f"{line}\n", STREAM)

    assert caught.value.code == "daemon-disk-full"
    assert caught.value.retry_after == 300.0


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        "3",
        '{"status":7,"id":null,"progressDetail":"x","aux":"y"}',
        '{"progressDetail":{"current":"5","total":"6"}}',
        '{"aux":{"ManifestPushedInsteadOfIndex":true}}',
        '{"aux":{"Digest":"latest"}}',
        '{"stream":"words of another daemon"}',
        '{"status":"Pushing","id":"aaaaaaaaaaaa","progressDetail":{"hidecounts":true}}',
    ],
)
def test_odd_fields_are_ignored(line: str) -> None:
    """G7."""
    (event,) = events(line)

    assert (event.current, event.total, event.digest) == (None, None, None)


def test_the_digest_is_found_in_the_text_alone() -> None:
    """G7: the containerd image store sends nothing else."""
    (event,) = events(f'{{"status":"latest: digest: {DIGEST} size: 946"}}')

    assert event.digest == parse_digest(DIGEST)


@pytest.mark.parametrize(
    ("text", "kind", "code"),
    [
        ("toomanyrequests: You have reached your pull rate limit", RateLimited, "rate-limited"),
        ("pull access denied for x, repository does not exist or may require login", Denied, "unauthorized"),
        ("no basic auth credentials", Denied, "unauthorized"),
        ("manifest for x not found: manifest unknown", NotFound, "not-found"),
        ("unknown blob", NotFound, "not-found"),
        ("no matching manifest for linux/s390x in the manifest list entries", Invalid, "no-platform"),
        ("unsupported media type application/x", Invalid, "image-refused"),
        ("failed to register layer: archive/tar: invalid tar header", Invalid, "image-refused"),
        ("layers from manifest don't match image configuration", Invalid, "image-refused"),
        ('Get "https://x/v2/": x509: certificate signed by unknown authority', Denied, "certificate-refused"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", Unavailable, "daemon-error"),
        ("something new", Unavailable, "daemon-error"),
    ],
)
def test_the_daemons_words_are_sorted_by_what_to_do(
    text: str, kind: type[DockerCacheError], code: str
) -> None:
    error = error_from_text(text, "pull x", code=500)

    assert (type(error), error.code) == (kind, code)


def test_no_password_and_no_long_page_gets_into_a_message() -> None:
    with pytest.raises(DockerCacheError) as caught:
        events(json.dumps({"error": f"parse marker-password {'<page>' * 1000}"}))

    assert "marker-password" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_progress_is_counted_in_compressed_bytes_and_never_twice() -> None:
    meter = ProgressMeter()
    first, second = (parse_digest(f"sha256:{digit * 64}") for digit in "ab")
    progress = LayerProgress(meter, {first: 1000, second: 500})
    for event in (
        ProgressEvent("Pushing", "a" * 12, 30, 100),
        ProgressEvent("Retrying in 5 seconds", "a" * 12),
        ProgressEvent("Retrying in 4 seconds", "a" * 12),
        ProgressEvent("Pushing", "a" * 12, 10, 100),
        ProgressEvent("Pushing", "a" * 12, 512),
        ProgressEvent("Pushing", "a" * 12, 120, 100),
        ProgressEvent("Pushed", "a" * 12),
        ProgressEvent("Layer already exists", "b" * 12),
        ProgressEvent("Pushed", "c" * 12),
        ProgressEvent("Preparing"),
    ):
        progress.record(event)

    assert meter.read() == CopyProgress(transferred=1000, skipped=500, retries=1)
