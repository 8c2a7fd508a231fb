"""Kinds of files: whatever a log came as, the same history is read, and what cannot be read is a clear error."""

import csv
import gzip
import json
import math
import shutil
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kellet.diagnosis.import_logs import import_history
from kellet.diagnosis.log_files import open_log, open_logs
from kellet.diagnosis.log_lines import read_lines
from kellet.errors import DataError, InputError
from tests.helpers.foreign_logs import GRPO_ROW, OPENRLHF_ROW, PPO_ROW, VERL_ROW
from tests.helpers.log_kinds import KINDS, chart, event_file, jsonl, verl_console

ROWS = {"trl-ppo": PPO_ROW, "trl-grpo": GRPO_ROW, "openrlhf": OPENRLHF_ROW, "verl": VERL_ROW}
QUICK = settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHORT = st.integers(1, 999_999).map(lambda n: n / 1000)
"""Numbers of up to six digits, which 32 bits hold as well: event files have no more."""


def histories(trainer):
    """Rows of a trainer with numbers of any size, of 1 to 5 steps."""
    row = st.fixed_dictionaries(dict.fromkeys(ROWS[trainer], SHORT))
    return st.lists(row, min_size=1, max_size=5).map(
        lambda rows: [{"step": step, **row} for step, row in enumerate(rows, 3)]
    )


def history_of(path):
    return import_history(open_log(path).rows, None, None).rows


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("trainer", ROWS)
@QUICK
@given(data=st.data())
def test_every_kind_of_file_gives_the_same_history(tmp_path, trainer, name, data):
    rows = data.draw(histories(trainer))
    KINDS[name](tmp_path / name, rows)
    assert history_of(tmp_path / name) == import_history(rows, None, None).rows


@pytest.mark.parametrize("trainer", ROWS)
@QUICK
@given(data=st.data())
def test_the_order_of_rows_and_columns_changes_nothing(trainer, data):
    rows = data.draw(histories(trainer))
    turned = [dict(data.draw(st.permutations(list(row.items())))) for row in data.draw(st.permutations(rows))]
    assert import_history(turned, None, None).rows == import_history(rows, None, None).rows


@pytest.mark.parametrize("trainer", ROWS)
@QUICK
@given(data=st.data())
def test_no_metric_is_read_with_another_sign_or_unit(trainer, data):
    """Each number of the history is one of the row's, a KL per token times the length, or a penalty over a KL."""
    (row,) = data.draw(histories(trainer))[:1]
    imported = import_history([row], None, None)
    (metrics,) = imported.rows
    for theirs, ours in imported.names.items():
        assert metrics[ours] == row[theirs]
    derived = metrics.keys() - set(imported.names.values()) - {"iteration"}
    assert derived <= {"objective/kl_k1", "objective/kl_k3", "objective/kl_coef"}
    if "objective/kl_per_token" in metrics:
        (kl,) = derived & {"objective/kl_k1", "objective/kl_k3"}
        assert metrics[kl] == metrics["objective/kl_per_token"] * metrics["tokens/response_mean"]


@pytest.mark.parametrize(
    "name", ["log.jsonl", "trainer_state.json", "comma.csv", "printed.txt", "console.log", "run-1.wandb"]
)
def test_a_kl_that_is_not_a_number_is_no_number_in_every_kind(tmp_path, name):
    rows = [{"step": step, **VERL_ROW, "actor/reward_kl_penalty": math.nan} for step in range(1, 4)]
    KINDS[name](tmp_path / name, rows)
    imported = import_history(open_log(tmp_path / name).rows, None, None)
    assert [row["objective/kl_k1"] for row in imported.rows] == [None] * 3
    assert any("not a number in 3 of 3 rows" in note for note in imported.notes)


def test_lines_as_trl_printed_them_in_public(tmp_path):
    """From huggingface/trl issue 3452, and as transformers 5 prints numbers: as text of four digits."""
    path = tmp_path / "train.log"
    path.write_text(
        "{'loss': 0.0, 'grad_norm': 0.08656957000494003, 'learning_rate': 6.916666666666667e-06, 'completion_length': "
        "232.825, 'rewards/format_reward2': 1.0, 'reward': 1.7171093285083772, 'reward_std': 0.5700982138514519, "
        "'kl': 0.0005371240986278281, 'epoch': 0.31}\n"
        "{'loss': '0', 'completion_length': '237', 'reward': '1.884', 'kl': 'nan', 'epoch': '0.33'}\n"
    )
    first, second = history_of(path)
    assert first["objective/kl_k3"] == pytest.approx(232.825 * 0.0005371240986278281)
    assert (second["objective/reward"], second["objective/kl_k3"]) == (1.884, None)


def test_lines_as_verl_printed_them_in_public(tmp_path):
    """From verl-project/verl issue 2060 (shortened): three decimals, so a KL of 0.000 is no zero; step 0 only tests."""
    path = tmp_path / "verl.log"
    path.write_text(
        "step:0 - val-core/openai/gsm8k/acc/mean@1:0.508\n"
        "step:1 - actor/kl_loss:0.001 - actor/kl_coef:0.001 - actor/ppo_kl:-0.000 - critic/score/mean:0.558 - "
        "response_length/mean:288.698\n"
        "(TaskRunner pid=87031) step:2 - actor/kl_loss:0.024 - actor/kl_coef:0.001 - critic/score/mean:0.906 - "
        "response_length/me\nan:330.437 - response_length/clip_ratio:0.004\n"
    )
    first, second = history_of(path)
    assert first["objective/kl_k3"] == pytest.approx(0.288698)
    assert second["tokens/response_mean"] == 330.437
    assert any("rounded to 3 decimals" in note for note in open_log(path).notes)


def test_a_chart_of_several_runs_is_refused_until_one_is_chosen(tmp_path):
    path = tmp_path / "chart.csv"
    rows = [["Step", *(f"{run} - train/reward{end}" for run in ("a - b", "c") for end in ("", "__MIN", "__MAX"))]]
    rows += [[step, *[0.1 * step] * 3, *[0.5] * 3] for step in range(1, 4)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    with pytest.raises(DataError, match=r"2 runs \('a - b', 'c'\).*--run-name"):
        open_log(path)
    with pytest.raises(DataError, match=r"no run 'x'; it holds 'a - b', 'c'"):
        open_log(path, "x")
    assert open_log(path, "c").rows[0] == {"Step": 1.0, "train/reward": 0.5}
    assert open_log(path, "a - b").rows[0] == {"Step": 1.0, "train/reward": 0.1}


def test_a_file_with_a_column_of_runs_is_refused_until_one_is_chosen(tmp_path):
    path = tmp_path / "runs.jsonl"
    jsonl(path, [{"step": n, "run_name": run, **VERL_ROW} for run in ("a", "b") for n in (1, 2)])
    with pytest.raises(DataError, match=r"2 runs \('a', 'b'\)"):
        open_log(path)
    assert {row["run_name"] for row in open_log(path, "b").rows} == {"b"}
    jsonl(path, [{"step": 1, **VERL_ROW}])
    with pytest.raises(DataError, match="leave --run-name out"):
        open_log(path, "a")


def test_a_folder_of_event_files(tmp_path):
    """A training that was resumed begins another event file in the same folder; another run has another folder."""
    for number, steps in (("1", (1, 2, 3)), ("2", (3, 4))):
        event_file(
            tmp_path / f"events.out.tfevents.{number}.host", [{"step": n, **GRPO_ROW, "kl": n / 8} for n in steps]
        )
    imported = import_history(open_log(tmp_path).rows, None, None)
    assert [row["objective/kl_per_token"] for row in imported.rows] == [0.125, 0.25, 0.375, 0.5]
    (tmp_path / "hparams").mkdir()  # torch's add_hparams writes beside the run a file without scalars
    event_file(tmp_path / "hparams/events.out.tfevents.9.host", [])
    assert len(open_log(tmp_path).rows) == 5
    (tmp_path / "other").mkdir()
    shutil.copy(tmp_path / "events.out.tfevents.1.host", tmp_path / "other")
    with pytest.raises(DataError, match=r"2 runs \('\.', 'other'\)"):
        open_log(tmp_path)
    assert len(open_log(tmp_path, "other").rows) == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="without scalars in event files"):
        open_log(tmp_path / "empty")


def test_a_last_line_that_was_cut_off_is_passed_over_and_told_another_is_refused(tmp_path):
    path = tmp_path / "log.jsonl"
    good = json.dumps({"step": 1, **VERL_ROW})
    path.write_text(f'{good}\n{{"step": 2, "cri')
    log = open_log(path)
    assert len(log.rows) == 1
    assert log.notes == ("the last line (2) is cut off and was passed over",)
    path.write_text(f'{good}\n{{"step": 2, "cri\n{good}\n')
    with pytest.raises(DataError, match=r"log.jsonl, line 2: not valid JSON"):
        open_log(path)


def test_a_line_separator_inside_a_text_is_no_end_of_a_line(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({**VERL_ROW, "note": "a\u2028b\u0085c"}, ensure_ascii=False) + "\n", encoding="utf-8")
    assert history_of(path)[0]["objective/reward"] == 0.8
    answer = "a\u2028{'kl': 9.0}"
    line = json.dumps({"critic/score/mean": 0.8, "answer": answer}, ensure_ascii=False)
    assert read_lines(f"{line}\n")[0] == [{"critic/score/mean": 0.8, "answer": answer}]
    with (tmp_path / "log.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["step", *VERL_ROW, "note"], [1, *VERL_ROW.values(), "one\ntwo, three"]])
    assert len(open_log(tmp_path / "log.csv").rows) == 1


def test_a_comma_is_a_decimal_comma_only_where_it_can_be_nothing_else(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step;critic/score/mean;response_length/mean\n1;0,5;1,234\n2;0,75;1,5e+02\n")
    assert [row["response_length/mean"] for row in open_log(path).rows] == [1.234, 150.0]
    path.write_text("step;response_length/mean\n1;1,234\n")
    assert open_log(path).rows[0]["response_length/mean"] == 1.234
    path.write_text('step,critic/score/mean,response_length/mean\n1,0.5,"1,234"\n')
    assert open_log(path).rows[0]["response_length/mean"] == "1,234"  # thousands, perhaps: no number


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.jsonl", b"{}\n{", "no rows of metrics|no trainer"),
        ("log.jsonl", b"[1]\n", "wanted an object"),
        ("log.jsonl", b"", "empty"),
        ("log.json", b'{"a": ', "not valid JSON"),
        ("log.txt", b"Epoch 1 done\n", "begins with 'Epoch 1 done'"),
        ("model.bin", b"\0\1\2\3" * 9, "binary file of an unknown kind"),
        ("log.jsonl.gz", gzip.compress(b'{"a": 1}', mtime=0)[:-9], "cannot be read"),
        ("events.out.tfevents.1", b"\x18" + bytes(11), "binary file"),
    ],
)
def test_a_log_that_cannot_be_read_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        history_of(tmp_path / name)


def test_a_log_that_does_not_exist_is_refused(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        open_log(tmp_path / "none.jsonl")


START = st.sampled_from(
    [b"", b"{", b"[", b"step:1 - ", b":W&B\xe1\xbe\0", b"PAR1", b"\x1f\x8b", b"{'kl': ", b"a,b\n", b"\xff\xfe"]
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["l.jsonl", "l.json", "l.csv", "l.tsv", "l.txt", "l.wandb", "l.parquet", "l.gz"]),
    START,
    st.binary(max_size=200),
)
def test_random_bytes_give_rows_or_a_clear_error(tmp_path, name, start, rest):
    (tmp_path / name).write_bytes(start + rest)
    with suppress(DataError):
        import_history(open_log(tmp_path / name).rows, "verl", None)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.dictionaries(st.sampled_from(["step", "kl", "reward", "completion_length", "x", "train/kl"]), JSON),
        max_size=6,
    ),
    st.sampled_from([None, *ROWS]),
)
def test_random_rows_give_a_history_or_a_clear_error(rows, trainer):
    try:
        imported = import_history(rows, trainer, None)
    except InputError:
        return
    json.dumps(imported.rows, allow_nan=False)
    assert {item.name for item in imported.account} >= set(imported.names)


def test_what_is_no_row_of_metrics_is_counted():
    rows, notes = read_lines("a\n{'config': 'x'}\n{'kl': 1}\n")
    assert rows == [{"kl": 1}]
    assert notes == ["2 lines hold no metrics and went unread"]


def test_console_lines_and_a_chart_keep_their_names(tmp_path):
    verl_console(tmp_path / "a.log", [{"step": 4, "val-core/x/mean@1": 0.5}])
    assert open_log(tmp_path / "a.log").rows == [{"step": 4, "val-core/x/mean@1": 0.5}]
    chart(tmp_path / "a.csv", [{"step": 4, "kl": 0.5}])
    assert open_log(tmp_path / "a.csv").rows == [{"Step": 4.0, "train/kl": 0.5}]


def test_rows_that_a_column_says_are_of_an_evaluation_are_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    jsonl(path, [{"step": n, "split": split, **VERL_ROW} for n in (1, 2) for split in ("train", "eval")])
    log = open_log(path)
    assert [row["split"] for row in log.rows] == ["train", "train"]
    assert "2 rows are of an evaluation, by column 'split'" in log.notes[0]


def test_a_table_of_runs_is_no_course(tmp_path):
    """W&B's export of its table of runs: one row each, with the last value of each metric."""
    path = tmp_path / "runs.csv"
    path.write_text("Name,State,kl,reward,completions/mean_length\n" + "a,done,0.1,0.5,9\nb,done,0.2,0.6,8\n")
    with pytest.raises(DataError, match="2 runs"):
        open_log(path)


def test_an_array_under_a_name_that_does_not_say_so(tmp_path):
    path = tmp_path / "metrics.log"
    path.write_text(json.dumps([{"step": 1, **VERL_ROW}]))
    assert history_of(path)[0]["objective/reward"] == 0.8


def test_text_that_is_no_python_warns_of_nothing(recwarn):
    assert read_lines("{'kl': 1or 2}\n")[0] == []
    assert [str(warning.message) for warning in recwarn] == []


def test_braces_in_the_middle_of_a_line_are_no_metrics():
    """An answer that the log shows, for example."""
    assert read_lines("answer: {'reward': 1.0, 'kl': 2.0} is what I would log\n")[0] == []


def test_lines_that_a_notebook_broke_are_put_together_again():
    """Rich breaks what transformers 5 prints in a notebook, and pads it with blanks."""
    text = (
        "{'loss': '0.01',     \n  'completions/mean_length': '29', 'rewards/f/mean':  \n  '0.8', 'kl': '1.098'} \nnext"
    )
    assert read_lines(text)[0] == [
        {"loss": "0.01", "completions/mean_length": "29", "rewards/f/mean": "0.8", "kl": "1.098"}
    ]
    assert read_lines("{'a': 1\n{'kl': 2}\n")[0] == [{"kl": 2}]


def test_a_step_right_behind_a_progress_bar_is_read_and_a_longer_name_is_none():
    assert read_lines("10%|# | 1/9 [00:02<?, 4.72s/it]step:5 - critic/score/mean:0.5\n")[0] == [
        {"step": 5, "critic/score/mean": 0.5}
    ]
    assert read_lines("timing/step:1 - a\nval/global_step:12 - b:1\n")[0] == []
    assert read_lines("{'loss': 0.5, 'kl': 1}  2%|# | 10/405 [03:44<2:26:29]\n")[0] == [{"loss": 0.5, "kl": 1}]


@pytest.mark.parametrize(
    "line", ['{"kl": 0.1, "reward": 1, "kl": 0.9}', "{'kl': 0.1, 'reward': 1, 'kl': 0.9}", "step:1 - kl:0.1 - kl:0.9"]
)
def test_of_a_metric_twice_in_one_line_neither_is_taken(tmp_path, line):
    (tmp_path / "a.log").write_text(f"{line}\n")
    with pytest.raises(DataError, match=r"'kl' twice, as 0.1 and 0.9"):
        open_log(tmp_path / "a.log")
    rows, notes = read_lines(f"{line}\n{{'kl': 0.5}}\n")
    assert rows == [{"kl": 0.5}]
    assert notes[0] == "1 lines went unread, of which the first has 'kl' twice, as 0.1 and 0.9"


def test_a_chart_for_each_metric_is_one_log(tmp_path):
    """W&B exports a chart at a time; its step says which values belong together."""
    rows = [{"step": step, **GRPO_ROW, "kl": step / 8} for step in range(1, 6)]
    paths = [tmp_path / f"{place}.csv" for place in range(3)]
    for path, name in zip(paths, ("kl", "reward", "completions/mean_length"), strict=True):
        chart(path, [{"step": row["step"], name: row[name]} for row in rows])
    for order in (paths, paths[::-1]):
        read = import_history(open_logs(order).rows, None, None).rows
        assert [row["objective/kl_k3"] for row in read] == [step / 8 * 150.0 for step in range(1, 6)]
        assert {row["objective/reward"] for row in read} == {0.5}
    (tmp_path / "other.jsonl").write_text('{"n": 1, "kl": 0.5}\n')
    with pytest.raises(DataError, match=r"no steps by the same name \(.*0.csv: Step; .*other.jsonl: none\)"):
        open_logs([paths[0], tmp_path / "other.jsonl"])


def test_the_parts_of_a_resumed_run_are_one_log(tmp_path):
    verl_console(tmp_path / "a.log", [{"step": step, **VERL_ROW} for step in (1, 2, 3)])
    verl_console(tmp_path / "b.log", [{"step": step, **VERL_ROW, "critic/score/mean": 0.5} for step in (3, 4)])
    rows = import_history(open_logs([tmp_path / "a.log", tmp_path / "b.log"]).rows, None, None).rows
    assert [row["objective/reward"] for row in rows] == [0.8, 0.8, 0.5, 0.5]


def test_a_packed_parquet_file(tmp_path):
    KINDS["log.parquet"](tmp_path / "log.parquet", [{"step": 1, **VERL_ROW}])
    (tmp_path / "log.parquet.gz").write_bytes(gzip.compress((tmp_path / "log.parquet").read_bytes()))
    assert history_of(tmp_path / "log.parquet.gz") == history_of(tmp_path / "log.parquet")


def test_a_csv_under_another_name_is_one(tmp_path):
    text = "step,reward,kl,completions/mean_length\n" + "".join(f"{n},0.{n},0.01,{100 + n}\n" for n in range(1, 10))
    (tmp_path / "a.csv").write_text(text)
    wanted = open_log(tmp_path / "a.csv").rows
    for name in ("a.txt", "a.log", "metrics"):
        (tmp_path / name).write_text(text)
        found = open_log(tmp_path / name)
        assert found.rows == wanted
        assert "read as CSV, although its name does not say so" in found.notes[0]
    (tmp_path / "prose.txt").write_text("Dear all,\nsome words, and more\nwords, of 3 lines\n")
    with pytest.raises(DataError, match="holds no rows of metrics"):
        open_log(tmp_path / "prose.txt")
