"""Chat templates that compute for ever or fill the memory end in one line; ordinary ones pass."""

from types import SimpleNamespace

import pytest

from kellet.errors import ConfigError
from kellet.models import bounded_template
from kellet.models.bounded_template import require_bounded
from kellet.models.trunk import load_base
from tests.helpers import tiny

LOOP = "{% for i in range(99999) %}"
END = "{% endfor %}"
HOSTILE = {
    "loops": 3 * LOOP + 3 * END,
    "width": "{{ '%1000000000d' % 1 }}{{ '%2000000000d' % 1 }}",
    "doubling": "{% set n = namespace(t='x' * 1000) %}" + LOOP + "{% set n.t = n.t ~ n.t %}" + END + "{{ n.t }}",
}
ORDINARY = {
    "chatml": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}",
    "refuses": "{{ raise_exception('only one message') }}",
    "broken": "{% for %}",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(bounded_template, "SECONDS", 2)
    monkeypatch.setattr(bounded_template, "MEMORY", 2**28)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_template_without_end_is_refused_when_the_base_is_loaded(tmp_path, name):
    tiny.foreign_base(tmp_path / "base")
    (tmp_path / "base" / "chat_template.jinja").write_text(HOSTILE[name])
    with pytest.raises(ConfigError, match="did not render a conversation of three messages within 2 s") as error:
        load_base(tmp_path / "base")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ORDINARY)
def test_one_that_ends_passes_even_where_it_refuses(name):
    _, tokenizer = tiny.base()
    tokenizer.chat_template = ORDINARY[name]
    require_bounded(tokenizer, "base")


def test_without_a_template_nothing_is_tried():
    require_bounded(SimpleNamespace(chat_template=None), "base")
