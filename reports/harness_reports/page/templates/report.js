// Links into folded sections open them.
function unfold() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (const fold of [target.closest("details"), target.querySelector(":scope > details")]) {
    if (fold) fold.open = true;
  }
  target.scrollIntoView();
}
addEventListener("hashchange", unfold);
unfold();

// Tables that can be sorted by a heading and filtered by words.
for (const table of document.querySelectorAll("table[data-sortable]")) {
  const body = table.tBodies[0], rows = [...body.rows];
  const texts = rows.map(row => row.textContent.toLowerCase());
  const tools = document.createElement("p");
  tools.className = "tools";
  const label = document.createElement("label"), input = document.createElement("input");
  const count = document.createElement("output");
  input.type = "search";
  input.placeholder = "words, such as jax dopri5";
  label.append("Filter ", input);
  tools.append(label, " ", count);
  table.parentElement.before(tools);
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach((row, index) => {
      row.hidden = !words.every(word => texts[index].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    count.textContent = words.length ? `${shown} of ${rows.length} rows` : "";
  });
  const key = (row, column) => {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const keys = new Map(rows.map(row => [row, key(row, column)]));
      const sorted = [...rows].sort((one, other) => {
        const a = keys.get(one), b = keys.get(other);
        // What has no number stands last, whichever way the numbers run.
        if (typeof a !== typeof b) return typeof a === "number" ? -1 : 1;
        const order = typeof a === "number" ? a - b : a.localeCompare(b);
        return down ? -order : order;
      });
      table.classList.add("sorted");
      body.append(...sorted);
    });
  });
}

// Commands and paths can be copied.
for (const cell of document.querySelectorAll("[data-copy]")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "copy";
  button.setAttribute("aria-label", `copy ${cell.dataset.copy}`);
  cell.append(" ", button);
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(cell.dataset.copy);
      button.textContent = "copied";
    } catch {
      button.textContent = "not allowed here";
    }
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  });
}

// A mark of a chart says what it is when the pointer is on it.
const tip = document.createElement("div");
tip.className = "tip";
tip.hidden = true;
document.body.append(tip);
for (const chart of document.querySelectorAll(".chart")) {
  chart.addEventListener("pointermove", event => {
    const mark = event.target.closest("[aria-roledescription][aria-label]");
    const words = mark && chart.contains(mark) && /mark|point|symbol/.test(mark.getAttribute("aria-roledescription"))
      ? mark.getAttribute("aria-label") : "";
    tip.hidden = !words;
    tip.textContent = words;
    tip.style.left = `${Math.min(event.pageX + 12, innerWidth - 220)}px`;
    tip.style.top = `${event.pageY + 14}px`;
  });
  chart.addEventListener("pointerleave", () => { tip.hidden = true; });
}
