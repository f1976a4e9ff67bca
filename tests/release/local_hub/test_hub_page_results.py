"""The results of a card on its model's page."""

from __future__ import annotations

from typing import Any

CARD = """---
license: mit
model-index:
- name: mine
  results:
  - task: {type: text-generation}
    dataset: {name: MMLU, type: cais/mmlu}
    metrics: [{type: accuracy, value: 45.2}]
    source: {name: "the authors' card, not measured here", url: "https://example.org"}
  - task: {type: text-generation}
    dataset: {name: starter, type: starter}
    metrics: [{type: mc2, value: 0.5}]
---
# Mine
"""


def test_a_result_says_whose_it_is_where_its_card_does(api: Any, ask: Any) -> None:
    api.create_repo("slipway/mine")
    api.upload_file(path_or_fileobj=CARD.encode(), path_in_repo="README.md", repo_id="slipway/mine")
    page = ask("GET", "/slipway/mine").body.decode()
    panel = page.partition("<h2>Evaluation</h2>")[2].partition("</table>")[0]
    theirs, ours = panel.split("</tr>")[:2]
    assert "45.2" in theirs
    assert "the authors&#39; card, not measured here" in theirs
    assert "mc2</span>" in ours
