"""Text on its way into Markdown, for GitHub's comments and Prefect's pages: in it is no markup, mention or link."""

import re

_MARKUP = re.compile(r"([\\`*_\[\]|~$])")
_LINKS = re.compile(r"([@#]|://|www\.)")
"""What GitHub makes a mention, a reference or a link of, unless something invisible follows it."""
_BEGINS = re.compile(r"^(\s*)([-+=]|\d+(?=[.)]))")
"""What makes a list or a heading at the beginning of a line."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+")


def plain(text: str) -> str:
    """``text`` for a cell or a paragraph, on one line."""
    line = CONTROL.sub(" ", text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _BEGINS.sub(r"\1&#8203;\2", _LINKS.sub(r"\1&#8203;", _MARKUP.sub(r"\\\1", line)))


def code(text: str) -> str:
    """``text`` as a code span, on one line; a back tick in it becomes an apostrophe."""
    return f"`{CONTROL.sub(' ', text).replace('`', chr(39)).replace('|', '/')}`"
