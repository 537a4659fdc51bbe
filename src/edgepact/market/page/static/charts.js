// What the live page and reports share: numbers in words, lines to hover, tables to copy.
"use strict";

const plain = (value, digits = 4) =>
  value === null || value === undefined ? "not known"
    : Number(value).toLocaleString("en", { maximumSignificantDigits: digits });
const latest = (column) => column.findLast((value) => value !== null);

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A colour of the look as it is now, light or dark: a canvas knows no variables.
const probe = element("i", { hidden: "" });
function inkOf(name) {
  if (!probe.isConnected) document.body.append(probe);
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

const WHOLE = Array.from({ length: 12 }, (_, power) => [1, 2, 5].map((times) => times * 10 ** power)).flat();

// How a border is drawn that stands for a line in the legend.
const strokeOf = ({ dash = [], joined = true }) =>
  !joined || dash[0] < 5 ? "dotted" : dash.length ? "dashed" : "solid";

// Draws lines into `made.plot`, or draws them anew: `made` keeps the chart between two calls.
//   kind.x      what the first column is
//   kind.idle   what the legend shows while nobody points at the chart: "latest", or nothing
//   kind.words  of a number
//   kind.lines  name, ink, dash; dots: whether points are marked; joined: whether a line joins them
//   kind.log    whether the first column has a logarithmic scale
//   kind.whole  whether it is counted, as rounds are
//   kind.counts whether the lines are counts
function drawLines(made, kind, columns) {
  const width = Math.max(200, made.plot.clientWidth);
  const same = JSON.stringify(kind) + inkOf("--ink");
  if (made.kind === same) {
    if (made.drawn.width !== width) made.drawn.setSize({ width, height: 220 });
    made.drawn.setData(columns);
    return;
  }
  made.kind = same;
  made.drawn?.destroy();
  const { words = plain } = kind;
  const axis = { stroke: inkOf("--quiet"), grid: { stroke: inkOf("--line"), width: 1 }, ticks: { show: false } };
  const said = (plot, value, line, at, exact) => {
    if (at === null && !kind.idle) return "";
    const one = at === null ? latest(plot.data[line]) : value;
    return one === null || one === undefined ? "none" : exact(one);
  };
  made.drawn = new uPlot({
    width, height: 220, scales: { x: { time: false, ...(kind.log ? { distr: 3 } : {}) } },
    legend: { live: true, markers: { dash: (_, line) => strokeOf(kind.lines[line - 1]) } },
    cursor: { drag: { x: true, y: false } },
    axes: [{ ...axis, label: kind.x, size: 28, labelSize: 20, labelFont: "13px system-ui",
      ...(kind.whole ? { incrs: WHOLE } : {}) },
      { ...axis, size: 62, ...(kind.counts ? { incrs: WHOLE } : {}), values: (_, at) => at.map((value) => words(value)) }],
    series: [{ label: kind.x, value: (plot, value, _, at) =>
      (at === null && kind.idle ? `${kind.idle}, ` : "") + said(plot, value, 0, at, (one) => plain(one, 6)) },
    ...kind.lines.map(({ name, ink, dash = [], dots, joined = true }) => ({
      label: name, stroke: inkOf(ink), dash, width: 2, ...(joined ? {} : { paths: () => null }),
      points: { show: Boolean(dots), size: joined ? 5 : 9, fill: inkOf(ink) },
      value: (plot, value, line, at) => said(plot, value, line, at, (one) => words(one, 6)),
    }))],
  }, columns, made.plot);
}

// A button that copies a table as a spreadsheet reads it: tabs between cells, a line a row.
function copying(table, title) {
  const button = element("button", { type: "button", class: "small", "aria-label": `Copy the numbers of ${title}` }, "Copy");
  button.addEventListener("click", async () => {
    const text = [...table().rows].map((row) => [...row.cells].map((cell) => cell.innerText.trim()).join("\t")).join("\n");
    let done = true;
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // a page that may not: by a selection, as long as browsers know it
      const place = element("textarea", { "aria-hidden": "true" }, text);
      document.body.append(place);
      place.select();
      done = document.execCommand("copy");
      place.remove();
      button.focus();
    }
    button.textContent = done ? "Copied" : "Not copied";
    setTimeout(() => { button.textContent = "Copy"; }, 2000);
  });
  return button;
}
