"use strict";

const [table, input, status, shown] = ["table", "words", "status", "shown"].map((id) => document.getElementById(id));
const body = table.tBodies[0];
const rows = [...body.rows];
const content = new Map(rows.map((row) => [row, [...row.cells].map((cell) => cell.textContent)]));

// Numbers by size, then words; a cell without any stands last, whichever way the rows are sorted.
function compare(a, b, sign) {
  if (!a || !b) return !a - !b;
  const [x, y] = [Number(a), Number(b)];
  if (!isNaN(x) && !isNaN(y)) return sign * (x - y);
  return sign * (isNaN(x) - isNaN(y) || a.localeCompare(b, "en", { numeric: true }));
}

table.tHead.addEventListener("click", (event) => {
  const head = event.target.closest("button")?.parentElement;
  if (!head) return;
  const falling = head.ariaSort === "ascending";
  for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", falling ? "descending" : "ascending");
  const k = head.cellIndex;
  rows.sort((a, b) => compare(content.get(a)[k], content.get(b)[k], falling ? -1 : 1));
  body.append(...rows);
});

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
