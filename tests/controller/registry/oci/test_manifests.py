# ruff: noqa: N802 - names carry the numbers of known bugs
"""Reading manifests strictly."""

import json
import time

import pytest

from controller.registry.oci.manifests import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    MAX_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    SCHEMA_1,
    SIGNED_SCHEMA_1,
    Index,
    Manifest,
    digest_of,
    media_type_of,
    parse_document,
)
from reconcile.errors import Invalid
from tests.simulators import images

A, B = f"sha256:{'a' * 64}", f"sha256:{'b' * 64}"


def descriptor(digest: str = A, size: object = 3, **more: object) -> dict[str, object]:
    return {"mediaType": "application/x-foo", "digest": digest, "size": size, **more}


def manifest(**changes: object) -> dict[str, object]:
    return {"schemaVersion": 2, "config": descriptor(), "layers": [descriptor(B)], **changes}


def read(document: object, content_type: str = OCI_MANIFEST) -> Manifest | Index:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    return parse_document(raw, content_type, "r.example/a:1")


@pytest.mark.parametrize("docker", [False, True])
def test_a_sample_image_is_read_with_its_blobs(docker: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    sample = images.image([images.layer(10, 1), images.layer(20, 2), images.layer(10, 1)], docker=docker)

    document = parse_document(sample.manifest.content, sample.manifest.media_type, "x")

    assert isinstance(document, Manifest)
    assert sample.manifest.content == document.raw
    assert sample.manifest.digest == str(document.digest)
    assert [each.digest for each in sample.blobs] == [str(each.digest) for each in document.blobs()]
    assert len(document.layers) == 3


@pytest.mark.parametrize("docker", [False, True])
def test_a_sample_index_is_read_with_its_platforms(docker: bool) -> None:  # noqa: FBT001 - a parameter of pytest
    sample = images.index([("linux/arm64/v8", images.image([]))], docker=docker, attested=True)

    document = parse_document(sample.index.content, sample.index.media_type, "x")

    assert isinstance(document, Index)
    assert [each.is_attestation for each in document.entries] == [True, False]
    assert str(document.entries[1].platform) == "linux/arm64/v8"


@pytest.mark.parametrize(
    ("content_type", "document", "expected"),
    [
        (OCI_MANIFEST, manifest(), OCI_MANIFEST),
        (DOCKER_MANIFEST, manifest(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
        ("application/json", manifest(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
        ("", manifest(), OCI_MANIFEST),
        ("text/plain", {"schemaVersion": 2, "manifests": []}, OCI_INDEX),
        (DOCKER_LIST, {"schemaVersion": 2, "manifests": None}, DOCKER_LIST),
    ],
)
def test_the_type_comes_from_header_then_field_then_shape(
    content_type: str, document: object, expected: str
) -> None:
    assert expected == read(document, content_type).media_type


def test_unknown_types_of_layers_are_copied_as_they_are() -> None:
    document = read(manifest(layers=[descriptor(B, mediaType="application/vnd.oci.image.layer.v1.tar+zstd")]))

    assert isinstance(document, Manifest)


@pytest.mark.parametrize("content_type", [SCHEMA_1, SIGNED_SCHEMA_1])
@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (manifest(mediaType=DOCKER_MANIFEST), DOCKER_MANIFEST),
        (manifest(mediaType=OCI_MANIFEST), OCI_MANIFEST),
        (manifest(), OCI_MANIFEST),
        ({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [descriptor()]}, DOCKER_LIST),
    ],
)
def test_a_document_that_is_served_as_schema_1_is_read_by_its_content(
    content_type: str, document: object, expected: str
) -> None:
    assert read(document, content_type).media_type == expected


def test_a_platform_of_any_length_is_held_as_a_short_text() -> None:
    entry = descriptor(platform={"os": "linux", "architecture": "x" * 3_900_000})

    document = read({"schemaVersion": 2, "manifests": [entry]}, OCI_INDEX)

    assert isinstance(document, Index)
    assert len(str(document.entries[0].platform)) < 300


@pytest.mark.parametrize(
    "raw",
    [
        b'{"schemaVersion":2,"x":[' + b",".join([b'{"":[]}'] * 500_000) + b"]}",
        b'{"schemaVersion":2,"x":[' + b",".join([b'""'] * 1_300_000) + b"]}",
        b'{"schemaVersion":2,"x":[' + b",".join([b"1"] * 2_000_000) + b"]}",
        b'{"schemaVersion":2,"x":{' + b",".join(b'"%d":0' % each for each in range(300_000)) + b"}}",
        b'{"schemaVersion":2,"x":' + b'{"":' * 70 + b"0" + b"}" * 70 + b"}",
        b'{"schemaVersion":2,"x":' + b"[" * 2_000_000 + b"}",
        b'{"schemaVersion":2,"x":"' + b'\\"' * 2_000_000 + b'"}',
        b'"' * MAX_MANIFEST,
    ],
    ids=["objects", "texts", "numbers", "pairs", "deep", "brackets", "quotes in a text", "quotes"],
)
def test_a_document_that_is_costly_to_read_is_refused_before_it_is_read(raw: bytes) -> None:
    assert len(raw) <= MAX_MANIFEST
    started = time.thread_time()

    with pytest.raises(Invalid) as refused:
        read(raw)

    assert refused.value.code == "manifest-malformed"
    assert time.thread_time() - started < 0.5, "seconds on the processor; reading it took two"


def test_a_large_index_with_much_text_is_read() -> None:
    """Brackets and commas within texts cost nothing."""
    annotations = {"org.example.build": '{"a": ["b", "c,d"]}' * 50, "org.example.Build": "[[[" * 30}
    entry = descriptor(annotations=annotations, platform={"os": "linux", "architecture": "amd64"})

    document = read({"schemaVersion": 2, "manifests": [entry] * 1000}, OCI_INDEX)

    assert isinstance(document, Index)
    assert len(document.entries) == 1000


AS_GO_READS = [
    (manifest(Layers=[]), OCI_MANIFEST),
    (manifest(CONFIG=descriptor()), OCI_MANIFEST),
    ({**manifest(), "layer\u017f": []}, OCI_MANIFEST),
    ({"schemaVersion": 2, "config": descriptor(), "Layers": [descriptor(B)]}, OCI_MANIFEST),
    ({"schemaVersion": 2, "Manifests": [descriptor()]}, OCI_INDEX),
    (manifest(schemaversion=1), OCI_MANIFEST),
    (manifest(MediaType=DOCKER_MANIFEST), OCI_MANIFEST),
    (manifest(layers=[descriptor(B, Digest=A)]), OCI_MANIFEST),
    (manifest(config=descriptor(A, SIZE=9)), OCI_MANIFEST),
    (manifest(layers=[descriptor(B, Urls=["https://x"])]), OCI_MANIFEST),
    (manifest(subject={**descriptor(A), "dige\u017ft": B}), OCI_MANIFEST),
    ({"schemaVersion": 2, "manifests": [descriptor(platform={"os": "linux", "OS": "windows"})]}, OCI_INDEX),
    ({"schemaVersion": 2, "manifests": [descriptor(Platform={"os": "linux"})]}, OCI_INDEX),
]


@pytest.mark.parametrize(("document", "content_type"), AS_GO_READS)
def test_a_key_that_others_take_for_a_known_one_is_refused(document: object, content_type: str) -> None:
    """Readers in Go ignore the case of keys, and the last one counts."""
    with pytest.raises(Invalid) as refused:
        read(document, content_type)

    assert refused.value.code == "manifest-ambiguous"


def test_keys_of_annotations_are_free() -> None:
    document = read(manifest(annotations={"Layers": "1", "layers": "2", "Digest": "3"}, other={"Size": 1}))

    assert isinstance(document, Manifest)


REFUSED: list[tuple[str, object, str]] = [
    ("manifest-malformed", b"<html>", OCI_MANIFEST),
    ("manifest-malformed", b"", OCI_MANIFEST),
    ("manifest-malformed", b"[]", OCI_MANIFEST),
    ("manifest-malformed", b'\xef\xbb\xbf{"schemaVersion":2}', OCI_MANIFEST),
    ("manifest-malformed", b'\xff{"schemaVersion":2}', OCI_MANIFEST),
    ("manifest-malformed", b'{"schemaVersion":2,"schemaVersion":2}', OCI_MANIFEST),
    ("manifest-malformed", b'{"schemaVersion":2,"x":NaN}', OCI_MANIFEST),
    ("manifest-malformed", b'{"schemaVersion":2,"x":Infinity}', OCI_MANIFEST),
    ("manifest-malformed", b'{"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}", OCI_MANIFEST),
    ("manifest-malformed", b'{"schemaVersion":' + b"9" * 5000 + b"}", OCI_MANIFEST),
    ("manifest-malformed", manifest(schemaVersion=3), OCI_MANIFEST),
    ("manifest-malformed", manifest(schemaVersion=True), OCI_MANIFEST),
    ("manifest-malformed", manifest(layers=[descriptor(size=-5)]), OCI_MANIFEST),
    ("manifest-malformed", manifest(layers=[descriptor(size=True)]), OCI_MANIFEST),
    ("manifest-malformed", manifest(layers=[descriptor(size=1.0)]), OCI_MANIFEST),
    ("manifest-malformed", manifest(layers=[descriptor(size="3")]), OCI_MANIFEST),
    ("manifest-malformed", manifest(layers=[descriptor(size=None)]), OCI_MANIFEST),
    ("manifest-malformed", manifest(layers=[descriptor(size=1 << 63)]), OCI_MANIFEST),
    ("manifest-malformed", manifest(layers=["x"]), OCI_MANIFEST),
    ("manifest-malformed", manifest(layers={"a": 1}), OCI_MANIFEST),
    ("manifest-malformed", manifest(config=None), OCI_MANIFEST),
    ("manifest-malformed", manifest(layers=[descriptor(A, 4)]), OCI_MANIFEST),
    ("manifest-malformed", manifest(mediaType=7), OCI_MANIFEST),
    ("manifest-malformed", {"schemaVersion": 2, "layers": []}, OCI_MANIFEST),
    ("invalid-format", manifest(config=descriptor("../../x")), OCI_MANIFEST),
    ("digest-format", manifest(config=descriptor(f"sha256:{'A' * 64}")), OCI_MANIFEST),
    ("digest-unsupported", manifest(config=descriptor("md5:abc")), OCI_MANIFEST),
    ("manifest-ambiguous", manifest(mediaType=DOCKER_MANIFEST), OCI_MANIFEST),
    ("manifest-ambiguous", manifest(manifests=[]), OCI_MANIFEST),
    ("manifest-ambiguous", manifest(), OCI_INDEX),
    ("manifest-unsupported", manifest(mediaType="application/vnd.example"), "application/json"),
    ("schema-1", {"schemaVersion": 1, "fsLayers": [], "signatures": []}, SIGNED_SCHEMA_1),
    ("schema-1", {"schemaVersion": 1, "fsLayers": []}, SCHEMA_1),
    ("schema-1", {"schemaVersion": 1, "fsLayers": []}, ""),
    ("manifest-too-large", b" " * (MAX_MANIFEST + 1), OCI_MANIFEST),
    ("manifest-malformed", {"schemaVersion": 2, "manifests": [descriptor()] * 1001}, OCI_INDEX),
]


@pytest.mark.parametrize(("code", "document", "content_type"), REFUSED)
def test_C10_a_document_that_is_not_plain_is_refused(code: str, document: object, content_type: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(document, content_type)

    assert code == refused.value.code


def test_the_digest_is_that_of_the_bytes() -> None:
    assert str(digest_of(b"")) == "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_content_type_loses_its_parameters() -> None:
    assert media_type_of("Application/JSON; charset=utf-8") == "application/json"
    assert not media_type_of(None)
