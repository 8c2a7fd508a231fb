"""Preference files as public data sets and annotation tools write them: one writer a form, with its source.

A writer makes a row of (prompt, better answer, worse answer, whether the better one was shown first).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from kellet.data.form import Said


class Pair(NamedTuple):
    """A judged pair of answers."""

    prompt: str
    better: str
    worse: str
    first: bool
    """The better answer was shown first."""


Writer = Callable[[Pair], dict[str, Any]]


class Foreign(NamedTuple):
    """A form of files."""

    write: Writer
    said: Said = Said()
    """What the reader is told."""


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def answers(pair: Pair, one: str, other: str) -> dict[str, str]:
    """The two answers in the order in which they were shown."""
    return dict(zip((one, other), (pair.better, pair.worse) if pair.first else (pair.worse, pair.better), strict=True))


def code(pair: Pair, first: Any, second: Any) -> Any:
    return first if pair.first else second


def compared(one: str, other: str, name: str, first: Any, second: Any) -> Writer:
    """Two answers and a column that says who won."""
    return lambda pair: {"prompt": pair.prompt, **answers(pair, one, other), name: code(pair, first, second)}


def dialogue(pair: Pair, end: str = "\n") -> dict[str, Any]:
    start = f"{end}{end}Human: {pair.prompt}{end}{end}Assistant: "
    return {"chosen": start + pair.better, "rejected": start + pair.worse}


def ultrafeedback(pair: Pair) -> dict[str, Any]:
    """https://huggingface.co/datasets/HuggingFaceH4/ultrafeedback_binarized"""
    chosen, rejected = (user(pair.prompt) + assistant(text) for text in (pair.better, pair.worse))
    scores = {"score_chosen": 8.0, "score_rejected": 3.5}
    return {
        "prompt": pair.prompt,
        "prompt_id": "0f",
        "chosen": chosen,
        "rejected": rejected,
        "messages": chosen,
    } | scores


def helpsteer3(pair: Pair) -> dict[str, Any]:
    """https://huggingface.co/datasets/nvidia/HelpSteer3: -3 is response 1 much better"""
    why = [{"score": -2, "reasoning": "It says more of what was asked for", "feedback1": "This one is good and long"}]
    row = {"domain": "general", "context": user(pair.prompt), **answers(pair, "response1", "response2")}
    return row | {"overall_preference": code(pair, -2, 1), "individual_preference": why}


def pku(pair: Pair) -> dict[str, Any]:
    """https://huggingface.co/datasets/PKU-Alignment/PKU-SafeRLHF: the number of the better response, from 0"""
    row = {"prompt": pair.prompt, **answers(pair, "response_0", "response_1"), "is_response_0_safe": True}
    harm = {"response_0_harm_category": {"Insulting Behavior": False}, "response_0_severity_level": 0}
    return row | harm | {"better_response_id": code(pair, 0, 1), "safer_response_id": 1}


def shp(pair: Pair) -> dict[str, Any]:
    """https://huggingface.co/datasets/stanfordnlp/SHP: labels is 1 where A is preferred"""
    scores = {"score_A": code(pair, 9, 2), "score_B": code(pair, 2, 9), "score_ratio": 4.5}
    row = {"post_id": "a1", "domain": "askacademia_train", "history": pair.prompt, "c_root_id_A": "hj"}
    return row | answers(pair, "human_ref_A", "human_ref_B") | {"labels": code(pair, 1, 0)} | scores


def distilabel_orca(pair: Pair) -> dict[str, Any]:
    """https://huggingface.co/datasets/argilla/distilabel-intel-orca-dpo-pairs"""
    row = {"system": "", "input": pair.prompt, "chosen": pair.better, "rejected": pair.worse}
    row |= {"generations": [pair.better, pair.worse], "order": ["chosen", "rejected"], "rating": [9.0, 4.0]}
    row |= {"labelling_model": "gpt-4-1106-preview", "labelling_prompt": user("Please rate both of these answers")}
    return row | {"rationale": "The first did a better job of it", "status": "unchanged", "in_gsm8k_train": False}


def arena(pair: Pair) -> dict[str, Any]:
    """https://huggingface.co/datasets/lmsys/chatbot_arena_conversations"""
    talks = answers(pair, "conversation_a", "conversation_b")
    row = {name: user(pair.prompt) + assistant(text) for name, text in talks.items()}
    row |= {"question_id": "q", "model_a": "koala", "model_b": "vicuna", "winner": code(pair, "model_a", "model_b")}
    return row | {
        "judge": "arena_user_1",
        "turn": 1,
        "openai_moderation": {"categories": {"hate": False}, "flagged": False},
    }


def kaggle_arena(pair: Pair) -> dict[str, Any]:
    """https://www.kaggle.com/competitions/lmsys-chatbot-arena/data"""
    row = {"id": 1, "model_a": "x", "model_b": "y", "prompt": pair.prompt, **answers(pair, "response_a", "response_b")}
    return row | {"winner_model_a": code(pair, 1, 0), "winner_model_b": code(pair, 0, 1), "winner_tie": 0}


def tldr(pair: Pair) -> dict[str, Any]:
    """https://huggingface.co/datasets/openai/summarize_from_feedback: choice is the number of the summary, from 0"""
    texts = answers(pair, "one", "two").values()
    summaries = [{"text": text, "policy": "sup4", "note": None} for text in texts]
    return {
        "info": {"id": "t3", "post": pair.prompt, "title": None},
        "summaries": summaries,
        "choice": code(pair, 0, 1),
    }


def argilla(pair: Pair) -> dict[str, Any]:
    """argilla, records/_io/_generic.py, flattened"""
    question = {"pref.responses": [code(pair, "response1", "response2")], "pref.responses.users": ["u1"]}
    comment = {"comment.responses": ["I like this one better for it is clear"], "comment.responses.users": ["u1"]}
    row = {"id": "1", "status": "completed", "prompt": pair.prompt, **answers(pair, "response1", "response2")}
    return row | question | {"pref.responses.status": ["submitted"]} | comment


def label_studio(pair: Pair) -> dict[str, Any]:
    """https://labelstud.io/guide/task_format"""
    result = {"from_name": "pw", "type": "pairwise", "value": {"selected": code(pair, "left", "right")}}
    why = {"from_name": "why", "type": "textarea", "value": {"text": ["so much better than the other one"]}}
    done = {"completed_by": {"id": 1, "email": "a@x.org"}, "result": [result, why], "was_cancelled": False}
    data = {"prompt": pair.prompt, **answers(pair, "answer1", "answer2")}
    return {"id": 1, "data": data, "annotations": [done], "predictions": [], "created_at": "2026-01-01T00:00:00Z"}


def prodigy(pair: Pair) -> dict[str, Any]:
    """https://prodi.gy/docs/api-interfaces#choice"""
    texts = answers(pair, "x1", "x2")
    options = [{"id": name, "text": text} for name, text in texts.items()]
    return {"text": pair.prompt, "options": options, "accept": [code(pair, "x1", "x2")], "answer": "accept"}


def sharegpt(pair: Pair) -> dict[str, Any]:
    """LLaMA-Factory, data/README.md: preference data in the sharegpt format"""
    sides = {side: {"from": "gpt", "value": text} for side, text in (("chosen", pair.better), ("rejected", pair.worse))}
    return {"conversations": [{"from": "human", "value": pair.prompt}], **sides}


FORMS: dict[str, Foreign] = {
    "standard": Foreign(lambda p: {"prompt": p.prompt, "chosen": p.better, "rejected": p.worse}),
    "capital names": Foreign(lambda p: {"Prompt": p.prompt, "Chosen": p.better, "Rejected": p.worse}),
    "conversational": Foreign(
        lambda p: {"prompt": user(p.prompt), "chosen": assistant(p.better), "rejected": assistant(p.worse)}
    ),
    "implicit conversation": Foreign(
        lambda p: {"chosen": user(p.prompt) + assistant(p.better), "rejected": user(p.prompt) + assistant(p.worse)}
    ),
    "hh-rlhf": Foreign(dialogue),
    "hh-rlhf with CR LF": Foreign(lambda p: dialogue(p, "\r\n")),
    "prompt repeated": Foreign(
        lambda p: {"prompt": p.prompt, "chosen": f"{p.prompt} {p.better}", "rejected": f"{p.prompt} {p.worse}"}
    ),
    "UltraFeedback": Foreign(ultrafeedback),
    "HelpSteer3": Foreign(helpsteer3),
    "PKU-SafeRLHF": Foreign(pku),
    "SHP": Foreign(shp),
    "distilabel orca": Foreign(distilabel_orca),
    "arena": Foreign(arena),
    "Kaggle's arena": Foreign(kaggle_arena),
    "TL;DR": Foreign(tldr),
    "Argilla": Foreign(argilla),
    "Label Studio": Foreign(label_studio),
    "Prodigy": Foreign(prodigy),
    "LLaMA-Factory": Foreign(sharegpt),
    "Argilla's UltraFeedback": Foreign(
        lambda p: {
            "instruction": p.prompt,
            "chosen_response": p.better,
            "rejected_response": p.worse,
            "chosen_model": "x",
        }
    ),
    "Stack Exchange": Foreign(  # lvwerra/stack-exchange-paired
        lambda p: {
            "qid": 1,
            "question": p.prompt,
            "response_j": p.better,
            "response_k": p.worse,
            "metadata": ["https://x"],
        }
    ),
    "AlpacaEval": Foreign(  # github.com/tatsu-lab/alpaca_eval: 1 is output_1, 2 is output_2, 1.5 a draw
        lambda p: {"instruction": p.prompt, **answers(p, "output_1", "output_2"), "preference": code(p, 1.02, 1.98)}
    ),
    "MT-bench's verdict": Foreign(compared("assistant_a", "assistant_b", "verdict", "[[A]]", "[[B]]")),
    "words": Foreign(compared("Response A", "Response B", "Preference", "A is slightly better", "B is much better")),
    "arrows": Foreign(compared("answer_a", "answer_b", "preference", "A>>B", "B>A")),
    "left, right": Foreign(compared("left_text", "right_text", "choice", "left", "right")),
    "1, 2": Foreign(compared("response_1", "response_2", "winner", 1, 2)),
    "1, 2 as letters": Foreign(compared("response_a", "response_b", "label", "1", "2")),
    "true by its name": Foreign(compared("answer_a", "answer_b", "a_is_better", True, False)),
    "1 by its name": Foreign(compared("response_0", "response_1", "is_response_1_better", 0, 1)),
    "index": Foreign(compared("completion_a", "completion_b", "best_index", 0, 1)),
    "figures in words": Foreign(compared("response_0", "response_1", "winner", "response 0", "response 1")),
    "names of models": Foreign(
        lambda p: {
            "model_a": "koala",
            "model_b": "gpt",
            **compared("answer_a", "answer_b", "winner", "koala", "gpt")(p),
        }
    ),
    "answers called by their models": Foreign(
        lambda p: {"prompt": p.prompt, **answers(p, "gpt", "llama"), "winner": code(p, "gpt", "llama")}
    ),
    "text of the winner": Foreign(
        lambda p: {"prompt": p.prompt, **answers(p, "response_a", "response_b"), "winner": p.better}
    ),
    "chosen is a name": Foreign(
        lambda p: {
            **compared("response_a", "response_b", "chosen", "response_a", "response_b")(p),
            "rejected": code(p, "response_b", "response_a"),
        }
    ),
    "0, 1 as told": Foreign(
        compared("response_a", "response_b", "label", 1, 0), Said(preferred_values={"1": "a", "0": "b"})
    ),
    "strengths as told": Foreign(
        compared("response_a", "response_b", "label", 5, 2), Said(preferred_values={">3": "a", "3": "tie", "<3": "b"})
    ),
    "columns as told": Foreign(
        compared("left_text", "right_text", "winner", "left", "right"),
        Said({"answer_a": "right_text", "answer_b": "left_text"}),
    ),
}
