"use strict";
(() => {
  const { rows } = JSON.parse(document.getElementById("data").textContent);
  const table = document.getElementById("table");
  if (!table) return;
  const body = table.tBodies[0], lines = [...body.rows], headers = [...table.tHead.rows[0].cells];
  const filter = document.getElementById("filter"), show = document.getElementById("show");
  const count = document.getElementById("count"), order = document.getElementById("order");
  const names = rows.map((row, i) => (lines[i].cells[0].textContent + " " + row[1]).toLowerCase());
  const text = new Intl.Collator(undefined, { numeric: true });

  // ---- sorting: numbers from the largest on, names from A; what has no figure stays last
  const compare = (key, up) => (i, j) => {
    const a = rows[i][key], b = rows[j][key];
    if (a === null || b === null) return (a === null) - (b === null) || i - j;
    const by = typeof a === "string" ? text.compare(a, b) : a - b;
    return (up ? by : -by) || i - j;
  };
  const arrange = indices => body.append(...indices.map(i => lines[i]));
  const all = rows.map((_, i) => i);
  for (const header of headers) {
    header.firstElementChild.addEventListener("click", () => {
      const key = Number(header.dataset.key), first = key < 2 ? "ascending" : "descending";
      const next = header.ariaSort === "none" ? first : header.ariaSort === "ascending" ? "descending" : "ascending";
      headers.forEach(other => { other.ariaSort = "none"; });
      header.ariaSort = next;
      arrange([...all].sort(compare(key, next === "ascending")));
      order.hidden = false;
    });
  }
  order.addEventListener("click", () => {
    headers.forEach(header => { header.ariaSort = "none"; });
    arrange(all);
    order.hidden = true;
    headers[0].firstElementChild.focus();
  });

  // ---- filtering
  const wanted = { all: () => true, differ: c => !c.startsWith("same"), converted: c => c.includes("converted") };
  const sift = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean), kind = wanted[show ? show.value : "all"];
    let seen = 0;
    lines.forEach((line, i) => {
      line.hidden = !(kind(line.dataset.c) && words.every(word => names[i].includes(word)));
      seen += !line.hidden;
    });
    count.value = seen === rows.length ? `${seen} layers` : `${seen} of ${rows.length} layers`;
  };
  filter.addEventListener("input", sift);
  if (show) show.addEventListener("change", sift);

  // ---- pointing: from a bar or a tile to its layer
  const hit = i => document.querySelectorAll(".hit").forEach(e => e.classList.remove("hit"))
    || document.querySelectorAll(`#r${i}, .map i[data-i="${i}"]`).forEach(e => e.classList.add("hit"));
  const go = i => {
    if (lines[i].hidden) { filter.value = ""; if (show) show.value = "all"; sift(); }
    hit(i);
    lines[i].scrollIntoView({ block: "center" });
  };
  for (const row of document.querySelectorAll(".bar-row")) {
    row.addEventListener("click", () => go(Number(row.dataset.i)));
  }
  for (const tile of document.querySelectorAll(".map i")) {
    tile.title = `${lines[tile.dataset.i].cells[0].textContent.trim()}: ${rows[tile.dataset.i][1]}`;
    tile.addEventListener("click", () => go(Number(tile.dataset.i)));
  }
})();
