"""The starter suite's instructions are such that lm-eval can check, and its checkers tell good answers from bad ones."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).resolve().parents[2] / "evals" / "tasks" / "data" / "starter_instructions.jsonl"
INSTRUCTIONS: list[dict[str, Any]] = [json.loads(line) for line in FILE.read_text(encoding="utf-8").splitlines()]

# These need nltk's punkt or punkt_tab, a download: the suite must work without one.
NEEDS_DOWNLOAD = {"length_constraints:number_sentences", "change_case:capital_word_frequency"}


@pytest.fixture(scope="module")
def ifeval() -> Any:
    """lm-eval's ifeval utils. With LOCAL_RANK set they download nothing when imported."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_RANK", "1")
        langdetect = pytest.importorskip("langdetect")
        patch.setattr(langdetect.DetectorFactory, "seed", 0)
        yield pytest.importorskip("lm_eval.tasks.ifeval.utils")


def as_loaded(row: dict[str, Any]) -> dict[str, Any]:
    """The row as `datasets` would give it: every keyword argument's name in every dict, None where it is not used."""
    names = sorted({name for other in INSTRUCTIONS for kwargs in other["kwargs"] for name in kwargs})
    return {**row, "kwargs": [{name: kwargs.get(name) for name in names} for kwargs in row["kwargs"]]}


def test_instruction_items(ifeval: Any) -> None:
    registry = ifeval.instructions_registry
    types: Counter[str] = Counter()
    for row in INSTRUCTIONS:
        assert set(row) == {"key", "prompt", "instruction_id_list", "kwargs"}
        assert isinstance(row["key"], int)
        ids = row["instruction_id_list"]
        assert len(ids) == len(row["kwargs"]) == len(set(ids))
        types.update(ids)
        for number, (one, kwargs) in enumerate(zip(ids, row["kwargs"], strict=True)):
            assert one not in NEEDS_DOWNLOAD
            instruction = registry.INSTRUCTION_DICT[one](one)
            assert instruction.build_description(**kwargs)
            # lm-eval draws an argument by chance where it has none, so all must be given and be kept as given.
            expected = set(instruction.get_instruction_args_keys())
            assert set(kwargs) == expected, (row["key"], one)
            kept = instruction.get_instruction_args() or {}
            for name, value in kwargs.items():
                assert value, "lm-eval drops arguments that are empty or zero"
                assert sorted(kept[name]) == sorted(value) if isinstance(value, list) else kept[name] == value
            for other in ids[number + 1 :]:
                assert other not in registry.INSTRUCTION_CONFLICTS[one] or "json_format" in one + other
    assert len(types) >= 12
    assert sum(len(row["instruction_id_list"]) == 2 for row in INSTRUCTIONS) >= 10


def test_instruction_prompts_name_what_is_checked() -> None:
    for row in INSTRUCTIONS:
        for kwargs in row["kwargs"]:
            asked = kwargs.get("keywords", []) + kwargs.get("forbidden_words", [])
            asked += [
                kwargs[name] for name in ("keyword", "end_phrase", "first_word", "prompt_to_repeat") if name in kwargs
            ]
            for text in asked:
                assert text in row["prompt"], (row["key"], text)
            number = kwargs.get("num_words") or kwargs.get("num_bullets") or kwargs.get("num_highlights")
            assert number in (None, 1) or str(number) in row["prompt"], (row["key"], number)


# The instruction's prompt begins with the first text; then an answer that follows it and one that does not.
ANSWERS = [
    (
        "Tell me in two sentences what people use a bicycle for",
        "people ride a bicycle to get to work or to school. some of them also ride one just for fun on the weekend.",
        "People ride a bicycle to get to work or to school. Some of them also ride one for fun.",
    ),
    (
        "Write a sign of one or two sentences",
        "PLEASE WALK WITH CARE BECAUSE THE FLOOR IS WET. THANK YOU FOR YOUR PATIENCE.",
        "Please walk with care because the floor is wet.",
    ),
    ("Is the Pacific Ocean larger", "My answer is yes.", "Yes, it is much larger."),
    (
        "Write one sentence about a farm",
        "The goat looked over the fence of the farm at the fresh hay.",
        "The goat looked at the fresh hay of the farm.",
    ),
    (
        "Write a few lines about winter",
        "Snow on the roof, snow on the road, and snow in my shoes.",
        "Snow on the roof and ice on the road.",
    ),
    (
        "What does an umbrella do?",
        "It keeps you dry when it pours outside.",
        "It keeps you from getting wet when it pours.",
    ),
    (
        "Write one sentence about bees and honey",
        "Bees see the sweet flowers and keep the hive's honey in wax cells.",
        "Bugs bring us wax.",
    ),
    (
        "Name two countries in one short sentence",
        "I thought of Brazil and France.",
        "Spain is a sunny place, and so is Greece.",
    ),
    (
        "Say in two sentences what you like to do on Sundays",
        "Los domingos me gusta pasear por el parque con mi perro. Después preparo una comida para toda la familia.",
        "On Sundays I like to walk through the park with my dog. Then I cook for my family.",
    ),
    (
        "Write 2 very short paragraphs about tea",
        "Tea tastes fresh and a little bitter.\n***\nPour hot water on the leaves and wait for three minutes.",
        "Tea tastes fresh. Pour hot water on the leaves and wait for three minutes.",
    ),
    ("What is a bridge for?", "A bridge lets people cross a river.", "A bridge is " + "very " * 20 + "useful."),
    (
        "Describe your ideal weekend",
        "I sleep late on Saturday and have a long breakfast with my friends. After that we walk along the river, "
        "swim if the day is warm, and cook a big pot of soup together in the evening.",
        "I sleep late and cook soup.",
    ),
    (
        "Write exactly 2 short paragraphs about trains",
        "Trains are comfortable and often fast.\n\nHowever, they are sometimes late.",
        "However, trains are sometimes late.",
    ),
    (
        "Draft a note of one or two lines",
        "Dear [name], your parcel arrived on [day]. You can fetch it at [flat number].",
        "Dear neighbour, your parcel arrived. You can fetch it from [name].",
    ),
    (
        "Thank a grandmother",
        "Dear Grandma, thank you for the scarf. It is so warm.\nP.S. I will visit you in May.",
        "Dear Grandma, thank you for the scarf. It is so warm. I will visit you in May.",
    ),
    (
        "Write a few words on a postcard",
        "The snow is deep and the soup is hot.\nP.S. We ski.\nP.P.S. Feed the cat.",
        "The snow is deep and the soup is hot.\nP.S. We ski.",
    ),
    ("What should I pack for the beach?", "* A towel\n* Sunscreen\n* A hat", "* A towel\n* Sunscreen"),
    (
        "Which three colours does a traffic light have?",
        "It has *red*, *amber* and *green*.",
        "It has *red*, amber and green.",
    ),
    (
        "Describe a school day in 2 sections",
        "Section 1\nWe read and count.\nSection 2\nWe play and go home.",
        "First we read and count. Then we play and go home.",
    ),
    (
        "List the four seasons in JSON format",
        '["spring", "summer", "autumn", "winter"]',
        "spring, summer, autumn, winter",
    ),
    (
        "Write a poem of two lines about the moon",
        "<<The Lamp>>\nThe moon hangs low above the hill,\nand all the sleeping town is still.",
        "The Lamp\nThe moon hangs low above the hill.",
    ),
    (
        "Suggest two different ways to greet a stranger",
        "Hello there!\n******\nGood morning!",
        "Hello there! Good morning!",
    ),
    ("Which animal gives us wool?", "Which animal gives us wool?\nSheep do.", "Sheep give us wool."),
    (
        "Explain in two sentences how to boil an egg",
        "Put it in boiling water. Wait for eight minutes. Enjoy your meal!",
        "Put it in boiling water and wait for eight minutes.",
    ),
    ("What might a pirate say", '"Land ahoy, lads!"', "Land ahoy, lads!"),
    ("Describe a kitchen in two sentences", "It is warm. It smells of bread.", "It is warm, and it smells of bread."),
    (
        "Make a shopping list with a title",
        "<<For Sunday>>\n* Milk\n* Bread\n* Plums",
        "For Sunday\n* Milk\n* Bread\n* Plums",
    ),
    (
        "Say goodbye at a railway station",
        '"Take care and write to me. See you soon."',
        "Take care and write to me. See you soon.",
    ),
    (
        "Name one thing that is made of glass",
        "Name one thing that is made of glass. A window is.",
        "A window, for one.",
    ),
]


@pytest.mark.parametrize(("beginning", "good", "bad"), ANSWERS, ids=lambda text: text[:30])
def test_answers_are_judged(ifeval: Any, beginning: str, good: str, bad: str) -> None:
    (row,) = [row for row in INSTRUCTIONS if row["prompt"].startswith(beginning)]
    doc = as_loaded(row)
    assert ifeval.process_results(doc, [good])["prompt_level_strict_acc"] is True
    assert ifeval.process_results(doc, [bad])["prompt_level_strict_acc"] is False
    assert ifeval.process_results(doc, [bad])["prompt_level_loose_acc"] is False
    assert ifeval.process_results(doc, [""])["prompt_level_loose_acc"] is False


def test_answers_cover_every_type() -> None:
    covered = {
        one
        for row in INSTRUCTIONS
        if any(row["prompt"].startswith(beginning) for beginning, _, _ in ANSWERS)
        for one in row["instruction_id_list"]
    }
    assert covered == {one for row in INSTRUCTIONS for one in row["instruction_id_list"]}
