"use strict";

const [table, input, status, shown] = ["table", "words", "status", "shown"].map((id) => document.getElementById(id));
const rows = [...table.tBodies[0].rows];
const content = new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent)]));

// By the number that a cell begins with, then by its words; an empty one stands last, whichever way they are sorted.
function compare(a, b, sign) {
  if (!a || !b) return !a - !b;
  const [x, y] = [a, b].map((text) => parseFloat(text.replaceAll(",", "")));
  if (!isNaN(x) && !isNaN(y) && x !== y) return sign * (x - y);
  return sign * (isNaN(x) - isNaN(y) || a.localeCompare(b, "en", { numeric: true }));
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
