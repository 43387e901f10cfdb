r"""Makes text that another system sent fit to be shown and kept: one line, short, without credentials.

The order is the same everywhere: the length is bounded first, then what must not be shown is masked by
patterns that are linear in the length, and at last the text is cut. So no pattern meets more than a few
thousand characters, and no credential is cut in two and missed.

What a terminal would obey, or what turns the direction of writing, is shown as an escape such as "\x1b".
"""

import base64
import json
import re
from urllib.parse import quote, quote_plus

MAX_FOREIGN_TEXT = 256
"""Characters that are shown of a text of another system."""

MAX_DETAIL = 1024
"""Characters of the detail of an error, and of any text that says why in a record."""

MAX_READ = 4096
"""Characters of a text that are looked at."""

_MASK = "***"
_MIN_SECRET_TO_ENCODE = 4
"""Characters of the shortest secret whose encoded forms are masked too; those of others are in any text."""

_HIDDEN = re.compile(
    r"(?i)\b(bearer|basic)\s{1,8}[\w.~+/=-]{6,}"
    r"|\b((?:access_|refresh_|identity_?|registry_?)?token|password|passwd|client_secret|secret_access_key"
    r"|sig|signature|x-amz-[a-z-]{1,40}|_state)"
    r"(=|\\{0,3}\"?\s{0,8}:\s{0,8}\\{0,3}\"?)[^\s&\"']+"
    r"|\beyJ[\w-]{10,}(\.[\w-]*){0,4}"
    r"|\?[^\s\"']+"
)
_WORD = re.compile(r"[^\s\"'<>`]+")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,31}://")
_DIGEST = re.compile(r"sha[0-9]{1,4}(?:[:#]|$)")


def cut(text: str, most: int = MAX_FOREIGN_TEXT) -> str:
    """Shorten a text; the last character is an ellipsis where something was cut off."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def shown(text: str) -> str:
    """Write a text without characters that a terminal obeys: white space as spaces, others as escapes."""
    return text if text.isprintable() else "".join(map(_shown, text))


def one_line(text: str, most: int = MAX_FOREIGN_TEXT) -> str:
    """Shorten a text to one line; runs of white space become one space."""
    line = _joined(text[:MAX_READ])
    return cut(line, most) if len(text) <= MAX_READ else _marked_as_cut(line, most)


def reason_text(text: str) -> str:
    """Make a text that says why fit for errors and records: one printable line of at most 1024 characters."""
    return text if len(text) <= MAX_DETAIL and text.isprintable() else one_line(text, MAX_DETAIL)


def clean(text: str, secrets: tuple[str, ...] = ()) -> str:
    """Shorten a text to one line, without credentials and without the queries of URLs.

    Args:
        text: As the other system sent it.
        secrets: Texts that must not be shown, in whatever form they are encoded.
    """
    forms = _forms(secrets)
    line = _joined(_without(text, forms))
    for form in forms:
        line = line.replace(_joined(form), _MASK) if _joined(form) else line
    if len(text) > MAX_READ:
        line = _without_broken_end(line)
    line = _HIDDEN.sub(_MASK, mask_logins(line))
    return cut(line) if len(text) <= MAX_READ else _marked_as_cut(line, MAX_FOREIGN_TEXT)


def mask_logins(text: str) -> str:
    """Mask the logins in the URLs and the image references of a text."""
    return _WORD.sub(lambda word: _without_login(word[0]), text)


def mask_login(text: str) -> str:
    """Mask a login in one URI or image reference: all up to the last "@" that no digest follows."""
    scheme, login, rest = split_login(text)
    return f"{scheme}{_MASK}@{rest}" if login else text


def split_login(text: str) -> tuple[str, str, str]:
    """Split one URI or image reference into its scheme, its login with the "@", and the rest."""
    scheme = _SCHEME.match(text)
    start = 0 if scheme is None else scheme.end()
    login, rest = _split_name(text[start:])
    return text[:start], login, rest


def _shown(character: str) -> str:
    if character.isprintable():
        return character
    return " " if character.isspace() else character.encode("unicode_escape").decode("ascii")


def _joined(text: str) -> str:
    return " ".join(shown(text).split())


def _marked_as_cut(line: str, most: int) -> str:
    return cut(line, most) if len(line) > most else cut(f"{line}…", most)


def _without_broken_end(line: str) -> str:
    """Leave out the last word of a text that was cut in it, since no pattern knows what it was to be."""
    head, space, last = line.rpartition(" ")
    if space:
        return head
    scheme, separator, _ = last.partition("://")
    return f"{scheme}{separator}{_MASK}" if separator else last


def _split_name(name: str) -> tuple[str, str]:
    login, at, rest = name.rpartition("@")
    if at and "/" not in rest and _DIGEST.match(rest):
        login, at, _ = login.rpartition("@")
        rest = name[len(login) + len(at) :]
    return f"{login}{at}", rest


def _without_login(word: str) -> str:
    before, separator, named = word.partition("://")
    if separator:
        login, rest = _split_name(named)
        return f"{_without_login(before)}{separator}" + (f"{_MASK}@{rest}" if login else named)
    login, rest = _split_name(word)
    return f"{_MASK}@{rest}" if ":" in login else word


def _forms(secrets: tuple[str, ...]) -> tuple[str, ...]:
    """List secrets and their encoded forms, the longest first."""
    forms = set[str]()
    for secret in filter(None, secrets):
        forms.add(secret)
        if len(secret) >= _MIN_SECRET_TO_ENCODE:
            raw = secret.encode("utf-8", "replace")
            forms |= {quote(raw, safe=""), quote_plus(raw), json.dumps(secret)[1:-1]}
            forms |= {json.dumps(secret, ensure_ascii=False)[1:-1], secret.rstrip("=")}
            forms |= {each(raw).decode().rstrip("=") for each in (base64.b64encode, base64.urlsafe_b64encode)}
    return tuple(sorted(forms - {""}, key=len, reverse=True))


def _without(text: str, forms: tuple[str, ...]) -> str:
    """Mask secrets in what is looked at of a text, also one that begins there and ends behind it."""
    spans = list[tuple[int, int]]()
    for form in forms:
        window, start = text[: MAX_READ + len(form)], 0
        while 0 <= (start := window.find(form, start)) < MAX_READ:
            spans.append((start, start + len(form)))
            start += len(form)
    parts, end = list[str](), 0
    for first, last in sorted(spans):
        if first >= end:
            parts += [text[end:first], _MASK]
        end = max(end, last)
    return "".join([*parts, text[end:MAX_READ]])
