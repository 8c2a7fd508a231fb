"""What it costs to look whether a chat template writes each message: encoding with and without, side by side.

    python benchmarks/chat_template.py

Prints milliseconds per thousand prompts and the ratio, for a short prompt and one of 400 words; the best of five turns
each, taken alternately, so that other work on the machine falls on both.
"""

import time

from kellet.config.training import Text
from kellet.data.conversation import to_prompt
from kellet.models.base_model import train_tokenizer
from kellet.models.tokens import encode_prompt

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTION = "where is my parcel and when will the refund for order number arrive please tell me"
PROMPTS, TURNS = 1000, 5


def main() -> None:
    """Print the table."""
    tokenizer = train_tokenizer([QUESTION] * 50, 300)
    tokenizer.chat_template = CHATML
    text = Text(max_prompt_tokens=4096)
    print("words  with (ms)  without (ms)  ratio")
    for words in (8, 400):
        long = " ".join([QUESTION] * 25).split()[:words]
        prompts = [to_prompt([{"role": "user", "content": f"{' '.join(long)} {n}"}]) for n in range(PROMPTS)]
        best = {True: float("inf"), False: float("inf")}
        for _ in range(TURNS):
            for whole in best:
                started = time.perf_counter()
                for prompt in prompts:
                    encode_prompt(tokenizer, prompt, text, whole)
                best[whole] = min(best[whole], time.perf_counter() - started)
        looked, plain = (1000 * best[whole] for whole in (True, False))
        print(f"{words:5d}  {looked:9.1f}  {plain:12.1f}  {looked / plain:.3f}")


if __name__ == "__main__":
    main()
