"use strict";
// Tables sort by their headings: numbers as numbers, words as people do, what is missing always last.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, place) => heading.querySelector("button").addEventListener("click", () => {
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    for (const other of headings) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => {
      const { value } = row.cells[place].dataset;
      const text = row.cells[place].textContent;
      const number = value === "inf" ? Infinity : value === "" ? NaN : Number(value);
      return { row, number, text, missing: Number.isNaN(number) && (text === "-" || text === "none") };
    });
    const compare = (a, b) => {
      if (a.missing || b.missing) return a.missing - b.missing;
      const words = Number.isNaN(a.number) || Number.isNaN(b.number);
      const order = words
        ? a.text.localeCompare(b.text, "en", { numeric: true })
        : Math.sign(a.number - b.number) || 0;
      return ascending ? order : -order;
    };
    body.append(...rows.sort(compare).map((item) => item.row));
  }));
}
