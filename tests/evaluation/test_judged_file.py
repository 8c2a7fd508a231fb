"""A judge's column is added, and nothing of what was there is lost."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kellet.errors import InputError
from kellet.evaluation.file import read_evaluation
from kellet.evaluation.judged_file import check_column, merged, place_for, scores_at, write_judged
from tests.helpers.judged_pairs import rows_of

NAME = "judge_model"


@pytest.fixture
def source(tmp_path):
    """Somebody's own file: other columns, other types, other names, rows in no order, metadata."""
    rows = rows_of([(12, 1, 2)]).sample(frac=1, random_state=1)
    table = rows.rename(columns={"prompt_id": "Prompt_ID"}).assign(
        system=rows["system"].str.upper(), latency_ms=range(len(rows)), note=[None, "x"] * (len(rows) // 2)
    )
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    arrow = arrow.append_column("tags", pa.array([["a", "b"]] * len(rows), pa.list_(pa.string())))
    arrow = arrow.append_column("day", pa.array([1] * len(rows), pa.date32()))
    arrow = arrow.replace_schema_metadata({**arrow.schema.metadata, b"owner": b"team"})
    (tmp_path / "x=1").mkdir()
    path = tmp_path / "x=1/theirs.parquet"
    pq.write_table(arrow, path)
    return path


def scored(path, values=None):
    rows = read_evaluation(path)
    values = np.linspace(0, 1, len(rows)) if values is None else values
    return merged(rows, NAME, np.asarray(values, float), path)


@pytest.mark.parametrize("in_place", [True, False])
def test_every_column_type_name_and_the_order_of_a_parquet_file_stay(source, in_place):
    before = pq.ParquetFile(source).read()
    judged = scored(source)
    place = place_for(source, None, in_place)
    write_judged(source, place, judged, NAME)
    after = pq.ParquetFile(place).read()
    assert after.drop_columns([NAME]).equals(before)
    assert after.schema.metadata[b"owner"] == b"team"
    assert place.name == ("theirs.parquet" if in_place else "theirs.judged.parquet")
    pd.testing.assert_frame_equal(read_evaluation(place), judged)
    if not in_place:
        assert pq.ParquetFile(source).read().equals(before)


def test_scores_that_were_there_stay_and_others_are_not_mixed_with_them(source):
    half = np.where(np.arange(24) % 2, 0.5, np.nan)
    write_judged(source, source, scored(source, half), NAME)
    whole = scored(source, np.full(24, 0.5))
    write_judged(source, source, whole, NAME)
    assert (read_evaluation(source)[NAME] == 0.5).all()
    kept = scored(source, np.full(24, np.nan))
    assert (kept[NAME] == 0.5).all()
    before = source.read_bytes()
    with pytest.raises(InputError, match=r"other scores in judge_model for 24 answers.*another --column"):
        scored(source, np.full(24, 0.75))
    assert source.read_bytes() == before


def test_what_is_added_meanwhile_is_kept_and_other_answers_are_refused(source):
    """Judging takes hours: verdicts of people, or another judge, may come into the file."""
    judged = scored(source)
    table = pq.ParquetFile(source).read()
    pq.write_table(table.append_column("judge_other", pa.array([1.0] * len(table))), source)
    write_judged(source, source, judged, NAME)
    assert {"judge_other", NAME, "latency_ms"} <= set(pq.ParquetFile(source).schema_arrow.names)
    changed = table.to_pandas()
    changed.loc[0, "response"] = "another answer"
    changed.to_parquet(source)
    with pytest.raises(InputError, match="has changed since it was judged"):
        write_judged(source, source, judged, NAME)


def test_a_file_that_is_there_is_not_written_over_by_another(source, tmp_path):
    judged, out = scored(source), tmp_path / "out.parquet"
    write_judged(source, out, judged, NAME)
    write_judged(source, out, judged, NAME)  # the same again
    fewer = judged.assign(**{NAME: judged[NAME].where(judged[NAME] > 0.5)})
    write_judged(source, out, fewer, NAME)
    assert read_evaluation(out)[NAME].notna().all()
    kept = out.read_bytes()
    with pytest.raises(InputError, match="other scores"):
        write_judged(source, out, judged.assign(**{NAME: 0.25}), NAME)
    richer = pq.ParquetFile(out).read()
    for name, values in (("judge_second", [0.5] * 24), ("comment", ["x"] * 24)):
        pq.write_table(richer.append_column(name, pa.array(values)), out)
        held = out.read_bytes()
        with pytest.raises(InputError, match="would be lost"):
            write_judged(source, out, judged, NAME)
        assert out.read_bytes() == held
    out.write_bytes(kept)
    rows_of([(3, 1, 0)]).to_parquet(out)
    with pytest.raises(InputError, match="another evaluation"):
        scores_at(out, judged, NAME)
    out.write_text("a letter")
    with pytest.raises(InputError, match="is no evaluation"):
        write_judged(source, out, judged, NAME)
    assert out.read_text() == "a letter"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.parquet", "x=1"]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize("to", [".csv", ".parquet"])
def test_text_files_are_written_anew_and_read_back_the_same(tmp_path, suffix, to):
    source = tmp_path / f"e{suffix}"
    rows = rows_of([(12, 1, 2)])
    rows["response"] = rows["response"] + '\nwith "quotes", commas; and\ttabs'
    rows.to_csv(source, index=False) if suffix == ".csv" else rows.to_json(source, orient="records", lines=True)
    with pytest.raises(InputError, match=r"of .* give --out FILE\.parquet"):
        place_for(source, None, True)
    judged, place = scored(source), tmp_path / f"out{to}"
    write_judged(source, place, judged, NAME)
    pd.testing.assert_frame_equal(read_evaluation(place), judged)


def test_places_that_cannot_be_meant_are_refused(source):
    for out in (source.with_suffix(".txt"), source.with_suffix(".jsonl")):
        with pytest.raises(InputError, match=r"written as \.parquet or \.csv"):
            place_for(source, out, False)
    with pytest.raises(InputError, match="give one of them"):
        place_for(source, source, True)
    with pytest.raises(InputError, match="write into it with --in-place"):
        place_for(source, source.parent / "." / source.name, False)


@pytest.mark.parametrize(
    "name", ["model", "judge_", "judge_human", "judge_Gold", "judge_reward", "judge a", "judge_\n"]
)
def test_a_column_that_is_people_s_or_no_judge_s_is_refused(name):
    with pytest.raises(InputError, match="--column"):
        check_column(name)


@pytest.mark.parametrize("name", ["judge_model", "judge_GPT-4.1", "judge_qwen3_32b"])
def test_a_column_of_a_model_reads_as_it_is_named(source, name):
    check_column(name)
    rows = read_evaluation(source)
    write_judged(source, source, merged(rows, name, np.full(len(rows), 0.5), source), name)
    assert name in read_evaluation(source)
