"""The report: self-contained, escaped, complete, and able to do with little."""

import re
from html.parser import HTMLParser

import pytest
from evaluations import evaluation

from kellet.config import Config, Gate
from kellet.diagnosis import diagnose
from kellet.evidence import Evidence
from kellet.gate import decide
from kellet.report import write_report
from kellet.svg import Axis

NASTY = "</div><script>alert('x')</script> \"quoted\" & <img src=x onerror=alert(1)>"
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


def history(iterations=5):
    return [
        {
            "iteration": i,
            "objective/reward": 0.1 * i,
            "tokens/response_mean": 30.0 + i,
            "objective/kl": float(i),
            "objective/kl_coef": 0.1,
            "objective/kl_target": 3.0,
        }
        for i in range(iterations)
    ]


def page(tmp_path, table, **more):
    decision = decide(table, Gate(resamples=200), {"data md5": "0123abcd"}).to_dict()
    write_report(tmp_path / "report.html", decision, table, **more)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


def diagnosis():
    """One as of a history that tells little, with text from elsewhere in each place that holds text."""
    told = diagnose(Evidence(history=history(12))).to_dict()
    told["explanation"] = f"First paragraph.\n\n{NASTY}"
    told["recommendations"][0] |= {"change": NASTY, "patch": {"policy.kl.target": 2.0}}
    told["hypotheses"][0] |= {"evidence": NASTY}
    return told


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    table = evaluation(40, judged=20, champion_gain=0.1)
    table.loc[:, "response"] = NASTY
    table.loc[:, "prompt"] = NASTY
    card = {"accuracy": {"value": 0.8, "interval": [0.75, 0.85]}, "pairs": 700, "warnings": [NASTY], "gamma": None}
    return page(
        tmp_path_factory.mktemp("report"),
        table,
        history=history(),
        config={**Config().model_dump(mode="json"), "name": NASTY},
        card=card,
        data={"rows_in": 100, "reasons": {NASTY: 3}},
        lineage={"git commit": NASTY},
        diagnosis=diagnosis(),
    )


def test_text_from_data_is_escaped(everything):
    text, parsed = everything
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    assert "onerror" not in dict(parsed.attributes)
    assert "<script" not in text
    assert sum(NASTY in word for word in parsed.words) >= 8  # and yet it is all shown


def test_nothing_is_asked_for_from_outside(everything):
    text, parsed = everything
    assert not re.search(r"https?:|url\(|@import", text.replace(NASTY, ""))
    links = [value for name, value in parsed.attributes if name in ("href", "src")]
    assert links
    assert all(value.startswith("#") for value in links)
    assert "default-src 'none'" in text


def test_credentials_in_the_configuration_are_not_shown(tmp_path):
    config = {"tracking": {"uri": "postgresql://kellet:hunter2@db/mlflow"}}
    text, _ = page(tmp_path, evaluation(12), config=config)
    assert "hunter2" not in text
    assert "postgresql://***@db/mlflow" in text


def test_links_lead_somewhere(everything):
    _, parsed = everything
    ids = {value for name, value in parsed.attributes if name == "id"}
    assert {value[1:] for name, value in parsed.attributes if name == "href"} <= ids


def test_all_sections_are_there(everything):
    text, parsed = everything
    words = " ".join(parsed.words)
    assert "--set policy.kl.target=2.0" in words
    for part in (
        "Criteria",
        "Why it came out so",
        "Two changes to try",
        "Training",
        "Reward and length",
        "Answers side by side",
        "Lineage",
        "champion",
    ):
        assert part in words
    for rule in ("Largest gain", "Median gain", "Largest loss", "Longest answer"):
        assert rule in words
    assert "0.8 [0.75, 0.85]" in words
    assert "0123abcd" in words
    assert parsed.tags.count("svg") == 4 + 1 + text.count('<td class="num">', 0, text.index("All judges")) / 2


def test_drawings_have_labels(everything):
    _, parsed = everything
    labels = [value for name, value in parsed.attributes if name == "aria-label"]
    assert any("mean reward gain" in label for label in labels)
    assert any("over iterations" in label for label in labels)


def test_somebody_elses_file_is_enough(tmp_path):
    table = evaluation(12, samples=1).drop(columns=["kl_nats", "truncated"])
    text, _ = page(tmp_path, table)
    assert "Inconclusive" in text
    assert "Training" not in text
    assert "cannot tell" in text


def test_examples_follow_their_rules(tmp_path):
    table = evaluation(4, samples=1).sort_values(["system", "prompt_id"], ignore_index=True)
    table["reward"] = [5.0, 1.0, 2.0, -9.0, 0.0, 0.0, 0.0, 0.0]  # gains: 5, 1, 2, -9
    table["length_tokens"] = [10, 99, 10, 10, 10, 10, 10, 10]
    table["response"] = [f"answer {i}" for i in range(8)]
    text, _ = page(tmp_path, table)
    order = [
        text.index(f"answer {i}<") for i in (0, 1, 3, 2)
    ]  # of the two in the middle (1 and 2) the lower comes first
    assert order == sorted(order)


def test_the_same_input_gives_the_same_page(tmp_path):
    table = evaluation(20)
    assert page(tmp_path, table)[0] == page(tmp_path, table.sample(frac=1, random_state=0))[0]


def test_ticks_are_round():
    axis = Axis([0.0, 1.0], 0, 100)
    assert axis.ticks() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert axis.at(-5) == 0
    assert axis.at(5) == 100
