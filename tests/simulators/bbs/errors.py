"""The errors that the BBS answers with, and the panics that make it answer nothing.

Source: bbs models/error.go, models/errors.go.
"""

from protos.bbs.error_pb2 import Error


class BbsError(Exception):
    """A failure that a response carries in its `error` field."""

    def __init__(self, kind: Error.Type, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Panic(Exception):
    """The handler died: the connection is closed without an answer."""


_TEXTS: dict[Error.Type, str] = {
    Error.ResourceNotFound: "the requested resource could not be found",
    Error.ResourceExists: "the requested resource already exists",
    Error.ResourceConflict: "the requested resource is in a conflicting state",
    Error.Deadlock: "the request failed due to deadlock",
    Error.InvalidRequest: "the request received is invalid",
    Error.UnknownError: "the request failed for an unknown reason",
    Error.Deserialize: "could not deserialize record",
    Error.GUIDGeneration: "cannot generate random guid",
    Error.ActualLRPCannotBeClaimed: "cannot claim actual LRP",
    Error.ActualLRPCannotBeStarted: "cannot start actual LRP",
    Error.ActualLRPCannotBeCrashed: "cannot crash actual LRP",
    Error.ActualLRPCannotBeFailed: "cannot fail actual LRP",
    Error.ActualLRPCannotBeRemoved: "cannot remove actual LRP",
    Error.ActualLRPCannotBeUnclaimed: "cannot unclaim actual LRP",
}


def error(kind: Error.Type) -> BbsError:
    """Make an error whose text is fixed for its type."""
    return BbsError(kind, _TEXTS[kind])


def invalid(problems: list[str]) -> BbsError:
    """Make the error of a failed validation: all its messages, joined."""
    return BbsError(Error.InvalidRequest, ", ".join(problems))
