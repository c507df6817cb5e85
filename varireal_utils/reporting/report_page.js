"use strict";
// Filters and sorts the lists of this page. The choice stands in the address, after "#":
// #at=effects&effects.verdict=different&effects.sort=-difference
(() => {
  const state = new Map();
  const lists = new Map();

  function decoded(text) {
    try { return decodeURIComponent(text); } catch { return ""; }
  }

  function readAddress() {
    state.clear();
    const text = location.hash.slice(1);
    if (!text.includes("=")) {
      if (text) state.set("at", decoded(text));
      return;
    }
    for (const [key, value] of new URLSearchParams(text)) if (value) state.set(key, value);
  }

  function writeAddress(push) {
    const kept = [...state].filter(([, value]) => value).sort();
    const plain = kept.length === 1 && kept[0][0] === "at";
    const hash = plain ? encodeURIComponent(kept[0][1]) : new URLSearchParams(kept).toString();
    const address = location.pathname + location.search + (hash ? "#" + hash : "");
    history[push ? "pushState" : "replaceState"](null, "", address);
  }

  function choose(key, value, push = true) {
    if (value) state.set(key, value);
    else state.delete(key);
    writeAddress(push);
    applyAll();
  }

  function compare(a, b) {
    const missing = (v) => v === null || v === undefined || v === "";
    if (missing(a) || missing(b)) return missing(a) - missing(b);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  }

  function apply(list) {
    const wanted = (key) => state.get(`${list.name}.${key}`) || "";
    for (const control of list.controls) {
      control.value = wanted(control.dataset.key);
      if (control.value !== wanted(control.dataset.key)) control.value = "";
    }
    const filters = list.controls.filter((c) => !["q", "sort"].includes(c.dataset.key) && c.value);
    const text = wanted("q").toLowerCase();
    let sort = wanted("sort");
    const down = sort.startsWith("-");
    sort = down ? sort.slice(1) : sort;
    if (!list.keys.has(sort)) sort = "";
    const order = [...list.items];
    if (sort) {
      order.sort((a, b) => {
        const [x, y] = [a.values[sort], b.values[sort]];
        const gaps = [x, y].some((v) => v === null || v === "");
        return (down && !gaps ? -compare(x, y) : compare(x, y)) || a.place - b.place;
      });
    }
    let shown = 0;
    for (const item of order) {
      const keep = filters.every((c) => String(item.values[c.dataset.key]) === c.value)
        && (!text || item.text.includes(text));
      item.element.hidden = !keep;
      shown += keep;
      list.element.append(item.element);
    }
    if (list.count) list.count.textContent = `${shown} of ${list.items.length} shown`;
    for (const head of list.heads) {
      const direction = head.dataset.sort !== sort ? "none" : down ? "descending" : "ascending";
      head.setAttribute("aria-sort", direction);
    }
  }

  function applyAll() {
    for (const list of lists.values()) apply(list);
  }

  function goTo(id) {
    const target = id && document.getElementById(id);
    if (!target) return;
    if (target.tagName === "DETAILS") target.open = true;
    target.scrollIntoView();
  }

  for (const element of document.querySelectorAll("[data-list]")) {
    const name = element.dataset.list;
    const bar = document.querySelector(`[data-controls="${CSS.escape(name)}"]`);
    const items = [...element.children].map((child, place) => ({
      element: child,
      place,
      values: JSON.parse(child.dataset.item),
      text: child.textContent.toLowerCase(),
    }));
    const heads = [...(element.closest("table")?.querySelectorAll("th[data-sort]") || [])];
    const list = {
      name, element, items, heads,
      keys: new Set(items.flatMap((item) => Object.keys(item.values))),
      controls: bar ? [...bar.querySelectorAll("[data-key]")] : [],
      count: bar?.querySelector("output"),
    };
    lists.set(name, list);
    for (const head of heads) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      const column = head.dataset.sort;
      button.addEventListener("click", () => {
        const now = state.get(`${name}.sort`);
        choose(`${name}.sort`, now === column ? `-${column}` : now === `-${column}` ? "" : column);
      });
    }
    if (!bar) continue;
    bar.hidden = false;
    for (const control of list.controls) {
      const typed = control.type === "search";
      control.addEventListener(typed ? "input" : "change", () =>
        choose(`${name}.${control.dataset.key}`, control.value, !typed));
    }
    bar.querySelector("[data-reset]").addEventListener("click", () => {
      for (const key of [...state.keys()]) if (key.startsWith(`${name}.`)) state.delete(key);
      writeAddress(true);
      applyAll();
    });
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (!link || link.classList.contains("skip")) return;
    event.preventDefault();
    const id = decoded(link.getAttribute("href").slice(1));
    choose("at", id);
    goTo(id);
  });
  addEventListener("popstate", () => { readAddress(); applyAll(); goTo(state.get("at")); });
  readAddress();
  applyAll();
  goTo(state.get("at"));
})();
