// Sorting, filtering, the theme and copying. Without this script the page is the same, in its first order.
"use strict";
const each = (selector, run, root = document) => root.querySelectorAll(selector).forEach(run);

function sortTable(section, key, order) {
  const body = section.querySelector("tbody");
  const column = key === "name" ? 0 : Number(key);
  const sign = order === "ascending" ? 1 : -1;
  const value = (row) => row.children[column].dataset.value;
  const compare = (one, other) => {
    const a = value(one), b = value(other);
    if (column === 0) return sign * a.localeCompare(b, "en", { numeric: true });
    if (a === "" || b === "") return (a === "") - (b === "");  // what was not scored stands last, either way
    return sign * (Number(a) - Number(b));
  };
  body.append(...[...body.rows].sort(compare));
  each("thead th[data-key]", (head) => {
    if (head.dataset.key === key) head.setAttribute("aria-sort", order);
    else head.removeAttribute("aria-sort");
  }, section);
}

each(".board", (section) => {
  const select = section.querySelector("select");
  select.parentElement.hidden = false;
  select.addEventListener("change", () => sortTable(section, ...select.value.split(":")));
  each("thead th[data-key]", (head) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    const label = document.createElement("span");
    label.append(...head.querySelector(".sort").childNodes);
    button.append(label);
    button.addEventListener("click", () => {
      const first = head.dataset.best || "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      sortTable(section, head.dataset.key, head.getAttribute("aria-sort") === first ? other : first);
    });
    head.querySelector(".sort").replaceWith(button);
  }, section);
});

const filter = document.getElementById("filter");
function applyFilter() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  each("[data-text]", (item) => {
    item.hidden = !words.every((word) => item.dataset.text.toLowerCase().includes(word));
    if (!item.hidden && item.tagName === "TR") shown += 1;
  });
  document.getElementById("shown").textContent = words.length ? `${shown} shown` : "";
}
filter.addEventListener("input", applyFilter);
document.getElementById("controls").hidden = false;

const theme = document.getElementById("theme");
const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `Switch to ${theme.textContent.toLowerCase()} colours`); };
theme.addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
theme.hidden = false;
nameTheme();

each(".copy", (button) => {
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
      button.textContent = "Copied";
    } catch {
      const selection = getSelection();  // no permission: select it, so that the reader can copy it
      selection.selectAllChildren(button.previousElementSibling);
      button.textContent = "Selected";
    }
  });
});

function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target && target.tagName === "DETAILS") { target.open = true; target.scrollIntoView(); }
}
addEventListener("hashchange", openTarget);
openTarget();
