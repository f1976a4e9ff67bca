"""axe-core on a page in Chromium, less what stock Gradio 6.31 violates by itself.

assert new_violations(page) == []
"""

from __future__ import annotations

from typing import Any

# Rule -> the elements that Gradio draws and that no setting of ours changes. A page of `gr.ChatInterface` alone has these too.
STOCK = {
    "aria-required-children": ("examples",),  # role="list", with buttons in it
    "button-name": ('aria-label=""',),  # the buttons that send or cancel an edited message
}


def new_violations(page: Any) -> list[str]:
    """Rule, weight and element of every violation that is not stock Gradio's."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [
        f"{rule['id']} ({rule['impact']}): {node['html'][:200]}"
        for rule in found
        for node in rule["nodes"]
        if not any(mark in node["html"] for mark in STOCK.get(rule["id"], ()))
    ]
