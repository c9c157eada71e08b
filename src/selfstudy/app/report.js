// The page's own behaviour: curves, the tree browser, the filter of samples. Everything a model wrote is
// put in through textContent, never as markup.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const dark = matchMedia("(prefers-color-scheme: dark)");

  // Curves.
  const PALETTE = [
    "#2f72d6", "#e08a1e", "#2a9d6f", "#b65bc4", "#d1495b", "#4fb3c8", "#8a8f2c", "#8d6e63",
    "#7a86d8", "#c2a23a", "#6c757d", "#e377a9",
  ];
  const axes = (chart) => {
    const axis = { gridcolor: colour("--line"), zerolinecolor: colour("--line"), linecolor: colour("--line"), automargin: true };
    const { xaxis, yaxis, ...more } = { xaxis: chart.xaxis, yaxis: chart.yaxis, ...(chart.layout || {}) };
    return {
      autosize: true, paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", colorway: PALETTE,
      font: { color: colour("--ink"), family: "system-ui, sans-serif", size: 13 },
      margin: { l: 60, r: 20, t: 20, b: 50 },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", traceorder: "normal" },
      showlegend: chart.traces.filter((trace) => trace.showlegend !== false && trace.type !== "heatmap").length > 1,
      ...more,
      xaxis: { ...axis, title: { text: chart.x }, ...(xaxis || {}) },
      yaxis: { ...axis, title: { text: chart.y }, ...(yaxis || {}) },
    };
  };
  // What moves gets a slider below, and a button that plays it.
  const controls = (picture) => {
    const shown = { mode: "immediate", transition: { duration: 0 } };
    const steps = picture.frames.map(({ name }) => ({
      label: name, method: "animate", args: [[name], { ...shown, frame: { duration: 0, redraw: true } }],
    }));
    const play = [null, { ...shown, fromcurrent: true, frame: { duration: picture.milliseconds, redraw: true } }];
    const pause = [[null], { ...shown, frame: { duration: 0, redraw: false } }];
    return {
      margin: { l: 60, r: 20, t: 20, b: 130 },
      sliders: [{
        steps, x: 0.14, len: 0.86, pad: { t: 62 }, currentvalue: { prefix: picture.over + " ", xanchor: "right", font: { size: 13, color: colour("--ink") } },
        ticklen: 0, minorticklen: 0, bgcolor: colour("--code"), bordercolor: colour("--line"), font: { size: steps.length > 12 ? 1 : 11, color: steps.length > 12 ? "rgba(0,0,0,0)" : colour("--soft") },
      }],
      updatemenus: [{
        type: "buttons", direction: "left", x: 0, y: 0, xanchor: "left", yanchor: "top", pad: { t: 68 }, showactive: false,
        bgcolor: colour("--card"), bordercolor: colour("--line"),
        buttons: [{ label: "▶", method: "animate", args: play }, { label: "❚❚", method: "animate", args: pause }],
      }],
    };
  };
  const CONFIG = { displayModeBar: false, responsive: true };
  const charts = () => {
    for (const chart of data.charts || []) {
      Plotly.react(document.getElementById(chart.id), chart.traces, axes(chart), CONFIG);
    }
    (data.pictures || []).forEach((picture, index) => {
      const box = document.getElementById("picture-" + index);
      const layout = picture.frames ? { ...axes(picture), ...controls(picture) } : axes(picture);
      Plotly.newPlot(box, { data: picture.traces, layout, frames: picture.frames || [], config: CONFIG });
    });
  };
  if (window.Plotly) { charts(); dark.addEventListener("change", charts); }

  // Samples.
  const filters = [...document.querySelectorAll("[data-filter]")];
  for (const button of filters) {
    button.addEventListener("click", () => {
      for (const other of filters) other.setAttribute("aria-pressed", String(other === button));
      for (const sample of document.querySelectorAll(".sample")) {
        sample.hidden = button.dataset.filter !== "all" && sample.dataset.change !== button.dataset.filter;
      }
    });
  }

  // The tree browser.
  const svg = document.getElementById("tree");
  if (!svg || !(data.trees || []).length) return;
  const SPACE = "http://www.w3.org/2000/svg";
  const ROW = 30, HEIGHT = 24, GAP = 46, LETTER = 7.3, LONGEST = 26;
  const make = (tag, attributes, parent) => {
    const element = document.createElementNS(SPACE, tag);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    parent.appendChild(element);
    return element;
  };
  const chooser = document.getElementById("tree-choice");
  const details = document.getElementById("tree-details");
  const visited = document.getElementById("tree-visited");
  let view = { x: 0, y: 0, w: 800, h: 480 }, extent = { w: 800, h: 480 }, shapes = new Map();

  const look = () => svg.setAttribute("viewBox", `${view.x} ${view.y} ${view.w} ${view.h}`);
  const SMALLEST = 1.7; // text is drawn at no less than 1 / SMALLEST of its size when a tree opens
  const fit = (nodes) => {
    const box = svg.getBoundingClientRect(), ratio = box.height / (box.width || 1);
    const left = Math.min(...nodes.map((node) => node.x)), right = Math.max(...nodes.map((node) => node.x + node.w));
    const top = Math.min(...nodes.map((node) => node.y)) - ROW, bottom = Math.max(...nodes.map((node) => node.y)) + ROW;
    const whole = nodes.length === shapes.size;
    const wanted = Math.max(right - left, (bottom - top) / ratio, box.width * 0.8) + 60;
    const w = whole ? wanted : Math.min(wanted, box.width * SMALLEST);
    view = { x: Math.min(left - 30, (left + right - w) / 2), y: (top + bottom) / 2 - (w * ratio) / 2, w, h: w * ratio };
    look();
  };
  const zoom = (factor, x = view.x + view.w / 2, y = view.y + view.h / 2) => {
    view = { x: x - (x - view.x) * factor, y: y - (y - view.y) * factor, w: view.w * factor, h: view.h * factor };
    look();
  };
  const short = (text) => {
    const line = String(text ?? "").replace(/\s+/g, " ").trim() || "(root)";
    return line.length > LONGEST ? line.slice(0, LONGEST - 1) + "…" : line;
  };
  const number = (value) => (typeof value === "number" ? value.toFixed(3) : "–");

  const layout = (tree) => {
    const nodes = new Map(tree.nodes.map((node) => [node.id, { ...node, children: [] }]));
    const roots = [];
    for (const node of nodes.values()) {
      const parent = node.parent == null ? undefined : nodes.get(node.parent);
      if (parent && parent !== node) { node.up = parent; parent.children.push(node); } else roots.push(node);
    }
    if (visited.checked) {
      for (const node of nodes.values()) node.children = node.children.filter((child) => child.visits > 0);
    }
    // Depth first without recursion: leaves take the rows, parents sit in the middle of their children.
    const order = [], widths = [], stack = roots.map((root) => [root, 0]).reverse();
    while (stack.length) {
      const [node, depth] = stack.pop();
      node.depth = depth;
      node.label = short(node.up ? node.text : node.text || tree.title);
      node.w = node.label.length * LETTER + 18;
      widths[depth] = Math.max(widths[depth] || 0, node.w);
      order.push(node);
      for (const child of [...node.children].reverse()) stack.push([child, depth + 1]);
    }
    const starts = widths.map((_, i) => widths.slice(0, i).reduce((sum, width) => sum + width + GAP, 0));
    let row = 0;
    for (const node of order) if (!node.children.length) node.y = row++ * ROW + ROW / 2;
    for (const node of [...order].reverse()) {
      if (node.children.length) node.y = (node.children[0].y + node.children.at(-1).y) / 2;
      node.x = starts[node.depth];
    }
    extent = { w: (starts.at(-1) || 0) + (widths.at(-1) || 0), h: Math.max(row, 1) * ROW };
    return { order, root: roots[0] };
  };

  const path = (node) => { const steps = []; for (let at = node; at; at = at.up) steps.unshift(at); return steps; };
  const select = (node, title) => {
    const on = new Set(path(node));
    for (const [key, shape] of shapes) {
      shape.group.classList.toggle("on", key === node);
      if (shape.edge) shape.edge.classList.toggle("on", on.has(key));
    }
    details.replaceChildren();
    const add = (tag, text, parent = details, kind = "") => {
      const element = document.createElement(tag);
      element.textContent = text;
      if (kind) element.className = kind;
      parent.appendChild(element);
      return element;
    };
    add("h3", "Path");
    const list = add("ol", "");
    for (const step of path(node)) add("li", step.up ? step.text : step.text || title, list);
    const facts = add("dl", "");
    const verdict = node.correct == null ? "not checked" : node.correct ? "right" : "wrong";
    const rows = [["value", number(node.value)], ["first value", number(node.prior)], ["visits", String(node.visits ?? "–")],
      ["ended", node.ended ? "yes" : "no"], ["answer", verdict]];
    for (const [name, value] of rows) { add("dt", name, facts); add("dd", value, facts, value === "right" || value === "wrong" ? value : ""); }
  };

  const draw = () => {
    const tree = data.trees[Number(chooser.value) || 0];
    const { order, root } = layout(tree);
    svg.replaceChildren();
    shapes = new Map();
    const edges = make("g", {}, svg);
    for (const node of order) {
      let edge = null;
      if (node.up) {
        const x1 = node.up.x + node.up.w, middle = (node.x + x1) / 2;
        edge = make("path", { class: "edge", d: `M${x1},${node.up.y} C${middle},${node.up.y} ${middle},${node.y} ${node.x},${node.y}` }, edges);
      }
      const verdict = node.correct == null || !node.ended ? "" : node.correct ? " right" : " wrong";
      const group = make("g", { class: "node" + verdict, transform: `translate(${node.x},${node.y - HEIGHT / 2})`, tabindex: 0, role: "button", "aria-label": node.label }, svg);
      make("rect", { class: "paper", width: node.w, height: HEIGHT, rx: 6 }, group);
      const value = Math.min(1, Math.max(0, Number(node.value) || 0));
      make("rect", { class: "fill", width: node.w, height: HEIGHT, rx: 6, "fill-opacity": 0.04 + 0.5 * value * value }, group);
      make("text", { x: 9, y: 16 }, group).textContent = node.label;
      if (node.visits > 0) make("text", { class: "visits", x: node.w + 4, y: 10 }, group).textContent = "×" + node.visits;
      group.addEventListener("click", () => select(node, tree.title));
      group.addEventListener("keydown", (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); select(node, tree.title); } });
      shapes.set(node, { group, edge });
    }
    if (!root) return;
    const shown = order.find((node) => node.ended && node.correct) || root;
    select(shown, tree.title);
    // A small tree is shown whole; a large one opens on the path that was found.
    fit(order.length <= 40 || shown === root ? order : path(shown));
  };

  data.trees.forEach((tree, index) => {
    const option = document.createElement("option");
    option.value = String(index);
    option.textContent = `${index + 1}. ${short(tree.title)} (${tree.nodes.length} nodes)`;
    chooser.appendChild(option);
  });
  chooser.addEventListener("change", draw);
  visited.addEventListener("change", draw);
  document.getElementById("tree-in").addEventListener("click", () => zoom(0.75));
  document.getElementById("tree-out").addEventListener("click", () => zoom(1.33));
  document.getElementById("tree-fit").addEventListener("click", () => fit([...shapes.keys()]));
  svg.addEventListener("wheel", (event) => {
    event.preventDefault();
    const box = svg.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.15 : 0.87, view.x + ((event.clientX - box.left) / box.width) * view.w, view.y + ((event.clientY - box.top) / box.height) * view.h);
  }, { passive: false });
  let drag = null;
  svg.addEventListener("pointerdown", (event) => { drag = { x: event.clientX, y: event.clientY }; });
  addEventListener("pointermove", (event) => {
    if (!drag) return;
    const scale = view.w / svg.getBoundingClientRect().width;
    view.x -= (event.clientX - drag.x) * scale;
    view.y -= (event.clientY - drag.y) * scale;
    drag = { x: event.clientX, y: event.clientY };
    look();
  });
  addEventListener("pointerup", () => { drag = null; });
  draw();
})();
