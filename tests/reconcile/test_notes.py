"""Notes beside copies: written without secrets, read as foreign text."""

from dataclasses import replace

import pytest

from reconcile.errors import Invalid
from reconcile.notes import CopyNote, annotations_of, check_note, note_from_annotations, note_of, note_tag
from reconcile.records import CachedImage
from reconcile.references import CacheGuid, CacheRepositories, Digest, parse_image_reference

GUID = CacheGuid("7c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d11")
OTHER = CacheGuid("8c0d3c5e-52a1-4d5b-8f7e-2b6a1f0c9d12")
KEY, OLD_KEY, FOREIGN_KEY = b"the first key", b"an older key", b"the key of somebody else"
TEMPLATES = (
    "{guid}:latest",
    "docker-cache:{guid}",
    "a/{guid}:{guid}",
    "copies:note-{guid}.note",
    f"xy:{'y' * 92}{{guid}}",
)


def digest(number: int) -> Digest:
    return Digest("sha256", f"{number:064x}")


IMAGE = CachedImage(
    cache_guid=GUID,
    source=parse_image_reference("registry.example:5000/team/web:7"),
    root_digest=digest(1),
    platform_digest=digest(2),
    digest=digest(2),
    size=2**40,
    created_at=1_800_000_000.25,
    verified_at=1_800_000_001.0,
)
NOTE = note_of(IMAGE, needs_login=True)


def test_a_note_is_read_as_it_was_written() -> None:
    read = note_from_annotations(annotations_of(NOTE, [KEY]), [KEY])

    assert read == replace(NOTE, is_sealed=True)
    check_note(read, guid=GUID, digest=digest(2))


def test_a_note_holds_texts_alone_and_nothing_of_the_key() -> None:
    annotations = annotations_of(NOTE, [KEY])

    assert all(text.isprintable() for text in annotations.values())
    assert all(KEY.decode() not in text and "@" not in text for text in annotations.values())
    assert sum(len(name) + len(text) for name, text in annotations.items()) < 2000


@pytest.mark.parametrize(
    ("written", "asked", "is_sealed"),
    [
        ([KEY, OLD_KEY], [KEY], True),
        ([OLD_KEY], [KEY, OLD_KEY], True),
        ([OLD_KEY], [KEY], False),
        ([FOREIGN_KEY], [KEY, OLD_KEY], False),
        ([], [KEY], False),
        ([KEY], [], False),
    ],
)
def test_a_note_is_sealed_when_one_of_the_keys_has_sealed_it(
    written: list[bytes], asked: list[bytes], *, is_sealed: bool
) -> None:
    assert note_from_annotations(annotations_of(NOTE, written), asked).is_sealed is is_sealed


@pytest.mark.parametrize("name", sorted(annotations_of(NOTE, [])))
def test_a_note_that_was_changed_is_not_sealed(name: str) -> None:
    annotations = annotations_of(NOTE, [KEY])
    other = annotations_of(
        CopyNote(
            OTHER,
            parse_image_reference("evil.example/x:1"),
            digest(7),
            digest(8),
            digest(9),
            5,
            6.0,
            needs_login=False,
        ),
        [],
    )

    assert not note_from_annotations(annotations | {name: other[name]}, [KEY]).is_sealed


def test_no_two_facts_can_be_shifted_into_each_other() -> None:
    """A seal over joined texts would not notice text that moves from one annotation to the next."""
    source = parse_image_reference("registry.example:5000/team/web:7x")
    one, two = annotations_of(NOTE, [KEY]), annotations_of(replace(NOTE, source=source), [KEY])

    assert one["diego-docker-cache.seal"] != two["diego-docker-cache.seal"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("guid", "not-a-guid"),
        ("guid", "../../../etc/passwd"),
        ("guid", None),
        ("source", "user:secret@registry.example/x"),
        ("source", "host.example/UPPER:x"),
        ("source", "a" * 5000),
        ("source", ["a"]),
        ("root-digest", "sha256:12"),
        ("platform-digest", "md5:00"),
        ("digest", ""),
        ("bytes", "-1"),
        ("bytes", "9" * 400),
        ("bytes", "١٢"),
        ("created-at", "nan"),
        ("created-at", "1e400"),
        ("created-at", "9" * 13),
        ("needs-login", None),
    ],
)
def test_what_is_no_note_is_refused(name: str, text: object) -> None:
    annotations: dict[str, object] = {**annotations_of(NOTE, [KEY]), f"diego-docker-cache.{name}": text}

    with pytest.raises(Invalid) as refused:
        note_from_annotations(annotations, [KEY])

    assert refused.value.code == "bad-note"
    assert len(refused.value.detail) < 1000
    assert "secret" not in refused.value.detail


def test_whether_a_login_is_needed_is_doubted_unless_it_is_denied() -> None:
    annotations = annotations_of(replace(NOTE, needs_login=False), [])

    assert not note_from_annotations(annotations, []).needs_login
    assert note_from_annotations(annotations | {"diego-docker-cache.needs-login": "no"}, []).needs_login


@pytest.mark.parametrize(("guid", "content"), [(OTHER, digest(2)), (GUID, digest(3))])
def test_a_note_about_another_copy_is_refused(guid: CacheGuid, content: Digest) -> None:
    with pytest.raises(Invalid):
        check_note(NOTE, guid=guid, digest=content)


@pytest.mark.parametrize("template", TEMPLATES)
def test_the_tag_of_a_note_is_legal_and_no_copys_nor_any_signatures(template: str) -> None:
    cache = CacheRepositories("cache.example:8080", template)
    copies = [cache.image(guid) for guid in (GUID, OTHER)]
    tags = [note_tag(copy) for copy in copies]

    for copy, tag in zip(copies, tags, strict=True):
        parse_image_reference(f"{copy.repository}:{tag}")
        assert cache.guid_of(replace(copy, tag=tag)) is None
        assert len(tag) != len(copy.tag or "")
        assert not tag.endswith((".sig", ".att", ".sbom"))
    if copies[0].repository == copies[1].repository:
        assert tags[0] != tags[1]
