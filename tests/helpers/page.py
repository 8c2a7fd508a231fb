"""What the tests read of a written page."""

import base64
import hashlib
from html.parser import HTMLParser

VOID = {"meta", "link", "br", "img", "hr", "input", "rect", "line", "path", "circle"}


class Page(HTMLParser):
    """Collects tags and attributes, and checks that what opens also closes."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.attributes, self.words = [], [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def only_its_own_style(text, parsed):
    """Whether the page's policy allows the style sheet in it, by its hash, and nothing else."""
    sheet = text[text.index("<style>") + len("<style>") : text.index("</style>")]
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    policy = next(value for name, value in parsed.attributes if name == "content" and "-src" in value)
    return policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
