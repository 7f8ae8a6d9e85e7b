
"use strict";
// Letters: q a query's number, s a system's, m a measure's. Texts only ever become text nodes.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const several = data.systems.length > 1;
  const DASHES = ["", "8 3", "2 3", "8 3 2 3", "14 4"];
  const MARKS = ["●", "■", "▲", "◆", "▼", "✚", "✖"];
  const ROWS = 10, OPEN = 2;
  const at = id => document.getElementById(id);
  const state = { measure: 0, one: several ? Number(data.baseline === 0) : 0, other: data.baseline, filter: "" };

  function make(name, attributes = {}, ...children) {
    const svg = ["svg", "path", "line", "text", "circle", "g", "title", "rect"].includes(name);
    const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  }
  const put = (id, ...nodes) => at(id).replaceChildren(...nodes);
  const value = (s, q) => data.values[s][state.measure][q];
  const shown = v => v === null ? "–" : (v / data.scale).toFixed(3);
  const signed = (d, digits = 3) => (d > 0 ? "+" : d < 0 ? "−" : "±") + (Math.abs(d) / data.scale).toFixed(digits);
  const count = n => n.toLocaleString("en");
  const queries = n => `${count(n)} ${n === 1 ? "query" : "queries"}`;
  const text = q => data.texts && data.texts[q] || "";
  const difference = q => (value(state.one, q) ?? 0) - (value(state.other, q) ?? 0);
  const name = s => data.systems[s];

  // Charts: x and y are functions from values to places.
  const chart = (width, height, label) =>
    make("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  const line = (x1, y1, x2, y2, kind) => make("line", { x1, y1, x2, y2, class: kind });
  const words = (x, y, what, anchor = "middle") => make("text", { x, y, "text-anchor": anchor }, what);
  // The least round step that reaches a value in so many, and the digits that its multiples need.
  function steps(most, many) {
    const power = 10 ** Math.floor(Math.log10(most / many));
    const step = [1, 2, 5, 10].map(n => n * power).find(s => most / s <= many + 1e-9);
    return [step, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))];
  }

  function drawDifferences(sorted) {
    const [width, height, left, top, bottom] = [600, 330, 62, 12, 296];
    const all = sorted.map(difference), n = all.length;
    const most = Math.max(...[all[0] ?? 0, all[n - 1] ?? 0].map(Math.abs)) || data.scale;
    const x = i => left + i / Math.max(1, n) * (width - left - 8);
    const y = d => top + (1 - d / most) / 2 * (bottom - top);
    const measure = data.measures[state.measure];
    const svg = chart(width, height, `Differences of ${name(state.one)} from ${name(state.other)} in ${measure}, sorted: `
      + at("counts").textContent);
    const [step, digits] = steps(most / data.scale, 3);
    for (let part = -3; part <= 3; part++) {
      const d = part * step * data.scale;
      if (Math.abs(d) > most * (1 + 1e-9)) continue;
      svg.append(line(left, y(d), width - 8, y(d), d ? "grid" : "axis"), words(left - 6, y(d) + 4, d ? signed(d, digits) : "0", "end"));
    }
    for (const [kind, sign] of [["gain", 1], ["loss", -1]]) {
      let path = "", open = false;
      all.forEach((d, i) => {
        if (d * sign <= 0) return;
        path += open ? `H${x(i).toFixed(1)}V${y(d).toFixed(1)}` : `M${x(i).toFixed(1)} ${y(0)}V${y(d).toFixed(1)}`;
        open = true;
        if (i === n - 1 || all[i + 1] * sign <= 0) path += `H${x(i + 1).toFixed(1)}V${y(0)}Z`;
      });
      svg.append(make("path", { d: path, class: kind }));
    }
    svg.append(words(left, height - 14, "1", "start"), words(width - 8, height - 14, count(n), "end"),
      words((left + width) / 2, height - 14, "queries, the greatest gain first"));
    const told = make("p", { class: "legend" }, " ");
    svg.addEventListener("pointermove", event => {
      const box = svg.getBoundingClientRect();
      const i = Math.floor(((event.clientX - box.left) / box.width * width - left) / (width - left - 8) * n);
      if (sorted[i] !== undefined) told.textContent = `${count(i + 1)}: ${signed(all[i])}  ${text(sorted[i]) || data.ids[sorted[i]]}`;
    });
    put("difference", svg, told);
  }

  function drawScatter() {
    const size = 420, left = 70, top = 16, side = size - left - 30, bins = 50;
    const label = `${data.measures[state.measure]} of each query: ${name(state.other)} across, ${name(state.one)} upwards`;
    const svg = chart(size, size, label);
    const most = Math.max(data.scale, ...data.values.flatMap(rows => [rows[state.measure].reduce((a, b) => Math.max(a, b ?? 0), 0)]));
    const x = v => left + v / most * side, y = v => top + (1 - v / most) * side;
    for (let part = 0; part <= 4; part++) {
      const v = most * part / 4;
      svg.append(line(left, y(v), left + side, y(v), "grid"), line(x(v), top, x(v), top + side, "grid"),
        words(left - 18, y(v) + 4, (v / data.scale).toFixed(2), "end"), words(x(v), top + side + 28, (v / data.scale).toFixed(2)));
    }
    svg.append(line(x(0), y(0), x(most), y(most), "axis"));
    const cells = new Map();
    data.ids.forEach((_, q) => {
      const a = value(state.other, q), b = value(state.one, q);
      if (a === null || b === null) return;
      const key = Math.round(a / most * bins) * (bins + 1) + Math.round(b / most * bins);
      cells.set(key, [...(cells.get(key) ?? []), q]);
    });
    const largest = Math.max(1, ...[...cells.values()].map(here => here.length));
    for (const [key, here] of cells) {
      const [a, b] = [Math.floor(key / (bins + 1)), key % (bins + 1)].map(v => v * most / bins);
      const radius = 2 + 12 * Math.sqrt(here.length / largest) * Math.min(1, largest / 20);
      const title = here.length === 1 ? text(here[0]) || data.ids[here[0]] : `${count(here.length)} queries`;
      svg.append(make("circle", { cx: x(a).toFixed(1), cy: y(b).toFixed(1), r: radius.toFixed(1), class: "dot" },
        make("title", {}, title)));
    }
    svg.append(words(left + side / 2, size - 6, name(state.other).slice(0, 50)),
      make("text", { transform: `translate(12 ${top + side / 2}) rotate(-90)`, "text-anchor": "middle" }, name(state.one).slice(0, 50)));
    put("scatter", svg, make("p", { class: "legend" },
      `${label}; above the diagonal, ${name(state.one)} is better. The larger a circle, the more queries lie there.`));
  }

  function drawCutoffs() {
    const { cuts, families } = data.curves, family = at("family").value, lines = families[family];
    const [width, height, left, top, bottom] = [720, 300, 52, 12, 250];
    const end = Math.log10(Math.max(2, cuts[cuts.length - 1]));
    const x = k => left + Math.log10(k) / end * (width - left - 20);
    const most = Math.max(0.0001, ...lines.flat()), [step, digits] = steps(most, 6);
    const high = Math.ceil(most / step - 1e-9) * step;
    const y = v => top + (1 - v / high) * (bottom - top);
    const svg = chart(width, height, `${family} by cut-off, a line for each system; the numbers are in the table below`);
    for (let v = 0; v <= high + 1e-9; v += step)
      svg.append(line(left, y(v), width - 20, y(v), "grid"), words(left - 6, y(v) + 4, v.toFixed(digits), "end"));
    cuts.filter(k => /^[125]0*$/.test(k)).forEach(k => svg.append(words(x(k), bottom + 18, count(k))));
    svg.append(words((left + width) / 2, height - 8, "first hits that count (logarithmic)"));
    const legend = make("p", { class: "legend" }, `${family}: `);
    lines.forEach((points, s) => {
      const colour = `var(--c${s % 7})`, dash = DASHES[s % DASHES.length], mark = MARKS[s % MARKS.length];
      const drawn = make("path", { class: "line", "stroke-dasharray": dash || "none",
        d: points.map((v, i) => `${i ? "L" : "M"}${x(cuts[i]).toFixed(1)} ${y(v).toFixed(1)}`).join("") });
      drawn.style.stroke = colour;
      svg.append(drawn);
      points.forEach((v, i) => {
        const point = words(x(cuts[i]), y(v) + 4, mark);
        point.style.fill = colour;
        svg.append(point);
      });
      const key = make("span", {}, `${mark} `);
      key.style.color = colour;
      legend.append(key, name(s), s < lines.length - 1 ? "   " : "");
    });
    const head = make("tr", {}, make("th", { scope: "col" }, family), ...cuts.map(k => make("th", { scope: "col" }, `@${k}`)));
    const rows = lines.map((points, s) => make("tr", {}, make("th", { scope: "row" }, name(s)),
      ...cuts.map((_, i) => make("td", {}, points[i] === undefined ? "–" : points[i].toFixed(3)))));
    put("cutoff", svg, legend, make("details", {}, make("summary", {}, "As a table"),
      make("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "By cut-off" }, make("table", {}, head, ...rows))));
  }

  // Queries: rows are made as they are asked for, what is in them when they are opened.
  function passage(document, relevant, note) {
    const [title, body] = data.passages[document] ?? ["", null];
    const head = make("span", {}, `${note} `, make("code", {}, data.documents[document]));
    if (relevant) head.append(" ", make("span", { class: "badge" }, "✓ relevant"));
    const item = make("li", { class: relevant ? "hit right" : "hit" }, head);
    if (title) item.append(make("b", { dir: "auto" }, title));
    item.append(make("p", { dir: "auto" }, body ?? "(its text isn't in this page)"));
    return item;
  }

  function side(s, q) {
    const hits = data.hits[s][q];
    const list = make("ol", { class: "hits" }, ...hits.map((hit, i) => passage(hit >> 1, hit & 1, `${i + 1}.`)));
    const place = data.ranks[s][q] ? `the best judged is at rank ${count(data.ranks[s][q])}` : "the best judged isn't found";
    const box = make("div", {}, make("h4", {}, `${name(s)} ${shown(value(s, q))} `,
      make("small", {}, data.relevant[q] < 0 ? "" : place)));
    box.append(hits.length ? list : make("p", {}, "nothing found"));
    return box;
  }

  function fill(row, q) {
    const sides = several ? [state.one, state.other] : [state.one];
    const body = make("div", { class: several ? "pair two" : "pair" }, ...sides.map(s => side(s, q)));
    const relevant = data.relevant[q], seen = sides.some(s => data.hits[s][q].some(hit => hit & 1));
    if (relevant < 0) body.append(make("p", { class: "all" }, "No document is judged relevant."));
    else if (!seen)
      body.append(make("div", { class: "all" }, make("h4", {}, several ? "Neither has a relevant one there" : "None there is relevant"),
        make("ol", { class: "hits" }, passage(relevant, true, "The best judged:"))));
    row.append(body);
  }

  function row(q, open) {
    const d = difference(q), kind = d > 0 ? "gain" : d < 0 ? "loss" : "";
    const numbers = several ? `${shown(value(state.one, q))} / ${shown(value(state.other, q))} ` : shown(value(state.one, q));
    const summary = make("summary", {}, make("span", { class: "text" },
      make("bdi", {}, text(q) || data.ids[q]), " ", make("small", {}, make("bdi", {}, text(q) ? data.ids[q] : ""))),
      make("span", { class: "numbers" }, numbers, make("span", { class: kind }, several ? signed(d) : "")));
    const made = make("details", { class: "query" }, summary);
    const filled = () => { if (made.open && made.children.length === 1 && data.hits) fill(made, q); };
    made.open = open;
    filled();
    made.addEventListener("toggle", filled);
    return made;
  }

  function list(title, listed, rows, open) {
    const box = make("section", {}, make("h3", {}, `${title} (${count(listed.length)})`)), rest = [...listed];
    const more = make("button", { type: "button" });
    const add = (many, opened) => {
      rest.splice(0, many).forEach((q, i) => more.before(row(q, i < opened)));
      more.hidden = !rest.length;
      more.textContent = `Show ${count(Math.min(50, rest.length))} more of ${count(rest.length)}`;
    };
    box.append(more);
    more.addEventListener("click", () => {
      const last = more.previousElementSibling;
      add(50, 0);
      last.nextElementSibling.querySelector("summary")?.focus();
    });
    add(rows, open);
    return box;
  }

  function drawLists(sorted) {
    const asked = state.filter.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = q => { const whole = `${data.ids[q]} ${text(q)}`.toLowerCase(); return asked.every(word => whole.includes(word)); };
    const kept = asked.length ? sorted.filter(fits) : sorted;
    at("matches").textContent = asked.length ? `${count(kept.length)} of ${queries(sorted.length)}` : "";
    if (!several) {
      put("lists", list("The lowest first", kept, ROWS, OPEN));
      return;
    }
    const losses = kept.filter(q => difference(q) < 0).sort((a, b) => difference(a) - difference(b) || a - b);
    put("lists",
      list(`Where ${name(state.one)} gains most over ${name(state.other)}`, kept.filter(q => difference(q) > 0), ROWS, OPEN),
      list(`Where ${name(state.one)} loses most`, losses, ROWS, OPEN),
      list("Where both are the same", kept.filter(q => difference(q) === 0), asked.length ? ROWS : 0, 0));
  }

  function inOrder() {
    const all = data.ids.map((_, q) => q);
    return several ? all.sort((a, b) => difference(b) - difference(a) || a - b)
      : all.sort((a, b) => (value(0, a) ?? 0) - (value(0, b) ?? 0) || a - b);
  }

  function draw() {
    const sorted = inOrder();
    if (several) {
      const wins = sorted.filter(q => difference(q) > 0).length, losses = sorted.filter(q => difference(q) < 0).length;
      at("counts").textContent = `${name(state.one)} against ${name(state.other)} in ${data.measures[state.measure]}: better on `
        + `${queries(wins)}, the same on ${count(sorted.length - wins - losses)}, worse on ${count(losses)}.`;
      drawDifferences(sorted);
      drawScatter();
    }
    drawLists(sorted);
  }

  function choose(id, names, key) {
    at(id).replaceChildren(...names.map((each, i) => make("option", { value: i }, each)));
    at(id).value = state[key];
    at(id).addEventListener("change", () => { state[key] = Number(at(id).value); draw(); remember(); });
  }

  // What is compared stands in the address, which can be passed on.
  function remember() {
    try { history.replaceState(null, "", "#" + new URLSearchParams(state)); } catch { /* some browsers forbid it for files */ }
  }
  function recall() {
    const asked = new URLSearchParams(location.hash.slice(1)), bounds = { measure: data.measures, one: data.systems, other: data.systems };
    for (const [key, names] of Object.entries(bounds)) {
      const number = Number(asked.get(key) ?? -1);
      if (Number.isInteger(number) && number >= 0 && number < names.length) state[key] = number;
    }
    state.filter = asked.get("filter") ?? "";
  }

  recall();
  choose("measure", data.measures, "measure");
  choose("one", data.systems, "one");
  choose("other", data.systems, "other");
  at("filter").value = state.filter;
  let waiting;
  at("filter").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => { state.filter = at("filter").value; drawLists(inOrder()); remember(); }, 120);
  });
  at("choice").addEventListener("submit", event => event.preventDefault());
  if (data.curves) {
    at("family").replaceChildren(...Object.keys(data.curves.families).map(each => make("option", { value: each }, each)));
    at("family").addEventListener("change", drawCutoffs);
    drawCutoffs();
  }
  const levelled = data.hits && data.measures.some(measure => /-l\d/.test(measure));
  document.querySelectorAll(".level").forEach(node => { node.hidden = !levelled; });
  at("cutoff-section").hidden = !data.curves;
  at("difference-section").hidden = at("scatter-section").hidden = !several;
  at("other").parentElement.hidden = !several;
  for (const id of ["choice", "charts", "queries"]) at(id).hidden = false;
  draw();
})();
