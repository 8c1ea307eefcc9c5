function valueOf(row, column) {
  const cell = row.cells[column];
  const data = cell.querySelector("data");
  if (data) return data.value === "" ? null : Number(data.value);
  return cell.textContent.trim() || null;
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

function methodRows(body) {
  return [...body.rows].filter((row) => !row.classList.contains("strengths"));
}

function strengthsOf(row) {
  const next = row.nextElementSibling;
  return next?.classList.contains("strengths") ? next : null;
}

function sort(table, column, direction) {
  for (const body of table.tBodies) {
    const rows = methodRows(body).map((row) => [valueOf(row, column), row, strengthsOf(row)]);
    rows.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : direction * compare(a, b)));
    body.append(...rows.flatMap(([, row, strengths]) => (strengths ? [row, strengths] : [row])));
  }
}

for (const table of document.querySelectorAll("table.board")) {
  const headers = [...table.tHead.rows[0].cells];
  for (const [column, header] of headers.entries()) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    button.addEventListener("click", () => {
      const before = header.getAttribute("aria-sort");
      const first = header.classList.contains("higher") ? "descending" : "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const now = before === first ? other : first;
      for (const each of headers) each.removeAttribute("aria-sort");
      header.setAttribute("aria-sort", now);
      sort(table, column, now === "ascending" ? 1 : -1);
    });
  }
  headers[0].setAttribute("aria-sort", "ascending");
}

function apply(form) {
  const board = form.closest(".one-board");
  const table = board.querySelector("table.board");
  const { text, kind, method, all } = form.elements;
  const wanted = text.value.trim().toLowerCase();
  const hidden = [];
  let shown = 0;
  let total = 0;
  for (const body of table.tBodies) {
    for (const row of methodRows(body)) {
      const edit = row.querySelector("[data-edit]").dataset;
      const fits =
        (!wanted || edit.edit.toLowerCase().includes(wanted)) &&
        (!kind.value || body.className === kind.value) &&
        (!method.value || edit.method === method.value);
      row.hidden = !fits;
      const strengths = strengthsOf(row);
      if (strengths) strengths.hidden = !fits;
      total += 1;
      shown += fits;
      if (!fits) hidden.push(edit.edit);
    }
  }
  table.classList.toggle("all", all.checked);
  form.querySelector("output").textContent = shown === total ? `${total} rows` : `${shown} of ${total} rows`;
  board.hiddenEdits = hidden;
  for (const [element, view] of views) if (board.contains(element)) view.signal("hidden", hidden).runAsync();
}

for (const form of document.querySelectorAll("form.filters")) {
  form.hidden = false;
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("input", () => apply(form));
  form.addEventListener("reset", () => setTimeout(apply, 0, form));
  apply(form);
}

for (const button of document.querySelectorAll("button.copy")) {
  const text = button.previousElementSibling;
  button.hidden = false;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(text);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
}

for (const details of document.querySelectorAll("details.part")) {
  details.addEventListener("toggle", () => dispatchEvent(new Event("resize")));  // its charts are as wide as they can be
}

function reveal() {
  const target = document.getElementById(location.hash.slice(1));
  if (!target) return;
  open(target);
  target.scrollIntoView();
}
addEventListener("hashchange", reveal);
if (location.hash) reveal();
