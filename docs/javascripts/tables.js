// Sort the tables in ".sortable" by a column: a click or Enter on its heading, again for the other direction.
"use strict";

{
  function value(cell) {
    const text = cell.textContent.trim();
    const found = text.replace(/[,\u2009]/g, "").match(/^[(+]?(-?\d+(?:\.\d+)?|-?\.\d+)/);
    return found ? Number(found[1]) : text;
  }

  function compare(a, b) {
    // What has no number ("-", empty) comes last among numbers.
    if (typeof a === "number" && typeof b === "number") return a - b;
    if (typeof a === "number" || typeof b === "number") return typeof a === "number" ? -1 : 1;
    return a.localeCompare(b);
  }

  function sort(table, column) {
    const heading = table.tHead.rows[0].cells[column];
    const rows = [...table.tBodies[0].rows].map((row) => ({ row, key: value(row.cells[column]) }));
    const numeric = rows.some(({ key }) => typeof key === "number");
    // Numbers start with the largest, words with the first.
    const first = numeric ? "descending" : "ascending";
    const other = numeric ? "ascending" : "descending";
    const direction = heading.getAttribute("aria-sort") === first ? other : first;
    const sign = direction === "ascending" ? 1 : -1;
    rows.sort((a, b) => {
      const both = typeof a.key === typeof b.key;
      return both ? sign * compare(a.key, b.key) : compare(a.key, b.key);
    });
    for (const cell of table.tHead.rows[0].cells) cell.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", direction);
    table.tBodies[0].append(...rows.map(({ row }) => row));
  }

  for (const table of document.querySelectorAll(".sortable table")) {
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      heading.tabIndex = 0;
      heading.addEventListener("click", () => sort(table, column));
      heading.addEventListener("keydown", (event) => {
        if (event.key === "Enter") sort(table, column);
      });
    });
  }
}
