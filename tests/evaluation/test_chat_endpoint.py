"""A server is asked with patience and within its limits, and the key goes to it and nowhere else."""

import email.utils
import socket
import threading
import time

import pytest

from kellet.errors import InputError, KelletError
from kellet.evaluation import chat_endpoint
from kellet.evaluation.chat_endpoint import ChatEndpoint, RefusedRequest
from kellet.evaluation.judge_messages import Question, request
from tests.helpers.judge_server import JudgeServer, completion

BODY = request("m", "Rubric.", Question("Where?", "Here.", "There."), {})
SECRET = "sk-very-secret-0123456789"  # noqa: S105


def says(text="VERDICT: A"):
    return lambda *_: text


def first_answers(*changes):
    """The n-th request gets the n-th (status, headers, answer), later ones what the judge says."""

    def change(number, _body, told):
        return changes[number - 1] if number <= len(changes) else (200, {}, told)

    return change


def test_a_reply_has_its_text_its_tokens_and_the_name_of_the_model():
    with JudgeServer(says("No reason.\nVERDICT: B")) as server:
        for url in (server.endpoint, f"{server.endpoint}/", f"{server.endpoint}/chat/completions"):
            reply = ChatEndpoint(url).ask(BODY)
            assert (reply.text, reply.cut, reply.completion_tokens, reply.model) == (
                "No reason.\nVERDICT: B",
                False,
                4,
                "m",
            )
        assert [body for _, body in server.asked] == [BODY] * 3
        assert all("Authorization" not in headers for headers, _ in server.asked)


@pytest.mark.parametrize(
    "answer",
    [
        {"choices": [{"message": {"content": [{"type": "text", "text": "VERDICT: "}, {"text": "A"}]}}]},
        {"choices": [{"message": {"content": "VERDICT: A"}, "finish_reason": "stop"}], "usage": None},
        {"choices": [{"message": {"content": "VERDICT: A"}}], "usage": {"prompt_tokens": "many"}},
    ],
)
def test_parts_of_a_message_and_missing_counts_are_read(answer):
    with JudgeServer(says(), first_answers((200, {}, answer))) as server:
        reply = ChatEndpoint(server.endpoint).ask(BODY)
        assert (reply.text, reply.prompt_tokens, reply.completion_tokens) == ("VERDICT: A", None, None)


def test_a_reply_without_content_is_empty_and_one_at_its_limit_is_cut():
    silent = {"choices": [{"message": {"content": None, "reasoning_content": "hm"}, "finish_reason": "length"}]}
    with JudgeServer(says(), first_answers((200, {}, silent))) as server:
        reply = ChatEndpoint(server.endpoint).ask(BODY)
        assert (reply.text, reply.cut) == ("", True)


@pytest.mark.parametrize("answer", [b"<html>welcome</html>", {"object": "list", "data": []}, {"choices": []}, [1]])
def test_what_is_no_chat_server_is_told_with_what_it_said(answer):
    with JudgeServer(says(), first_answers((200, {}, answer))) as server:
        with pytest.raises(InputError, match=r"answers no chat completion: .*up to and with /v1"):
            ChatEndpoint(server.endpoint).ask(BODY)
        assert len(server.asked) == 1


@pytest.mark.parametrize("status", [429, 500, 503, 529])
def test_a_busy_server_is_asked_again_when_it_says(status):
    later = email.utils.formatdate(time.time() + 1, usegmt=True)
    for header, least in (("0.3", 0.3), (later, 0.0), ("0", 0.0)):
        with JudgeServer(says(), first_answers((status, {"Retry-After": header}, {"error": "slow down"}))) as server:
            begun = time.monotonic()
            assert ChatEndpoint(server.endpoint).ask(BODY).text == "VERDICT: A"
            assert least <= time.monotonic() - begun < 2.5
            assert len(server.asked) == 2


def test_without_a_time_the_pauses_double(monkeypatch):
    pauses = []
    with JudgeServer(says(), first_answers(*[(503, {}, {})] * 4)) as server:
        endpoint = ChatEndpoint(server.endpoint, tries=5)
        monkeypatch.setattr(endpoint, "_pause", pauses.append)
        assert endpoint.ask(BODY).text == "VERDICT: A"
    assert pauses == [1.0, 2.0, 4.0, 8.0]


def test_a_pause_holds_every_thread_back():
    with JudgeServer(says(), first_answers((429, {"Retry-After": "0.5"}, {}))) as server:
        endpoint = ChatEndpoint(server.endpoint)
        first = threading.Thread(target=endpoint.ask, args=(BODY,))
        first.start()
        while not endpoint._not_before:
            time.sleep(0.01)
        begun = time.monotonic()
        endpoint.ask(BODY)
        assert time.monotonic() - begun > 0.3
        first.join()


def test_a_server_that_stays_busy_or_wants_too_long_a_wait_is_given_up_with_its_words():
    busy = first_answers(*[(429, {"Retry-After": "0"}, {"error": "quota exceeded"})] * 9)
    with JudgeServer(says(), busy) as server:
        with pytest.raises(KelletError, match=r"answers 429 in try 3 of 3 and asks to wait 0 s: .*quota exceeded"):
            ChatEndpoint(server.endpoint, tries=3).ask(BODY)
        assert len(server.asked) == 3
    with JudgeServer(says(), first_answers((429, {"Retry-After": "86400"}, {}))) as server:
        with pytest.raises(KelletError, match="asks to wait 86400 s"):
            ChatEndpoint(server.endpoint).ask(BODY)
        assert len(server.asked) == 1


@pytest.mark.parametrize("header", ["soon", "nan", "inf", "-5", ""])
def test_a_time_that_is_none_is_no_reason_to_fail(header, monkeypatch):
    monkeypatch.setattr(chat_endpoint, "LONGEST_PAUSE", 0.05)
    with JudgeServer(says(), first_answers((429, {"Retry-After": header}, {}))) as server:
        assert ChatEndpoint(server.endpoint).ask(BODY).text == "VERDICT: A"


def test_a_refused_request_is_told_apart_from_a_wrong_key_and_a_wrong_address(monkeypatch):
    for status in (400, 413, 422):
        with JudgeServer(says(), first_answers((status, {}, {"error": "context too long"}))) as server:
            with pytest.raises(RefusedRequest, match=f"answers {status}: .*context too long"):
                ChatEndpoint(server.endpoint).ask(BODY)
            assert len(server.asked) == 1
    with JudgeServer(says(), key="right") as server:
        with pytest.raises(InputError, match=r"answers 401: .*set KELLET_JUDGE_KEY in the environment") as error:
            ChatEndpoint(server.endpoint).ask(BODY)
        assert not isinstance(error.value, RefusedRequest)
    with JudgeServer(says()) as server, pytest.raises(InputError, match=r"answers 404: .*check --endpoint"):
        ChatEndpoint(server.endpoint.removesuffix("/v1")).ask(BODY)


def test_the_key_goes_into_one_header_and_is_shown_nowhere(monkeypatch):
    monkeypatch.setenv("TEAM_KEY", f" {SECRET}\n")
    with JudgeServer(says(f"your key is {SECRET}"), key=SECRET) as server:
        reply = ChatEndpoint(server.endpoint, "TEAM_KEY").ask(BODY)
        assert reply.text == "your key is ***"
        headers, body = server.asked[0]
        assert headers["Authorization"] == f"Bearer {SECRET}"
        assert SECRET not in str(body)
        monkeypatch.setenv("TEAM_KEY", f"{SECRET}-old")
        with pytest.raises(InputError, match="answers 401") as error:
            ChatEndpoint(server.endpoint, "TEAM_KEY").ask(BODY)
        assert SECRET not in str(error.value)
        assert "set TEAM_KEY" in str(error.value)


@pytest.mark.parametrize("key", ["line\nbreak", "caf\u00e9", "two words"])
def test_a_key_that_cannot_be_sent_is_refused_without_its_value(monkeypatch, key):
    monkeypatch.setenv("TEAM_KEY", key)
    with pytest.raises(InputError, match="TEAM_KEY holds characters") as error:
        ChatEndpoint("http://127.0.0.1:1/v1", "TEAM_KEY")
    assert key not in str(error.value)
    monkeypatch.delenv("TEAM_KEY")
    with pytest.raises(InputError, match="TEAM_KEY, which is not set"):
        ChatEndpoint("http://127.0.0.1:1/v1", "TEAM_KEY")


def test_a_key_meant_for_another_server_is_not_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", SECRET)
    with JudgeServer(says()) as server:
        ChatEndpoint(server.endpoint).ask(BODY)
        assert SECRET not in str(server.asked)


def test_a_redirect_does_not_carry_the_key_to_another_host(monkeypatch):
    monkeypatch.setenv("KELLET_JUDGE_KEY", SECRET)
    with JudgeServer(says()) as thief, JudgeServer(says()) as server:
        for status in (301, 302, 307, 308):
            server.change = first_answers(*[(status, {"Location": f"{thief.endpoint}/chat/completions"}, {})] * 9)
            with pytest.raises(InputError, match=f"answers {status}: .*redirects are not followed"):
                ChatEndpoint(server.endpoint).ask(BODY)
        assert thief.asked == []


def test_a_key_over_http_to_another_machine_is_known(monkeypatch):
    monkeypatch.setenv("KELLET_JUDGE_KEY", SECRET)
    assert ChatEndpoint("http://judge.example/v1").in_the_clear
    assert not ChatEndpoint("https://judge.example/v1").in_the_clear
    assert not ChatEndpoint("http://127.0.0.1:8000/v1").in_the_clear


@pytest.mark.parametrize(
    "url",
    [
        "judge.example/v1",
        "file:///etc/passwd",
        "ftp://x/v1",
        "http://",
        "",
        "http://x:port/v1",
        "http://a b/v1",
        "https://[x/v1",
    ],
)
def test_what_is_no_address_is_refused(url):
    with pytest.raises(InputError, match="--endpoint"):
        ChatEndpoint(url)


def test_a_password_in_the_address_is_refused_and_not_repeated():
    with pytest.raises(InputError, match="KELLET_JUDGE_KEY") as error:
        ChatEndpoint(f"https://team:{SECRET}@judge.example/v1")
    assert SECRET not in str(error.value)


def test_a_query_stays_behind_the_path():
    assert ChatEndpoint("https://x.example/openai/v1?api-version=2").url == (
        "https://x.example/openai/v1/chat/completions?api-version=2"
    )


def test_nobody_at_the_address_is_said_after_a_few_tries(monkeypatch):
    monkeypatch.setattr(chat_endpoint, "LONGEST_PAUSE", 0.01)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(KelletError, match=r"does not answer .*tried 3 times.*check --endpoint"):
        ChatEndpoint(f"http://127.0.0.1:{port}/v1", tries=50).ask(BODY)


def test_a_server_that_drips_its_answer_is_not_waited_for_without_end(monkeypatch):
    """Each byte comes before a socket's own timeout: the request as a whole has a limit."""
    monkeypatch.setattr(chat_endpoint, "LONGEST_PAUSE", 0.01)
    listening = socket.create_server(("127.0.0.1", 0))

    def drip():
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            with client:
                client.recv(65536)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
                try:
                    for _ in range(200):
                        client.sendall(b" ")
                        time.sleep(0.05)
                except OSError:
                    pass

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    begun = time.monotonic()
    with pytest.raises(KelletError, match=r"longer than 0\.4 s"):
        ChatEndpoint(f"http://127.0.0.1:{listening.getsockname()[1]}/v1", timeout=0.4, tries=2).ask(BODY)
    assert time.monotonic() - begun < 5
    listening.close()


def test_a_reply_of_the_wrong_kind_of_size_is_refused(monkeypatch):
    monkeypatch.setattr(chat_endpoint, "LONGEST_ANSWER", 1000)
    with JudgeServer(says("word " * 1000)) as server, pytest.raises(InputError, match="is it a chat server"):
        ChatEndpoint(server.endpoint).ask(BODY)


def test_a_completion_is_what_the_helper_says():
    assert completion("VERDICT: A", BODY)["usage"]["completion_tokens"] == 2
