// Filtering and ordering of samples, and the theme. Without this script the page is the same, the worst first.
"use strict";
const filter = document.getElementById("filter"), order = document.getElementById("order");
function show() {
  const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
  let shown = 0;
  document.querySelectorAll(".samples").forEach((section) => {
    let here = 0;
    section.querySelectorAll(".example").forEach((sample) => {
      sample.hidden = !words.every((word) => sample.textContent.toLowerCase().includes(word));
      here += sample.hidden ? 0 : 1;
    });
    section.hidden = words.length > 0 && here === 0;
    shown += here;
  });
  document.getElementById("shown").textContent = words.length ? `${shown} shown` : "";
}
function sort() {
  const sign = order.value === "worst" ? -1 : 1;
  const value = (sample) => Number(order.value === "item" ? sample.dataset.item : sample.dataset.badness);
  document.querySelectorAll(".list").forEach((list) => {
    const unscored = (sample) => order.value !== "item" && sample.dataset.badness === "";
    list.append(...[...list.children].sort((a, b) => unscored(a) - unscored(b) || sign * (value(a) - value(b)) || a.dataset.item - b.dataset.item));
  });
}
filter.addEventListener("input", show);
order.addEventListener("change", sort);
document.getElementById("controls").hidden = false;
const theme = document.getElementById("theme");
const isDark = () => (document.documentElement.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light" : "Dark"; theme.setAttribute("aria-label", `Switch to ${theme.textContent.toLowerCase()} colours`); };
theme.addEventListener("click", () => { document.documentElement.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
theme.hidden = false;
nameTheme();
