"""The report: self-contained, escaped, complete, and able to do with little."""

import base64
import hashlib
import re
from pathlib import Path

import jinja2
import pytest
from jinja2 import meta

from adapters.artefacts import sources
from kellet.config.judgement import Gate
from kellet.config.run import Config
from kellet.diagnosis.diagnose import diagnose
from kellet.diagnosis.evidence import Evidence
from kellet.evaluation.file import check_evaluation
from kellet.evaluation.highlights import choose
from kellet.gate.programme import Programme
from kellet.gate.verdict import decide
from kellet.report import html
from kellet.report.judgements import explanation
from kellet.report.page import write_report
from kellet.report.run import Run
from kellet.report.side_by_side import MAX_TEXT, cut, level, marked
from kellet.report.sources import differing, facts
from kellet.report.svg import Axis, Series, curves, interval
from tests.helpers.evaluations import evaluation
from tests.helpers.page import Page
from tests.helpers.simulated_runs import Causes, simulate

NASTY = "</div><script>alert('x')</script> \"quoted\" & <img src=x onerror=alert(1)>"
CHAMPION = {"name": "support/1", "config": {"seed": 3, "gate": {"kl_budget": 5.0}}, "lineage": {"data_md5": "before"}}


def history(iterations=5):
    return [
        {
            "iteration": i,
            "objective/reward": 0.1 * i,
            "tokens/response_mean": 30.0 + i,
            "objective/kl": float(i),
            "objective/kl_coef": 0.1,
            "objective/kl_target": 3.0,
            "judge/held_out": -0.1 * i,
        }
        for i in range(iterations)
    ]


def page(tmp_path, table, data=None, champion=None, lineage=(), look=None, **files):
    """report.html of a run with this evaluation and these other files."""
    decision = decide(table, Gate(resamples=200), {"data md5": "0123abcd", **dict(lineage)}, look=look).to_dict()
    run = Run("run", tmp_path, decision, evaluation=check_evaluation(table), **files)
    write_report(tmp_path / "report.html", run, data, champion)
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    return text, Page(text)


def diagnosis():
    """One as of a history that tells little, with text from elsewhere in each place that holds text."""
    content = diagnose(Evidence(history=history(12))).to_dict()
    content["explanation"] = f"First paragraph.\n\n{NASTY}"
    content["recommendations"][0] |= {"change": NASTY, "patch": {"policy.kl.target": 2.0}}
    content["hypotheses"][0] |= {"evidence": NASTY}
    return content


def token_kl(table):
    """Two tokens for the first answer of the candidate."""
    row = table[table["system"] == "candidate"].iloc[0]
    answer = {"rule": "Largest gain", "prompt_id": row["prompt_id"], "sample": 0}
    return {"answers": [answer | {"tokens": [NASTY, " mild"], "nats": [1.5, 0.06]}]}


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    table = evaluation(40, judged=20, champion_gain=0.1)
    table.loc[:, "response"] = NASTY
    table["prompt"] = NASTY + table["prompt_id"]  # one text for all would be one cluster
    card = {"accuracy": {"value": 0.8, "interval": [0.75, 0.85]}, "pairs": 700, "warnings": [NASTY], "gamma": None}
    card["calibration"] = {"reliability": [{"confidence": 0.7, "right": {"value": 0.6, "interval": [0.5, 0.7]}}]}
    return page(
        tmp_path_factory.mktemp("report"),
        table,
        history=[*history(), {"iteration": 9, NASTY: 1.0, f"judge/{NASTY}": 2.0}],
        params={**Config().model_dump(mode="json"), "name": NASTY, NASTY: NASTY},
        card=card,
        data={"rows_in": 100, "reasons": {NASTY: 3}, "warnings": [NASTY]},
        lineage={"git commit": NASTY, "data_md5": "now"},
        diagnosis=diagnosis(),
        champion=CHAMPION | {"name": NASTY},
        token_kl=token_kl(table),
    )


def test_text_from_data_is_escaped(everything):
    text, parsed = everything
    assert "script" not in parsed.tags
    assert "img" not in parsed.tags
    assert "onerror" not in dict(parsed.attributes)
    assert "style" not in dict(parsed.attributes)  # the policy would not apply it
    assert "<script" not in text
    assert sum(NASTY in word for word in parsed.words) >= 16  # and yet it is all shown


def test_nothing_is_asked_for_from_outside(everything):
    text, parsed = everything
    shown = text.replace(NASTY, "").replace(Config().policy.vllm.endpoint, "")  # text, as the links below show
    assert not re.search(r"https?:|url\(|@import", shown)
    links = [value for name, value in parsed.attributes if name in ("href", "src")]
    assert links
    assert all(value.startswith("#") for value in links)


def test_the_policy_allows_one_style_sheet_and_nothing_else(everything):
    text, _ = everything
    (sheet,) = re.findall(r"<style>(.*?)</style>", text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    wanted = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    assert policy.replace("&#39;", "'") == wanted


def test_credentials_in_the_configuration_are_not_shown(tmp_path):
    config = {"tracking": {"uri": "postgresql://kellet:hunter2@db/mlflow"}}
    text, _ = page(tmp_path, evaluation(12), params=config, champion=CHAMPION | {"config": config})
    assert "hunter2" not in text
    assert "postgresql://***@db/mlflow" in text


def test_links_lead_somewhere_and_no_id_is_given_twice(everything):
    _, parsed = everything
    ids = [value for name, value in parsed.attributes if name in ("id", "aria-labelledby")]
    named = [value for name, value in parsed.attributes if name == "id"]
    assert len(named) == len(set(named))
    assert set(ids) == set(named)
    assert {value[1:] for name, value in parsed.attributes if name == "href"} <= set(named)


def test_the_gain_at_equal_length_is_drawn_with_the_pairs_that_carry_it(tmp_path):
    _, parsed = page(tmp_path, evaluation(64))
    local = decide(evaluation(64), Gate(resamples=200)).length.local
    words = " ".join(parsed.words)
    assert f"Among {local.pairs:,} pairs of answers whose lengths differ by less than {local.bandwidth:.1f}" in words
    assert "Reward gain by difference of lengths" in words
    assert f"at 0 {local.gain.value:.3g} [{local.gain.low:.3g}, {local.gain.high:.3g}]" in words


def test_all_sections_are_there(everything):
    _, parsed = everything
    words = " ".join(parsed.words)
    assert "--set policy.kl.target=2.0" in words
    for part in (
        "What changed",
        "Against the champion",
        "Criteria",
        "Why it came out so",
        "Two changes to try",
        "Training",
        "Judge: held_out",
        "Reward and length",
        "Where the KL is",
        "Answers side by side",
        "The preference data",
        "The reward model's card",
        "How sure it is",
        "Lineage",
    ):
        assert part in words
    for rule in ("Largest gain", "Median gain", "Largest loss", "Longest answer", "Most KL"):
        assert rule in words
    assert "80.0% [75.0%, 85.0%]" in words
    assert "0123abcd" in words


def test_every_drawing_says_what_it_shows_and_every_table_what_it_holds(everything):
    text, parsed = everything
    assert len(re.findall(r'<svg [^>]*role="img"><title>[^<]+</title>', text)) == parsed.tags.count("svg") > 20
    assert parsed.tags.count("caption") == parsed.tags.count("table") > 8
    assert "<title>mean reward gain: " in text
    assert "<desc>policy from 0 to 0.4; reference at " in text
    assert "<desc>mean from 0 to 4; target at 3; budget at 8 (nats per response).</desc>" in text


def test_what_differs_from_the_champion_is_listed(tmp_path):
    config = {"name": "mine", "seed": 4, "gate": {"kl_budget": 5.0}}
    table = evaluation(12, champion_gain=0.0)
    _, parsed = page(tmp_path, table, params=config, champion=CHAMPION, lineage={"data_md5": "now"})
    words = " ".join(word.strip() for word in parsed.words if word.strip())
    assert "Against the champion support/1" in words
    assert words.count("not shown worse") == 2  # in the verdict and beside the figures
    assert "seed 3 4" in words
    assert "data_md5 before now" in words
    assert "gate.kl_budget" not in words  # the same in both
    _, parsed = page(tmp_path, evaluation(12), params=config)
    assert "There is no champion" in " ".join(parsed.words)


def test_the_look_and_the_anchor_are_told(tmp_path):
    look = Programme().next_look("week-1", 24, ["p"])
    table = evaluation(12, champion_gain=0.0, anchor_gain=0.1)
    words = " ".join(" ".join(page(tmp_path, table, look=look)[1].words).split())
    assert look.sentence in words
    assert "95.63% intervals over prompts, so that each end is a one-sided bound at level 0.022." in words
    assert "The reward gain over the anchor is " in words
    assert "Against the anchor" in words
    assert "Estimate [90% interval]" in words  # that of the champion is at the level that was asked for
    assert "Estimate [95.63% interval]" in words
    assert "Anchor" in words
    alone = " ".join(page(tmp_path, table[table["system"] != "anchor"])[1].words)
    assert "This look stands alone (no programme was given)" in alone
    assert "Against the champion, which is the anchor" in alone


def test_a_decision_from_before_there_were_programmes_is_shown(tmp_path):
    decision = decide(evaluation(12), Gate(resamples=200)).to_dict()
    for name in ("programme", "comparison_with_anchor", "becomes_anchor"):
        del decision[name]
    run = Run("run", tmp_path, decision, evaluation=check_evaluation(evaluation(12)))
    write_report(tmp_path / "report.html", run)
    assert "Inconclusive" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_parameters_are_compared_leaf_by_leaf():
    theirs = {"name": "a", "tracking": {"uri": "x"}, "policy": {"kl": {"target": 2.0, "init_coef": 0.1}}, "old": True}
    ours = {"name": "b", "tracking": {"uri": "y"}, "policy": {"kl": {"target": 3.0, "init_coef": 0.1}}}
    assert differing(ours, theirs) == [("old", "yes", "–"), ("policy.kl.target", "2", "3")]


def test_the_verdict_tells_length_as_a_change(tmp_path):
    table = evaluation(12, samples=1)
    table["length_tokens"] = [30] * 12 + [20] * 12  # candidate, reference: half as long again
    _, parsed = page(tmp_path, table)
    words = [word.strip() for word in parsed.words if word.strip()]
    tiles = words[words.index("Reward gain") : words.index("What follows")]
    start = tiles.index("Length")
    assert tiles[start + 1 : start + 3] == ["+50%", "[+50, +50]"]
    assert "wanted at most +10%" in tiles


def test_the_systems_stand_side_by_side(tmp_path):
    table = evaluation(12, samples=1, champion_gain=0.0)
    table["length_tokens"] = [30] * 12 + [20] * 12 + [25] * 12  # candidate, reference, champion
    _, parsed = page(tmp_path, table)
    words = [word.strip() for word in parsed.words if word.strip()]
    words = words[words.index("System") :]
    lengths = {system: words[words.index(system) + 2] for system in ("Reference", "Champion", "Candidate")}
    assert "0.0% [0.0%, " in " ".join(words)  # truncated: nothing happened, which is no certainty
    assert lengths == {
        "Reference": "20.0 [20.0, 20.0]",
        "Champion": "25.0 [25.0, 25.0]",
        "Candidate": "30.0 [30.0, 30.0]",
    }


def test_the_verdict_says_why_in_short(tmp_path):
    """A run of a known cause (tests/helpers/simulated_runs.py): the page begins with its explanation in short."""
    evidence = simulate(Causes(label_taste=1.0, length_price=0.05, longer=20.0, kl=14.0, beta=0.02), 0)
    content = diagnose(evidence).to_dict()
    leads = [lead for lead, _ in explanation(content)]
    assert {"Why the reward rose.", "Why the KL penalty did not hold it.", "Together:"} <= set(leads)
    _, parsed = page(tmp_path, evaluation(12), diagnosis=content)
    words = " ".join(parsed.words)
    assert words.index("Why, in short") < words.index("Each system's answers") < words.index("Together:")
    supported = sum(item["verdict"] == "supported" for item in content["hypotheses"])
    assert [name for name, _ in parsed.attributes].count("open") == supported > 0


def test_a_change_that_was_measured_says_so(tmp_path):
    content = diagnosis()
    sentences = ["Measured: length +2% <against> the reference.", "It is not shown to give up anything."]
    content["recommendations"][1]["measured"] = {"verdict": "promote", "sentences": sentences, "arm": "second"}
    _, parsed = page(tmp_path, evaluation(12), diagnosis=content)
    words = " ".join(" ".join(parsed.words).split())
    sentence = "Measured: verdict promote; length +2% <against> the reference. It is not shown to give up anything."
    assert words.count(sentence) == words.count("Not measured yet") == 1
    assert words.count("(measured: promote)") == 1


def test_somebody_elses_file_is_enough(tmp_path):
    table = evaluation(12, samples=1).drop(columns=["kl_nats", "truncated"])
    text, _ = page(tmp_path, table)
    assert "Inconclusive" in text
    assert "cannot tell" in text
    for part in ("Training", "Where the KL is", "Why it came out so", "The preference data", "card</h2>", "Most KL"):
        assert part not in text


def test_examples_follow_their_rules(tmp_path):
    table = evaluation(4, samples=1).sort_values(["system", "prompt_id"], ignore_index=True)
    table["reward"] = [5.0, 1.0, 2.0, -9.0, 0.0, 0.0, 0.0, 0.0]  # gains: 5, 1, 2, -9
    table["length_tokens"] = [10, 99, 10, 10, 10, 10, 10, 10]
    table["response"] = [f"answer{i}" for i in range(8)]
    text, _ = page(tmp_path, table)
    order = [text.index(f"answer{i}<") for i in (0, 1, 3, 2)]  # of the middle two (1 and 2) the lower comes first
    assert order == sorted(order)


def test_words_that_differ_are_marked():
    old, new = marked("Your refund comes in five days.", "Your refund comes in ten <b> days. Thanks!")
    assert old == "Your refund comes in <del>five days.</del>"
    assert new == "Your refund comes in <ins>ten &lt;b&gt; days. Thanks!</ins>"
    assert marked("a\n b", "a  b") == ("a\n b", "a  b")  # white space does not count
    assert marked("", "new") == ("", "<ins>new</ins>")


def test_a_word_that_both_have_by_chance_is_no_match():
    assert marked("x you y", "p you q") == ("<del>x you y</del>", "<ins>p you q</ins>")
    assert marked("x we like it y", "p we like it q")[0] == "<del>x</del> we like it <del>y</del>"


def test_heat_has_shades_by_nats():
    assert [level(nats) for nats in (0.0, 0.049, 0.05, 0.3, 1.0, 7.0)] == [0, 0, 1, 3, 5, 6]


def test_tokens_stand_in_their_shade(tmp_path):
    table = evaluation(12)
    traces = token_kl(table)
    traces["answers"][0] |= {"tokens": ["a", "<b", "c"], "nats": [0.01, 2.5, 0.06]}
    traces["answers"].append({**traces["answers"][0], "prompt_id": "of another evaluation"})
    text, parsed = page(tmp_path, table, token_kl=traces)
    assert (
        text.count('a<span class="h6" title="2.50 nats">&lt;b</span><span class="h1" title="0.06 nats">c</span>') == 1
    )
    words = " ".join(" ".join(parsed.words).split())
    assert "2.57 nats on 3 tokens" in words
    assert "has 97% of it" in words  # 2.5 / 2.57
    assert "“<b” (token 2) 2.50" in words


def test_long_texts_and_tables_are_cut_and_say_so(tmp_path):
    assert cut("x" * MAX_TEXT) == "x" * MAX_TEXT
    assert cut("x" * (MAX_TEXT + 1234)).endswith("x … (1,234 more characters)")
    rows = facts({f"key {n}": n for n in range(1000)})
    assert rows[-1] == ("…", "800 more rows in the file itself")
    table = evaluation(1600, samples=1)
    for _, prompt_id, _ in choose(table):
        table.loc[table["prompt_id"] == prompt_id, "response"] = "word " * 5_000
    steps = [{"iteration": n, "objective/reward": 0.123456 * n, "objective/kl": 0.1 * n} for n in range(1, 20_001)]
    traces = token_kl(table)
    traces["answers"] = [traces["answers"][0] | {"tokens": ["word "] * 20_000, "nats": [1.0] * 20_000}] * 5
    text, _ = page(tmp_path, table, history=steps, token_kl=traces)
    assert "19,400 more tokens are not shown" in text
    curve = re.findall(r'<path class="curve candidate" d="([^"]*)"', text)
    assert [path.count("L") for path in curve] == [399, 399]  # 400 of 20,000 iterations
    assert len(text.encode()) < 1_000_000


def test_a_threshold_is_marked_and_the_wanted_side_shaded():
    drawn = interval(2.0, (1.0, 3.0), 0.0, "above", True, "a <label>", mark="0 <")
    assert "<title>a &lt;label&gt;</title>" in drawn
    assert ">0 &lt;</text>" in drawn
    ((x, width),) = re.findall(r'<rect class="good" x="([\d.]+)" y="5" width="([\d.]+)"', drawn)
    (dot,) = re.findall(r'cx="([\d.]+)"', drawn)
    assert float(x) < float(dot) < float(x) + float(width)
    (far,) = re.findall(r'cx="([\d.]+)"', interval(2.0, (1.0, 3.0), 0.0, "above", True, "", domain=[30.0]))
    assert float(far) < float(dot)


def test_the_same_input_gives_the_same_page(tmp_path):
    table = evaluation(20)
    assert page(tmp_path, table)[0] == page(tmp_path, table.sample(frac=1, random_state=0))[0]


def test_a_legend_of_many_curves_goes_on_in_another_row():
    few, many = (
        curves("KL", "nats", [Series(f"a long name {n}", f"run-{n}", [(1.0, 2.0), (2.0, 3.0)]) for n in range(size)])
        for size in (2, 8)
    )
    assert set(re.findall(r'<text class="name" x="\d+" y="(\d+)">a long name', few)) == {"18"}
    starts = re.findall(r'<text class="name" x="(\d+)" y="\d+">a long name', many)
    assert len(starts) == 8
    assert max(map(int, starts)) + 6.6 * len("a long name 0") <= 460
    grid = [float(y) for y in re.findall(r'class="grid" x1="[\d.]+" x2="[\d.]+" y1="([\d.]+)"', many)]
    rows = [int(y) for y in re.findall(r'y="(\d+)">a long name', many)]
    assert max(rows) < min(grid)


def test_the_key_of_the_report_changes_with_every_template_and_sheet():
    """adapters/artefacts.py counts the files that the code of a stage names."""
    folder = Path(html.__file__).parent
    parse, waiting, used = jinja2.Environment(autoescape=True).parse, ["report.html"], {"report.css"}
    while waiting:
        name = waiting.pop()
        used.add(name)
        waiting += {*meta.find_referenced_templates(parse((folder / name).read_text()))} - used
    assert len(used) > 5
    code = "".join(file.read_text() for file in sources("report.page"))
    assert [name for name in used if name not in code] == []


def test_ticks_are_round():
    axis = Axis([0.0, 1.0], 0, 100)
    assert axis.ticks() == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert axis.at(-5) == 0
    assert axis.at(5) == 100
