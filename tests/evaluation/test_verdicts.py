"""People as the gate's judge. Which verdicts a registered candidate takes: tests/tasks/test_regate.py."""

from kellet.config.run import Config
from kellet.evaluation.verdicts import by_people


def test_people_take_the_other_judges_place_and_no_threshold_moves():
    given = Config.model_validate({"gate": {"judge": "judge_reward", "judge_error": 0.2, "kl_budget": 5}})
    gate = by_people(given).gate
    assert (gate.judge, gate.judge_error) == ("judge_human", 0.0)
    assert gate.judges_for_information == ("judge_reward",)  # it is still there, and no longer decides
    before = {"judge": "judge_reward", "judge_error": 0.2, "judges_for_information": ()}
    assert gate.model_copy(update=before) == given.gate
    people = Config.model_validate({"gate": {"judge_error": 0.1}})
    assert by_people(people) == people
