// Sorting, filtering, folding and light or dark of report.html. What is chosen is kept in the address, after the #.
"use strict";
const root = document.documentElement;
root.classList.add("js");

addEventListener("DOMContentLoaded", () => {
  theming();
  const table = document.getElementById("table");
  if (table) cells(table);
});

function theming() {
  const button = document.getElementById("theme");
  const system = matchMedia("(prefers-color-scheme: dark)");
  const dark = () => (root.dataset.theme ?? (system.matches ? "dark" : "light")) === "dark";
  const label = () => { button.textContent = dark() ? "Light" : "Dark"; };
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    label();
  });
  system.addEventListener("change", label);
  label();
}

function cells(table) {
  const form = document.getElementById("controls");
  const headings = [...table.tHead.querySelectorAll("th[data-key]")];
  const bodies = [...table.tBodies].map((body, place) => ({
    body, place, row: body.rows[0], states: body.dataset.state.split(" "),
    text: [...body.querySelectorAll(".text, .why")].map((cell) => cell.textContent.toLowerCase()).join(" "),
  }));
  const boxes = [...document.querySelectorAll("#columns input")];
  const narrow = matchMedia("(max-width: 44rem)");
  let sorted = { key: "", down: false };

  function sort() {
    const heading = headings.find((th) => th.dataset.key === sorted.key);
    for (const th of headings) th.removeAttribute("aria-sort");
    let order = [...bodies];
    if (heading) {
      heading.setAttribute("aria-sort", sorted.down ? "descending" : "ascending");
      const value = ({ row }) => row.cells[heading.cellIndex].dataset.v;
      const sign = sorted.down ? -1 : 1;
      order.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === undefined || y === undefined) return (x === undefined) - (y === undefined) || a.place - b.place;
        return sign * (x - y) || a.place - b.place; // what has no figure stays last
      });
    }
    table.append(...order.map(({ body }) => body));
  }

  function filter() {
    const words = form.elements.q.value.toLowerCase().split(/\s+/).filter(Boolean)
      .map((word) => new RegExp(`(^|[^a-z0-9])${word.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")}`)); // 500 is not in 2500
    const axes = [...form.querySelectorAll("select[data-place]")].filter((select) => select.value);
    const state = form.elements.state?.value;
    let shown = 0;
    for (const { body, row, states, text } of bodies) {
      const found = words.every((word) => word.test(text)) && (!state || states.includes(state)) &&
        axes.every((select) => row.cells[select.dataset.place].textContent === select.value);
      body.hidden = !found;
      shown += found;
    }
    document.getElementById("count").textContent = `${shown} of ${bodies.length} cells`;
  }

  function columns() {
    const hidden = boxes.filter((box) => !box.checked).map((box) => `.js #table tr > :nth-last-child(${box.value})`);
    document.getElementById("chosen").textContent = hidden.length ? `${hidden.join()} { display: none }` : "";
  }

  function byDefault() {
    for (const box of boxes) box.checked = narrow.matches ? "narrow" in box.dataset : box.defaultChecked;
    columns();
  }

  function fold(body, folded) {
    body.classList.toggle("folded", folded);
    body.rows[0].querySelector(".fold button").setAttribute("aria-expanded", String(!folded));
  }

  function remember() {
    const kept = new URLSearchParams();
    for (const field of form.querySelectorAll("[name]")) if (field.value) kept.set(field.name, field.value);
    if (sorted.key) kept.set("sort", (sorted.down ? "-" : "") + sorted.key);
    history.replaceState(null, "", kept.size ? `#${kept}` : "#");
  }

  function recall() {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target) { // a link to a cell: its seeds are shown, whatever was filtered
      if (target.tBodies || target.tagName !== "TBODY") return;
      if (target.hidden) { form.reset(); filter(); }
      fold(target, false);
      target.scrollIntoView({ block: "center" });
      return;
    }
    const kept = new URLSearchParams(location.hash.slice(1));
    for (const field of form.querySelectorAll("[name]")) field.value = kept.get(field.name) ?? "";
    for (const select of form.querySelectorAll("select")) if (select.selectedIndex < 0) select.value = "";
    const sort = kept.get("sort") ?? "";
    sorted = { key: sort.replace(/^-/, ""), down: sort.startsWith("-") };
  }

  for (const th of headings) {
    th.querySelector("button").addEventListener("click", () => {
      const first = !th.classList.contains("text") && !("least" in th.dataset); // of figures the best, or the greatest
      sorted = { key: th.dataset.key, down: sorted.key === th.dataset.key ? !sorted.down : first };
      sort();
      remember();
    });
  }
  form.addEventListener("input", (event) => {
    if (event.target.type === "checkbox") return columns();
    filter();
    remember();
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(() => {
    sorted = { key: "", down: false };
    sort();
    filter();
    byDefault();
    remember();
  }));
  const all = document.getElementById("unfold");
  all.addEventListener("click", () => {
    const unfold = all.textContent.startsWith("Show");
    for (const { body } of bodies) fold(body, !unfold);
    all.textContent = unfold ? "Hide the seeds" : "Show all seeds";
  });
  table.addEventListener("click", (event) => {
    const row = event.target.closest("tr.cell");
    if (row && String(getSelection()) === "") fold(row.parentElement, !row.parentElement.classList.contains("folded"));
  });
  document.addEventListener("click", (event) => {
    const menu = form.querySelector(".menu");
    if (menu.open && !menu.contains(event.target)) menu.open = false;
  });
  narrow.addEventListener("change", byDefault);
  addEventListener("hashchange", () => { recall(); sort(); filter(); });

  for (const { body } of bodies) fold(body, true);
  byDefault();
  recall();
  sort();
  filter();
}
