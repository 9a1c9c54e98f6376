"use strict";

const [table, input, status, shown] = ["table", "words", "status", "shown"].map((id) => document.getElementById(id));
const rows = [...table.tBodies[0].rows];
const content = new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent)]));

const NUMBER = /((?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:e[-+]?\d+)?)/;

// Numbers by their size, wherever they stand; an empty cell stands last, whichever way they are sorted.
function compare(a, b, sign) {
  if (!a || !b) return !a - !b;
  const [x, y] = [a, b].map((text) => text.split(NUMBER));
  for (let k = 0; k < Math.min(x.length, y.length); k++) {
    const [p, q] = [x[k], y[k]].map((part) => (k % 2 ? parseFloat(part.replaceAll(",", "")) : part));
    const order = k % 2 ? p - q : p.localeCompare(q, "en");
    if (order) return sign * order;
  }
  return sign * (x.length - y.length);
}

function sort({ target }) {
  const head = target.closest("button")?.parentElement;
  if (!head) return;
  const falling = head.ariaSort === "ascending";
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const [k, body] = [head.cellIndex, head.closest("table").tBodies[0]];
  const text = new Map([...body.rows].map((row) => [row, row.cells[k].textContent]));
  body.append(...[...text.keys()].sort((a, b) => compare(text.get(a), text.get(b), falling ? -1 : 1)));
}

for (const { tHead } of document.querySelectorAll("table")) {
  for (const head of tHead.querySelectorAll("th:not(:has(button))")) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
  }
  tHead.addEventListener("click", sort);
}

// Shown is a row of the chosen status that has all the words in it.
function filter() {
  const words = input.value.toLowerCase().split(/\s+/);
  for (const row of rows) {
    const text = content.get(row).join("\n").toLowerCase();
    row.hidden = (status.value && row.dataset.status !== status.value) || !words.every((word) => text.includes(word));
  }
  shown.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} runs`;
}

input.addEventListener("input", filter);
status.addEventListener("change", filter);
document.querySelector(".filter").hidden = rows.length < 2;
filter(); // a page that is loaded again may keep what was entered
