"""A few responses of a PPO run lie beside its metrics, once each however often it was interrupted, and the report shows them."""

from __future__ import annotations

import json
from pathlib import Path

from training.__main__ import main

JUDGE = """
from pathlib import Path

CALLS = Path(__file__).with_suffix(".calls")

def judge(samples, prompts, outputs):
    calls = len(CALLS.read_text()) if CALLS.is_file() else 0
    CALLS.write_text("." * (calls + 1))
    if calls == 1:
        raise KeyboardInterrupt  # in the second update, before anything but the beginning was saved
    return [len(output) / 10 for output in outputs]
"""


def test_an_interrupted_run_has_each_response_once_and_the_report_shows_them_as_text(
    tmp_path: Path, tiny: Path, capsys
) -> None:
    (tmp_path / "judge.py").write_text(JUDGE)
    prompts = [{"prompt": f"<script>alert({number})</script>"} for number in range(8)]
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    recipe = tmp_path / "ppo.yaml"
    recipe.write_text(
        f"method: ppo\nbase: {tiny}\nreward_function: {tmp_path / 'judge.py'}:judge\n"
        f"prompts: {{source: {tmp_path / 'prompts.jsonl'}, heldout_fraction: 0.0}}\n"
        "dtype: float32\ngeneration: {max_new_tokens: 6}\n"
        "ppo: {total_episodes: 20, batch_size: 4, num_ppo_epochs: 1, save_updates: 3, log_completions: 2}\n"
    )
    out = tmp_path / "run"
    command = ["ppo", "--recipe", str(recipe), "--out", str(out)]
    assert main(command) == 130
    begun = (out / "completions.jsonl").read_text()
    with (out / "completions.jsonl").open("a") as file:
        file.write('{"step": 2, "prom')  # as a kill in the middle of a line leaves it
    assert main(command) == 0
    text = (out / "completions.jsonl").read_text()
    assert text.startswith(begun), "the responses of the first update come again, the same ones"
    rows = [json.loads(line) for line in text.splitlines()]
    assert [row["step"] for row in rows] == [1, 1, 3, 3, 5, 5]
    metrics = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    for row in rows:
        assert row["reward"] in metrics[row["step"] - 1]["scores"]
        assert row["prompt"].startswith("<|im_start|>user\n<script>alert(")
        assert abs(row["reward"] - len(row["response"]) / 10) < 1e-4
    assert [row["kl"] for row in rows[:2]] == [0.0, 0.0], "the first rollout is the reference's own"
    assert any(row["kl"] != 0.0 for row in rows[2:])

    assert main(["report", str(out)]) == 0
    page = (out / "report.html").read_text()
    assert page.count("&lt;script&gt;alert(") == 6
    assert "<script" not in page
    assert page.index("Responses of update 5") < page.index("Responses of update 1")
    capsys.readouterr()
