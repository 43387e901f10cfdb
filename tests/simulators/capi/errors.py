"""The errors that Cloud Controller answers with.

Source: cloud_controller_ng config/error_messages/v2.yml (codes and titles), lib/cloud_controller/errors.
"""

import json

from tests.simulators.bbs.connections import Answer

JSON = ("Content-Type", "application/json; charset=utf-8")


class ApiError(Exception):
    """A refusal, as its answer has it."""

    def __init__(self, status: int, code: int, title: str, detail: str) -> None:
        super().__init__(f"{status} {title}: {detail}")
        self.status, self.code, self.title, self.detail = status, code, title, detail

    @property
    def body(self) -> bytes:
        """The answer's body."""
        error = {"code": self.code, "title": self.title, "detail": self.detail}
        return json.dumps({"errors": [error]}, separators=(",", ":")).encode()

    def answer(self, *headers: tuple[str, str]) -> Answer:
        """Make the answer."""
        return Answer(self.status, self.body, (JSON, *headers))


def not_authenticated() -> ApiError:
    """Say that no token was sent."""
    return ApiError(401, 10002, "CF-NotAuthenticated", "Authentication error")


def invalid_token() -> ApiError:
    """Say that a token is not valid, or no longer."""
    return ApiError(401, 1000, "CF-InvalidAuthToken", "Invalid Auth Token")


def not_authorized() -> ApiError:
    """Say that a token's scopes are not enough."""
    text = "You are not authorized to perform the requested action"
    return ApiError(403, 10003, "CF-NotAuthorized", text)


def not_found(kind: str) -> ApiError:
    """Say that something is not there, or not for the caller."""
    return ApiError(404, 10010, "CF-ResourceNotFound", f"{kind} not found")


def unknown_request() -> ApiError:
    """Say that there is no such path."""
    return ApiError(404, 10000, "CF-NotFound", "Unknown request")


def unprocessable(detail: str) -> ApiError:
    """Say that a body's fields are wrong."""
    return ApiError(422, 10008, "CF-UnprocessableEntity", detail)


def bad_query(detail: str) -> ApiError:
    """Say that a parameter is wrong."""
    return ApiError(400, 10005, "CF-BadQueryParameter", f"The query parameter is invalid: {detail}")


def unreadable_body() -> ApiError:
    """Say that a body is no JSON."""
    text = "Request invalid due to parse error: invalid request body"
    return ApiError(400, 1001, "CF-MessageParseError", text)


def rate_limited() -> ApiError:
    """Say that a client has used up its requests."""
    return ApiError(429, 10013, "CF-RateLimitExceeded", "Rate Limit Exceeded")


def unknown_error() -> ApiError:
    """Say what is said of whatever nobody has caught."""
    return ApiError(500, 10001, "UnknownError", "An unknown error occurred.")


def unavailable() -> ApiError:
    """Say that the database is in trouble."""
    text = "Database connection failure"
    return ApiError(503, 10015, "CF-ServiceUnavailable", text)


def runner_error(detail: str) -> ApiError:
    """Say that Diego has refused something, or that nothing could be sent to it."""
    return ApiError(500, 170011, "CF-RunnerError", f"Runner error: {detail}")


def uaa_unreachable() -> ApiError:
    """Say that the token server does not answer."""
    return ApiError(502, 20004, "CF-UaaUnavailable", "The UAA service is currently unavailable")
