"""What the parts below say in English, said in Chinese: a table of messages, `messages_zh.toml`.

A message is looked up as it stands, then held against the templates. In a template `{PATH}` (upper case) stands for
anything and is taken over as it is, `{reason}` (lower case) for a message that is translated in its turn, and
`{list}` for messages with commas between them. What the table does not know stays English, whole.
"""

import re
import tomllib
from functools import cache
from importlib.resources import files

from protocols.dlt645.codes import FUNCTIONS, REASONS, SECURITY_REASONS

_PLACE = re.compile(r"\{([A-Za-z]+)(\d?)\}")


@cache
def _table() -> tuple[dict[str, str], list[tuple[re.Pattern[str], str]]]:
    """Messages that stand as they are, and templates in the order of the file."""
    said = tomllib.loads(files("field").joinpath("messages_zh.toml").read_text(encoding="utf-8"))
    plain = {en: zh for functions in FUNCTIONS.values() for en, zh in functions.values()}
    plain |= {en: zh for reasons in (*REASONS.values(), SECURITY_REASONS) for en, zh in reasons}
    templates = []
    for en, zh in said.items():
        if _PLACE.search(en) is None:
            plain[en] = zh
        else:
            # re.split gives text, name, digit, text, ...: each place becomes a named group.
            parts = _PLACE.split(en)
            pattern = re.escape(parts[0])
            for name, digit, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
                pattern += f"(?P<{name}{digit}>.+?)" + re.escape(text)
            templates.append((re.compile(pattern, re.DOTALL), zh))
    return plain, templates


def translated(text: str) -> str | None:
    """The message in Chinese; None where the table does not have it, or not all of it."""
    plain, templates = _table()
    if text in plain:
        return plain[text]
    for pattern, zh in templates:
        match = pattern.fullmatch(text)
        if match is None:
            continue
        filled = {name: _fill(name, part) for name, part in match.groupdict().items()}
        if None not in filled.values():
            return _PLACE.sub(lambda place: str(filled[place[1] + place[2]]), zh)  # noqa: B023  used at once
    return None


def _fill(name: str, text: str) -> str | None:
    if name.isupper():
        return text
    if name == "list":
        words = [translated(each) for each in text.split(", ")]
        return None if None in words else "、".join(filter(None, words))
    return translated(text)


def chinese(text: str) -> str:
    """The message in Chinese; as it is where it cannot be said whole."""
    return translated(text) or text
