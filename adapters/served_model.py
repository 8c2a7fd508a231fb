"""The registered model: MLflow runs this file when it loads ``models:/NAME@champion`` (models from code).

Not ``mlflow.transformers``: that one loads LoRA weights of a local base as newly initialised, with only a warning.
Input: a data frame with the column ``prompt``, or a list of prompts. Output: one response for each. The parameter
``seed`` samples with that seed; without it each response is the most probable one, token by token (greedy).
"""

from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext


class ServedPolicy(PythonModel):  # type: ignore[misc]  # mlflow is not typed
    """Base model and policy adapter, from the artefacts ``base`` and ``policy``."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights; the parameters of the text border come from the model's configuration."""
        from pathlib import Path

        from kellet.config.training import Text
        from kellet.models.sampling import load_policy

        self.text = Text.model_validate(dict(context.model_config["text"]))
        policy = Path(context.artifacts["policy"])
        self.model, self.tokenizer = load_policy(Path(context.artifacts["base"]), policy / "adapter")

    def predict(
        self,
        context: PythonModelContext,  # noqa: ARG002  # MLflow passes it
        model_input: pd.DataFrame,  # or a list; a hint that says so would keep MLflow from taking parameters
        params: dict[str, Any] | None = None,
    ) -> list[str]:
        """Answer each prompt."""
        from kellet.models.sampling import generate_text

        prompts = list(model_input["prompt"] if isinstance(model_input, pd.DataFrame) else model_input)
        return generate_text(self.model, self.tokenizer, prompts, self.text, (params or {}).get("seed"))


set_model(ServedPolicy())
