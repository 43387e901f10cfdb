"""Makes text that another system sent fit to be shown: one line, short, without credentials."""

import re

MAX_FOREIGN_TEXT = 256  # characters

_HIDDEN = re.compile(
    r"(?i)\b(bearer|basic)\s+[\w.~+/=-]{6,}"
    r"|\b((?:access_|refresh_)?token|password|sig|signature|x-amz-[a-z-]+|_state)(=|\"?:\s*\"?)[^\s&\"']+"
    r"|(?<=://)[^\s/@\"']+(?=@)"
    r"|\?[^\s\"']+"
)


def cut(text: str) -> str:
    """Shorten a text to 256 characters; the last one is an ellipsis where something was cut off."""
    return text if len(text) <= MAX_FOREIGN_TEXT else f"{text[: MAX_FOREIGN_TEXT - 1]}…"


def one_line(text: str) -> str:
    """Shorten a text to one line; runs of white space and of unprintable characters become one space."""
    return cut(_joined(text))


def clean(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Shorten a text to one line, without credentials and without the queries of URLs.

    Args:
        text: As the other system sent it.
        secrets: Texts that must not be shown.
    """
    line = _joined(text)
    for secret in secrets:
        if secret:
            line = line.replace(secret, "***")
    return cut(_HIDDEN.sub("***", line))


def _joined(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
