// Columns sort their table on a click: the best first, then the other way round. Without it the table stays as it is.
for (const table of document.querySelectorAll("table.scores")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first;
      const order = head.ariaSort === first ? (first === "ascending" ? "descending" : "ascending") : first;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.ariaSort = order;
      const sign = order === "ascending" ? 1 : -1;
      for (const body of table.tBodies) {
        body.append(...[...body.rows].sort((one, other) => compare(one, other, column, sign)));
      }
    });
  });
}

function compare(one, other, column, sign) {
  const [first, second] = [one, other].map((row) => row.cells[column].dataset.value ?? "");
  if (first === "" || second === "") return (first === "") - (second === "");
  const difference = column === 0 ? first.localeCompare(second) : first - second;
  return sign * difference;
}
