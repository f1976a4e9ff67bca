"""What a hostile model answers: markup that runs, draws or covers the page wherever it is not shown as text."""

from __future__ import annotations

ATTACK = [
    "Look:\n\n",
    "<script>window.pwned=1</script> ",
    '<img src=x onerror="window.pwned=2"> ',
    "<svg/onload=window.pwned=3> ",
    "[link](javascript:window.pwned=4) ",
    "![picture](http://127.0.0.1:9/pixel.png) ",
    "<b>bold?</b> ",
    "\n\n```html\n<script>window.pwned=5</script>\n```\n",
    # What is code for one reader and none for another.
    "a ` b\n\n<h1>covered</h1><div style='position:fixed;inset:0'><input></div>\n\nc `\n\n",
    "``` x`y\n<h2>drawn</h2><form action=/x><input></form>\n\n",
    "\\`<i>escaped</i>\\` $$ ` $$ <u>formula</u> ` http://a.b/` <s>address</s> `\n\n",
    "| a | b |\n|---|---|\n| ` | <u>cell</u> ` |\n\n",
    '```mermaid\ngraph TD\nA["<b>bold</b><img src=x>"] --> B\n```\n',
]
