const all = (selector, root = document) => [...root.querySelectorAll(selector)];

// Tables: a click on a head sorts by its column.
for (const button of all("thead button")) {
  button.addEventListener("click", () => {
    const head = button.closest("th"), table = head.closest("table"), body = table.tBodies[0];
    const column = [...head.parentNode.children].indexOf(head);
    const down = head.getAttribute("aria-sort") !== "descending";
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = row => row.cells[column].dataset.value;
    const numeric = head.dataset.kind === "number";
    const rows = [...body.rows].sort((a, b) => {
      if (!numeric) return (down ? -1 : 1) * key(a).localeCompare(key(b));
      const x = parseFloat(key(a)), y = parseFloat(key(b));
      if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
      return down ? y - x : x - y;
    });
    body.append(...rows);
  });
}

// Words in the box above a table leave the rows that have all of them; a hint counts the columns off the screen.
for (const table of all(".table")) {
  const scroll = table.querySelector(".scroll"), hint = table.querySelector(".hint"), heads = all("th", table);
  const rows = all("tbody tr", table), count = table.querySelector("output"), box = table.querySelector("input");
  const tell = () => {
    const edge = scroll.getBoundingClientRect().right, cut = scroll.scrollWidth > scroll.clientWidth + 1;
    const hidden = heads.filter(head => head.getBoundingClientRect().right > edge + 1).length;
    hint.textContent = !cut ? "" : hidden ? `${hidden} more column${hidden > 1 ? "s" : ""} to the right \u2192`
      : "\u2190 more columns to the left";
    scroll.classList.toggle("cut", hidden > 0);
  };
  scroll.addEventListener("scroll", tell);
  new ResizeObserver(tell).observe(scroll);
  box?.addEventListener("input", () => {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every(word => row.textContent.toLowerCase().includes(word));
    const left = rows.filter(row => !row.hidden).length;
    count.value = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`;
    tell();
  });
}

// A click on a method marks it in every table and chart.
const marked = new Set(), bar = document.getElementById("marked"), plots = all("svg.plot");
function mark(...names) {
  for (const name of names) if (!marked.delete(name)) marked.add(name);
  for (const one of all("[data-key]")) one.classList.toggle("marked", marked.has(one.dataset.key));
  for (const button of all("button.key")) {
    button.setAttribute("aria-pressed", marked.has(button.closest("[data-key]").dataset.key));
  }
  bar.hidden = !marked.size;
  bar.querySelector("b").textContent = [...marked].join(", ");
  plots.forEach(label);
}
for (const button of all("button.key")) {
  button.addEventListener("click", () => mark(button.closest("[data-key]").dataset.key));
}
bar.querySelector("button").addEventListener("click", () => mark(...marked));

// Labels of points are shown where they are on no other label or point; those of marked and strong points come first.
const apart = (a, b) => a.right < b.left || b.right < a.left || a.bottom < b.top || b.bottom < a.top;
const SIDES = [[9, 4, "start"], [-9, 4, "end"], [0, -10, "middle"], [0, 18, "middle"], [8, -7, "start"],
  [8, 15, "start"], [-8, -7, "end"], [-8, 15, "end"]];
function label(plot) {
  const inside = plot.getBoundingClientRect(), taken = [];
  const dots = all("svg > .dot", plot).map(dot => [dot.parentNode, dot.getBoundingClientRect()]);
  const rank = text => text.closest(".marked") ? 0 : text.closest(".strong") ? 1 : 2;
  for (const text of all(".label", plot).sort((a, b) => rank(a) - rank(b))) {
    const others = dots.filter(([place]) => place !== text.parentNode).map(([, rect]) => rect);
    const fits = SIDES.some(([x, y, anchor]) => {
      text.setAttribute("x", x), text.setAttribute("y", y), text.setAttribute("text-anchor", anchor);
      const own = text.getBoundingClientRect();
      return own.left >= inside.left && own.right <= inside.right && own.top >= inside.top && own.bottom <= inside.bottom
        && [...taken, ...others].every(other => apart(own, other));
    });
    text.classList.toggle("shown", fits);
    if (fits) taken.push(text.getBoundingClientRect());
  }
  for (const kind of [".tick.x", ".tick.y", ".tick.slanted"]) {
    const shown = [];
    for (const text of all(kind, plot)) {
      const own = text.getBoundingClientRect(), fits = shown.every(other => apart(own, other));
      text.classList.toggle("hidden", !fits);
      if (fits) shown.push(own);
    }
  }
}

// The mark nearest to the pointer or the finger, or the next one by an arrow key, says its name and numbers.
const tip = document.getElementById("tip");
function hide() {
  tip.hidden = true;
  for (const one of all(".near")) one.classList.remove("near");
}
function say(dot) {
  hide();
  const place = dot.getBoundingClientRect(), group = dot.closest(".mark");
  dot.classList.add("near"), group.classList.add("near");
  tip.textContent = dot.dataset.tip;
  tip.hidden = false;
  const own = tip.getBoundingClientRect(), right = document.documentElement.clientWidth - own.width - 8;
  tip.style.left = `${Math.max(8, Math.min(place.right + 10, right))}px`;
  tip.style.top = `${place.top - own.height - 10 > 0 ? place.top - own.height - 10 : place.bottom + 10}px`;
}
for (const plot of plots) {
  const dots = () => all("[data-tip]", plot);
  const nearest = (event, reach) => {
    let best = null, least = reach * reach;
    for (const dot of dots()) {
      const r = dot.getBoundingClientRect();
      const x = Math.max(r.left - event.clientX, 0, event.clientX - r.right);
      const y = Math.max(r.top - event.clientY, 0, event.clientY - r.bottom);
      if (x * x + y * y < least) [best, least] = [dot, x * x + y * y];
    }
    return best;
  };
  let at = null;
  const point = event => {
    at = nearest(event, event.pointerType === "mouse" ? 20 : 36);
    at ? say(at) : hide();
  };
  const choose = () => at?.closest("[data-key]") && mark(at.closest("[data-key]").dataset.key);
  plot.addEventListener("mousedown", event => event.preventDefault());  // the outline is for the keyboard
  plot.addEventListener("pointermove", point);
  plot.addEventListener("pointerdown", point);
  plot.addEventListener("pointerleave", event => event.pointerType === "mouse" && hide());
  plot.addEventListener("blur", hide);
  plot.addEventListener("click", choose);
  plot.addEventListener("keydown", event => {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
    if (event.key === "Escape") hide();
    if (event.key === "Enter" || event.key === " ") choose();
    if (!step && event.key !== " ") return;
    event.preventDefault();
    if (!step) return;
    const order = dots().map(dot => [dot.getBoundingClientRect(), dot])
      .sort(([a], [b]) => a.left + a.right - b.left - b.right || a.top - b.top).map(([, dot]) => dot);
    if (!order.length) return;
    at = order[at ? (order.indexOf(at) + step + order.length) % order.length : step > 0 ? 0 : order.length - 1];
    say(at);
  });
  new ResizeObserver(() => label(plot)).observe(plot);
}
document.addEventListener("pointerdown", event => event.target.closest?.("svg.plot") || hide());
document.addEventListener("scroll", hide, {capture: true, passive: true});
