"""The registered model: MLflow runs this file when it loads ``models:/NAME@champion`` (models from code).

Input: a data frame with the column ``prompt``, or a list of prompts. Output: one response for each prompt, sampled with
the parameter ``seed``, or without it greedy: the most probable token at each step.
``mlflow.transformers`` does not serve: it initialises the LoRA weights of a local base anew, with only a warning.
"""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class ServedPolicy(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Base model and policy adapter, from the artefacts ``base`` and ``policy``."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights; templates and token limits (``text``) come from the model's configuration."""
        from pathlib import Path

        from kellet.config.training import Text
        from kellet.models.sampling import load_policy

        self.text = Text.model_validate(dict(context.model_config["text"]))
        policy = Path(context.artifacts["policy"])
        base = Path(context.artifacts["base"])
        self.model, self.tokenizer = load_policy(base, policy / "adapter", self.text.temperature)

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002  # MLflow passes it
        model_input: pd.DataFrame,  # or a list; with both as type hint MLflow would refuse parameters
        params: dict[str, Any] | None = None,
    ) -> list[str]:
        """Answer each prompt."""
        from kellet.models.sampling import generate_text

        prompts = list(model_input["prompt"] if isinstance(model_input, pd.DataFrame) else model_input)
        return generate_text(self.model, self.tokenizer, prompts, self.text, (params or {}).get("seed"))


set_model(ServedPolicy())
