"""Decides in one table which refusals of registries are final, may pass by themselves, or have a way round.

The first rule that fits an answer decides. The table is in the documentation, written from here.

Source: OCI distribution specification 1.1, "Error codes"; what registries and the proxies in front of them
answer besides was reported by users of many clients.
"""

from dataclasses import dataclass
from enum import StrEnum

from reconcile.errors import (
    Conflict,
    Denied,
    DockerCacheError,
    ErrorCode,
    Invalid,
    NotFound,
    RateLimited,
    Unavailable,
    Verdict,
)


class Side(StrEnum):
    """Which registry has answered."""

    SOURCE = "source"
    PRIVATE = "private"


class RegistryCall(StrEnum):
    """What a registry was asked for; the values are shown in errors."""

    LOOK_UP_MANIFEST = "look up manifest"
    READ_MANIFEST = "read manifest"
    WRITE_MANIFEST = "write manifest"
    DELETE_MANIFEST = "delete manifest"
    LOOK_UP_BLOB = "look up blob"
    READ_BLOB = "read blob"
    MOUNT_BLOB = "mount blob"
    START_UPLOAD = "start upload"
    UPLOAD_BLOB = "upload blob"
    UPLOAD_AFTER_MOUNT = "upload blob after a mount"
    """An upload to the session that the registry has started instead of mounting the blob."""
    LIST_REFERRERS = "list referrers"
    LIST_REPOSITORIES = "list repositories"
    LIST_TAGS = "list tags"
    FETCH_TOKEN = "fetch token"  # noqa: S105 - a name
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class RefusedAnswer:
    """An answer that is no success.

    Attributes:
        codes: All codes in its error document; the first may be one of ours, for what its text says.
        names_a_time: Whether it says when to ask again, by a time that is not over.
    """

    side: Side
    call: RegistryCall
    status: int
    codes: tuple[str, ...] = ()
    names_a_time: bool = False


@dataclass(frozen=True, slots=True)
class AnswerRule:
    """What follows from some answers.

    Attributes:
        verdict: What may be done.
        error: The class of the error that the answer becomes.
        way: What the program does.
        operator: What an operator should do.
        developer: What an app developer should know.
        statuses: Those that fit; empty for all.
        codes: One of them must be in the answer; empty for all.
        calls: Those that fit; empty for all.
        sides: Those that fit.
        names_a_time: Only answers that name a time fit.
    """

    verdict: Verdict
    error: type[DockerCacheError]
    way: str
    operator: str
    developer: str
    statuses: frozenset[int] = frozenset()
    codes: frozenset[str] = frozenset()
    calls: frozenset[RegistryCall] = frozenset()
    sides: frozenset[Side] = frozenset(Side)
    names_a_time: bool = False

    def fits(self, answer: RefusedAnswer) -> bool:
        """Whether the rule is about an answer."""
        return (
            answer.side in self.sides
            and (not self.calls or answer.call in self.calls)
            and (not self.statuses or answer.status in self.statuses)
            and (not self.codes or not self.codes.isdisjoint(answer.codes))
            and (answer.names_a_time or not self.names_a_time)
        )


_UPLOADS = frozenset({RegistryCall.UPLOAD_BLOB, RegistryCall.UPLOAD_AFTER_MOUNT})
_CLIENT_ERRORS = frozenset(range(400, 500))
_SERVER_ERRORS = frozenset(range(500, 600))
_PRIVATE = frozenset({Side.PRIVATE})
_SOURCE = frozenset({Side.SOURCE})

_WAITS = "The job waits, and asks again at growing intervals."
_FAILS = "The job ends as failed."
_LATER = "Nothing: the copy is made later. The app runs from its source meanwhile."
_TELL = "Tell the platform's operators. The app runs from its source meanwhile."

RULES: tuple[AnswerRule, ...] = (
    # Asked too often
    AnswerRule(
        Verdict.AGAIN,
        RateLimited,
        "Nobody asks that host with that login before the time that it names, or else at growing intervals; "
        "this uses up no attempt of the job.",
        "Give the program a login with a higher limit, or lower `traffic.max_requests_per_second`.",
        "Nothing: the copy is made when the registry serves again. An own login has an own limit.",
        statuses=frozenset({429}),
    ),
    AnswerRule(
        Verdict.AGAIN,
        RateLimited,
        "As for 429.",
        "As for 429.",
        "As for 429.",
        codes=frozenset({ErrorCode.TOO_MANY_REQUESTS}),
    ),
    # Other ways to bring a blob
    AnswerRule(
        Verdict.OTHER_WAY,
        Unavailable,
        "The blob is sent in an upload of its own, without asking for a mount.",
        "Nothing.",
        "Nothing.",
        statuses=frozenset({400, 403, 404, 405, 501}),
        calls=frozenset({RegistryCall.UPLOAD_AFTER_MOUNT}),
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Denied,
        "The blob is read from its source and sent.",
        "Let the program's login read all repositories of the private registry: mounts save traffic.",
        "Nothing.",
        calls=frozenset({RegistryCall.MOUNT_BLOB}),
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Invalid,
        "The blobs that the registry misses are sent again, and the manifest after them, up to three times.",
        "If it persists: look for what deletes blobs there, such as a garbage collection during pushes.",
        _TELL,
        codes=frozenset({ErrorCode.MANIFEST_BLOB_UNKNOWN}),
        calls=frozenset({RegistryCall.WRITE_MANIFEST}),
    ),
    # Nothing can be stored for now
    AnswerRule(
        Verdict.AGAIN,
        Unavailable,
        "The job waits until there is room; this uses up no attempt.",
        "Free space, or give the registry a larger disk.",
        _TELL,
        codes=frozenset({ErrorCode.DISK_FULL}),
    ),
    AnswerRule(
        Verdict.AGAIN,
        Unavailable,
        "The job waits until there is room; this uses up no attempt.",
        "Raise the quota, or delete what is no longer used.",
        _TELL,
        codes=frozenset({ErrorCode.QUOTA_EXCEEDED}),
    ),
    AnswerRule(
        Verdict.AGAIN,
        Unavailable,
        "The job waits until the registry takes writes; this uses up no attempt. So says a 405 to a write.",
        "End its read-only maintenance, or name a registry that is no pull-through cache.",
        _LATER,
        codes=frozenset({ErrorCode.READ_ONLY}),
    ),
    AnswerRule(
        Verdict.AGAIN,
        Unavailable,
        "The job waits until the registry can write again; this uses up no attempt.",
        "Look at the registry's disk and at the rights of its files.",
        _TELL,
        codes=frozenset({ErrorCode.STORAGE_FAILED}),
    ),
    # It names a time
    AnswerRule(
        Verdict.AGAIN,
        Unavailable,
        "The job waits for that time, whatever the status.",
        "Look at what limits requests in front of the registry, such as a web application firewall.",
        _LATER,
        statuses=frozenset({400, 403, 405, 409, 412, 418, 423}) | _SERVER_ERRORS,
        names_a_time=True,
    ),
    # Other ways to look something up
    AnswerRule(
        Verdict.OTHER_WAY,
        Unavailable,
        "The manifest is read (GET) instead, once; what that is answered with counts, and says why.",
        "Nothing; where reading fails as well, what it was answered with.",
        "Nothing.",
        statuses=frozenset({400, 401, 403, 405, 500, 501, 502}),
        calls=frozenset({RegistryCall.LOOK_UP_MANIFEST}),
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Unavailable,
        "One byte of the blob is read (GET with a range) instead, once. So it is where the length that a "
        "registry states is not that of the blob.",
        "Nothing; where reading fails as well, what it was answered with.",
        "Nothing.",
        statuses=frozenset({400, 401, 405, 500, 501, 502}),
        calls=frozenset({RegistryCall.LOOK_UP_BLOB}),
    ),
    AnswerRule(
        Verdict.FINAL,
        NotFound,
        "The blob is not there: it is sent.",
        "Nothing.",
        "Nothing.",
        statuses=frozenset({403, 404, 410}),
        calls=frozenset({RegistryCall.LOOK_UP_BLOB}),
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Denied,
        "The list is read from the tag that registries without the referrers API have. Where that is denied "
        "too, the image is copied and its signatures are `unknown: denied`.",
        "Let the login read the signatures' repository, if they are wanted.",
        "If the image is signed: let its login read the signatures as well.",
        statuses=frozenset({401, 403}),
        calls=frozenset({RegistryCall.LIST_REFERRERS}),
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        NotFound,
        "The list is read from the tag that registries without the referrers API have.",
        "Nothing.",
        "Nothing.",
        statuses=_CLIENT_ERRORS - {408, 425, 499},
        calls=frozenset({RegistryCall.LIST_REFERRERS}),
    ),
    # Reading what is there, but not yet
    AnswerRule(
        Verdict.AGAIN,
        Unavailable,
        "Read again: a registry that is still fetching or writing the image answers so for a while.",
        "If it persists: the registry has lost a blob of this image.",
        "If it persists: push the image again.",
        codes=frozenset({ErrorCode.MANIFEST_BLOB_UNKNOWN, ErrorCode.MANIFEST_INVALID}),
        calls=frozenset({RegistryCall.READ_MANIFEST}),
    ),
    AnswerRule(
        Verdict.AGAIN,
        NotFound,
        "What the program has just written is looked for again for a while, and after that in the next "
        "attempt of the job. Of anything else it means that it is missing, and that it is sent again.",
        "If it persists: look for what deletes images there.",
        _LATER,
        statuses=frozenset({404, 410}),
        calls=frozenset({RegistryCall.READ_MANIFEST, RegistryCall.LOOK_UP_MANIFEST}),
        sides=_PRIVATE,
    ),
    # Writing what is there already
    AnswerRule(
        Verdict.OTHER_WAY,
        Denied,
        "The tag is looked at: if it names the right digest, all is done. Else the job ends as failed.",
        "Let the program's login push; if tags are immutable, exempt the program's repositories.",
        _TELL,
        statuses=frozenset({401, 403}),
        calls=frozenset({RegistryCall.WRITE_MANIFEST}),
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Conflict,
        "The tag is looked at: if it names the right digest, all is done. Else the job ends as failed.",
        "If tags are immutable, exempt the program's repositories.",
        _TELL,
        statuses=frozenset({409, 412}),
        calls=frozenset({RegistryCall.WRITE_MANIFEST}),
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Invalid,
        "The tag is looked at: if it names the right digest, all is done. Else the job ends as failed.",
        "If tags are immutable, exempt the program's repositories. Else look at what the registry says.",
        _TELL,
        statuses=frozenset({400, 422}),
        calls=frozenset({RegistryCall.WRITE_MANIFEST}),
    ),
    # Uploads that are lost
    AnswerRule(
        Verdict.OTHER_WAY,
        Unavailable,
        "The blob is sent again in a new upload, up to three times, and then in the next attempt of the job.",
        "If it persists: give all instances of the registry the same secret and the same storage.",
        _LATER,
        statuses=frozenset({404, 410, 416}),
        calls=_UPLOADS,
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Unavailable,
        "As for 404.",
        "As for 404.",
        "As for 404.",
        statuses=frozenset({400}),
        codes=frozenset(
            {
                ErrorCode.BLOB_UPLOAD_INVALID,
                ErrorCode.BLOB_UPLOAD_UNKNOWN,
                ErrorCode.RANGE_INVALID,
                ErrorCode.SIZE_INVALID,
            }
        ),
        calls=_UPLOADS,
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Invalid,
        "The blob is sent again once.",
        "Look at what changes bytes between the program and the registry.",
        _TELL,
        codes=frozenset({ErrorCode.DIGEST_INVALID}),
        calls=_UPLOADS,
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Invalid,
        "The blob is sent in ever smaller pieces, down to 1 MiB or what the registry states as its least.",
        "Raise the limit of the registry, or of the proxy in front of it (`client_max_body_size` in nginx).",
        _TELL,
        statuses=frozenset({413}),
        calls=_UPLOADS,
    ),
    AnswerRule(
        Verdict.OTHER_WAY,
        Unavailable,
        "The upload is resumed where the registry still has it, or else the blob is sent again once.",
        "Look at the registry's log.",
        _LATER,
        statuses=_SERVER_ERRORS,
        calls=_UPLOADS,
    ),
    # Logins
    AnswerRule(
        Verdict.FINAL,
        Denied,
        "The login is looked up again, and used if it has changed. Else the job ends as failed.",
        "Correct the login for that registry.",
        "Correct the login: `cf push --docker-username`.",
        statuses=frozenset({400, 401, 403}),
        calls=frozenset({RegistryCall.FETCH_TOKEN}),
    ),
    AnswerRule(
        Verdict.FINAL,
        Invalid,
        "The registry's token server is not where the registry says. The job ends as failed.",
        "Look at the realm in the registry's `WWW-Authenticate`.",
        "Tell whoever runs the image's registry.",
        statuses=frozenset({404, 410}),
        calls=frozenset({RegistryCall.FETCH_TOKEN}),
    ),
    AnswerRule(
        Verdict.FINAL,
        Denied,
        "The login is looked up again, and used if it has changed. Else the job ends as failed.",
        "Correct the login for that registry, if it is one of the operator's.",
        "Check the image's name and the login: `cf push --docker-username`.",
        statuses=frozenset({401, 403}),
        sides=_SOURCE,
    ),
    AnswerRule(
        Verdict.FINAL,
        Denied,
        "The login is looked up again, and used if it has changed. Else the job ends as failed.",
        "Correct the program's login for the private registry, and let it pull and push.",
        _TELL,
        statuses=frozenset({401, 403}),
        sides=_PRIVATE,
    ),
    # Nothing there
    AnswerRule(
        Verdict.FINAL,
        NotFound,
        _FAILS,
        "Nothing, where the app is stopped or gone. Else see what its developer should do.",
        "Check the image's name and tag, and whether it was deleted.",
        statuses=frozenset({404, 410}),
        sides=_SOURCE,
    ),
    AnswerRule(
        Verdict.FINAL,
        NotFound,
        "What is not there is sent again, or need not be deleted. A push to a repository that is not there "
        "ends the job as failed.",
        "Create the repository, where the registry does not do so on a push.",
        _TELL,
        statuses=frozenset({404, 410}),
        sides=_PRIVATE,
    ),
    # The rest
    AnswerRule(
        Verdict.FINAL,
        Conflict,
        _FAILS,
        "Look at what the registry says.",
        _TELL,
        statuses=frozenset({409, 412}),
    ),
    AnswerRule(
        Verdict.AGAIN,
        Unavailable,
        _WAITS,
        "Look at the registry's log, or at that of the proxy in front of it.",
        _LATER,
        statuses=frozenset({408, 425, 499}) | _SERVER_ERRORS,
    ),
    AnswerRule(
        Verdict.FINAL,
        Invalid,
        _FAILS,
        "Look at what the registry says; of a redirect, where it leads.",
        _TELL,
    ),
)
"""The first rule that fits decides; the last one fits everything."""

WAITED_FOR = frozenset(
    {ErrorCode.DISK_FULL, ErrorCode.QUOTA_EXCEEDED, ErrorCode.READ_ONLY, ErrorCode.STORAGE_FAILED}
)
"""Codes of what keeps a registry from storing anything: a job waits for its end without using up attempts."""


def rule_for(answer: RefusedAnswer) -> AnswerRule:
    """Return the rule that decides about an answer."""
    return next(rule for rule in RULES if rule.fits(answer))
