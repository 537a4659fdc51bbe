// The live page: reads the server's events, keeps what they say, draws it. No other host is asked.
"use strict";

const ABSENT = 65535;          // in packed amounts: the device did not answer
const NAMED_ROWS = 24;         // devices up to which the map names its rows
const PAGE_ROWS = 50;          // devices of a page of the table
const TOKEN = "edgepact-operator-token";
const RETRY_MS = [500, 1000, 2000, 5000];
const SILENCE_MS = 8000;       // the server says something each second: after this it is away

const byId = (id) => document.getElementById(id);
const state = {
  about: {}, facts: {}, points: new Map(), map: new Map(), devices: new Map(), pieces: new Map(),
  page: 0,
};

// ---------------------------------------------------------------- words and numbers

const credits = (value) => Number(value).toLocaleString("en", { maximumFractionDigits: 2 });
const bytes = (value) =>
  value >= 1e9 ? `${plain(value / 1e9, 3)} GB` : value >= 1e6 ? `${plain(value / 1e6, 3)} MB`
    : value >= 1e3 ? `${plain(value / 1e3, 3)} kB` : `${plain(value, 3)} B`;

const counted = (count, noun) => `${plain(count, 9)} ${noun}${count === 1 ? "" : "s"}`;
const article = (noun) => `${/^[aeio]/.test(noun) ? "an" : "a"} ${noun}`;
// What a price is paid for, in the words of the job: a layer of an image.
const priced = () => `credits for ${article(state.about.step)} of ${article(state.about.unit)}`;

// ---------------------------------------------------------------- the token

function readToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem(TOKEN, given);
    history.replaceState(null, "", location.pathname);  // out of sight, and of the history
  }
  return sessionStorage.getItem(TOKEN);
}

function askForToken(words = "") {
  byId("market").hidden = true;
  byId("sign-in").hidden = false;
  byId("sign-in-error").textContent = words;
  byId("token").focus();
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, byId("token").value.trim());
  byId("token").value = "";
  byId("sign-in").hidden = true;
  connect();
});

const shown = () => ({ Authorization: `Bearer ${sessionStorage.getItem(TOKEN)}` });

// ---------------------------------------------------------------- the connection

let tries = 0;

const isOver = () => ["over", "stopping"].includes(state.facts.state);

function say(words, live) {
  const link = byId("link");
  if (link.textContent !== words) link.textContent = words;
  link.dataset.state = live ? "live" : "away";
}

async function connect() {
  const leaving = new AbortController();
  let silence = setTimeout(() => leaving.abort(), SILENCE_MS);
  try {
    say("Connecting", false);
    const answer = await fetch("/page/events", {
      headers: shown(), signal: leaving.signal, cache: "no-store",
    });
    if (answer.status === 401) {
      clearTimeout(silence);
      sessionStorage.removeItem(TOKEN);
      return askForToken("This is not the operator's token of this server.");
    }
    if (!answer.ok) throw new Error((await answer.json()).error);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let kept = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      clearTimeout(silence);
      silence = setTimeout(() => leaving.abort(), SILENCE_MS);
      const events = (kept + value).split("\n\n");
      kept = events.pop();
      for (const each of events) take(each);
    }
  } catch (error) {
    byId("link").title = String(error.message || error);
  }
  clearTimeout(silence);
  say(isOver() ? "The market has ended; this is how it stood" : "The server is away; trying again", false);
  setTimeout(connect, RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)]);
}

function take(event) {
  const [, kind, data] = /^event: (\w+)\ndata: (.*)$/s.exec(event) || [];
  if (!kind) return;
  const said = JSON.parse(data);
  if (kind === "all") {
    for (const each of ["points", "map", "devices", "pieces"]) state[each].clear();
    // What changed while only this browser was away was asked for by somebody else.
    if (said.about.started !== state.about.started) sayForgotten(state.facts, said.facts);
    state.about = said.about;
    tries = 0;
  }
  for (const last of said.points_gone || []) state.points.delete(last);
  for (const each of said.points) state.points.set(each.last, each);
  for (const each of said.devices) state.devices.set(each.name, each);
  for (const [number, packed] of said.map) state.map.set(number, unpacked(packed));
  for (const number of [...state.map.keys()].sort((a, b) => a - b).slice(0, -120)) state.map.delete(number);
  for (const [device, piece] of said.pieces_gone || []) state.pieces.delete(`${device} ${piece}`);
  for (const each of said.pieces) {
    const key = `${each.device} ${each.piece}`;
    state.pieces.delete(key);
    state.pieces.set(key, each);
  }
  state.facts = said.facts;
  byId("market").hidden = false;
  byId("sign-in").hidden = true;
  say("Live", true);
  draw();
}

// A server that is started again follows its settings: what was asked for here is not lost in silence.
const ASKED = { paused: "the pause", budget: "the budget in all", round_budget: "the budget of a round",
  price_bounds: "the bounds of the price" };

function sayForgotten(before, now) {
  const gone = Object.keys(ASKED).filter((name) => name in before && String(before[name]) !== String(now[name]));
  if (gone.length) byId("control-said").textContent =
    `The server was away; what was asked of it no longer holds: ${gone.map((name) => ASKED[name]).join(", ")}.`;
}

function unpacked(packed) {
  const raw = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  return Array.from({ length: raw.length / 2 }, (_, at) => raw[2 * at] | (raw[2 * at + 1] << 8));
}

// ---------------------------------------------------------------- drawing

let asked = false;
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    for (const part of [drawHead, drawTiles, drawCharts, drawMap, drawPieces, drawControl, drawDevices]) part();
    document.body.dataset.drawn = String(1 + Number(document.body.dataset.drawn || 0));
  });
}

const inOrder = () => [...state.points.values()].sort((a, b) => a.last - b.last);

function drawHead() {
  const { job, model, rounds_total: total } = state.about;
  const { round, state: phase } = state.facts;
  byId("what").textContent =
    `${job} with ${model}: ${phase}, round ${round}${total ? ` of ${total}` : ""}`;
  document.title = `edgepact: ${phase}, round ${round}`;
}

function drawTiles() {
  const { facts, about } = state;
  const points = inOrder();
  const last = points[points.length - 1];
  const jobs = facts.jobs || {};
  const pieces = Object.values(jobs).reduce((a, b) => a + b, 0);
  const tiles = [
    ["Price", last && last.price !== null ? plain(last.price) : "none posted",
      about.best_price === null ? priced() : `exact optimum ${plain(about.best_price)}`],
    ["Devices here", `${facts.present} of ${facts.devices}`, `${facts.answered} have answered`],
    ["Paid", credits(facts.paid), "credits, settled"],
    ["Pending", credits(facts.pending), "credits, until their round is settled"],
    ["Pieces", plain(pieces, 9), `${plain(facts.audited, 9)} audited`],
    ["Strikes", plain(facts.strikes), `${counted(facts.audits_open, "audit")} not finished, ${counted(jobs.forfeit || 0, "piece")} lost the pay`],
    ["In flight", plain(facts.exchanges_in_flight), `${counted(facts.sessions, "piece")} begun`],
    ["Health", ...health(facts)],
  ];
  byId("tiles").replaceChildren(...tiles.map(([name, value, note]) =>
    element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", {}, note)))));
}

function health(facts) {
  if (facts.state === "over") return ["ended", ""];
  if (!facts.books) return ["not ready", "the ledger cannot be read just now"];
  if (facts.budget_used_up) return ["resting", "the budget is used up; another can be set below"];
  return [facts.ready ? "good" : "not ready", "the ledger can be read"];
}

// Each chart: its columns as functions of a point; what is null is left out.
const CHARTS = [
  { id: "price", title: "Price", unit: "credits", lines: [
    ["posted", "--device", (p) => p.price, []],
    ["exact optimum", "--server", () => state.about.best_price, [6, 4]] ] },
  { id: "money", title: "A round's money", unit: "credits a round", lines: [
    ["worth of the work", "--ledger", (p) => each(p, p.worth), [6, 4]],
    ["paid or pending", "--link", (p) => each(p, p.pay), [2, 3]],
    ["server's utility", "--device", (p) => p.worth === null ? null : each(p, p.worth - p.pay), []] ] },
  { id: "latency", title: "Where an exchange's time goes", unit: "milliseconds, mean", lines: [
    ["coming over the link", "--link", (p) => some(p, p.body_ms), [2, 3]],
    ["waiting for its turn", "--server", (p) => some(p, p.queue_ms), [6, 4]],
    ["computing", "--device", (p) => some(p, p.compute_ms), []],
    ["until the ledger has it", "--ledger", (p) => some(p, p.ledger_ms), [8, 3, 2, 3]] ] },
  { id: "bytes", title: "Bytes of tensors", unit: "bytes a round", lines: [
    ["from devices", "--device", (p) => each(p, p.bytes_in), []],
    ["to devices", "--server", (p) => each(p, p.bytes_out), [6, 4]] ] },
  { id: "work", title: "Work", unit: "a round", counts: true, lines: [
    ["units delivered", "--device", (p) => each(p, p.units), []] ] },
  { id: "devices", title: "Devices", unit: "a round", counts: true, lines: [
    ["devices that work", "--server", (p) => each(p, p.working * (p.last - p.first + 1)), [6, 4]],
    ["devices that answered", "--link", (p) => each(p, p.answered * (p.last - p.first + 1)), [2, 3]] ] },
];
const each = (p, sum) => sum === null || !p.closed ? null : sum / (p.last - p.first + 1);
const some = (p, value) => p.exchanges ? value : null;
const WORDS = { bytes, latency: (value) => plain(value, 3) };
const charts = new Map();

// Why a line is not there, or what two of them do not say, where a reader would look for it.
const NOTES = {
  price: (points) => points.every((p) => p.price === null)
    ? "This mechanism posts no price: who is paid what follows from its menu, or from bids."
    : state.about.best_price === null
      ? "No exact optimum: it follows from every device's costs, which this server does not know."
      : "A price some way off the optimum may earn nearly as much.",
  money: (points) => points.every((p) => p.worth === null)
    ? "No utility: the mechanism does not say what work is worth to the server." : "",
};

function makeCharts() {
  for (const chart of CHARTS) {
    const plot = element("div", { class: "chart", role: "img" });
    const place = element("div", { class: "scroll", hidden: "", tabindex: "0", role: "region",
      "aria-label": `${chart.title} in numbers` });
    const copy = copying(() => place.querySelector("table"), chart.title);
    copy.hidden = true;
    const button = element("button", { type: "button", class: "small", "aria-expanded": "false" }, "Numbers");
    button.addEventListener("click", () => {
      place.hidden = copy.hidden = !place.hidden;
      button.setAttribute("aria-expanded", String(!place.hidden));
      draw();
    });
    byId("chart-grid").append(element("figure", { id: `chart-${chart.id}` },
      element("figcaption", {}, element("span", {}, element("strong", {}, chart.title), element("span", { id: `unit-${chart.id}` }, `, ${chart.unit}`)),
        element("span", {}, button, " ", copy)),
      plot, place));
    const note = element("p", { class: "quiet-text", hidden: "" });
    byId(`chart-${chart.id}`).append(note);
    charts.set(chart.id, { plot, place, note });
  }
}

function drawCharts() {
  const points = inOrder();
  CHARTS[0].unit = priced();
  byId("unit-price").textContent = `, ${priced()}`;
  for (const chart of CHARTS) {
    const made = charts.get(chart.id);
    const lines = chart.lines.filter(([, , of]) => points.some((p) => Number.isFinite(of(p) ?? NaN)));
    const columns = [points.map((p) => p.last), ...lines.map(([, , of]) => points.map((p) => of(p) ?? null))];
    drawLines(made, {
      x: "round", whole: true, counts: chart.counts, idle: "latest", words: WORDS[chart.id] || plain,
      lines: lines.map(([name, ink, , dash]) => ({ name, ink, dash, dots: points.length < 60 })),
    }, columns);
    const last = points[points.length - 1];
    made.plot.setAttribute("aria-label", last
      ? `${chart.title}, ${chart.unit}, rounds ${points[0].first} to ${last.last}. Latest: ${
          lines.map(([name], at) => `${name} ${plain(latest(columns[at + 1]))}`).join(", ")}. All under Numbers.`
      : `${chart.title}: no round has ended yet.`);
    made.note.textContent = last ? NOTES[chart.id]?.(points) ?? "" : "";
    made.note.hidden = made.note.textContent === "";
    if (!made.place.hidden) fillTable(made.place, lines, points);
  }
}

function fillTable(place, lines, points) {
  const head = element("tr", {}, element("th", { scope: "col" }, "Round"),
    ...lines.map(([name]) => element("th", { scope: "col", class: "number" }, name)));
  const rows = points.slice(-50).reverse().map((p) => element("tr", {},
    element("th", { scope: "row" }, p.first === p.last ? `${p.last}` : `${p.first} to ${p.last}`),
    ...lines.map(([, , of]) => element("td", { class: "number" }, plain(of(p), 6)))));
  place.replaceChildren(element("table", {}, element("thead", {}, head), element("tbody", {}, ...rows)));
}

// ---------------------------------------------------------------- the map

function shade(share) {
  const dark = document.documentElement.dataset.theme === "dark";
  const [from, to] = dark ? [[35, 47, 58], [120, 230, 190]] : [[232, 240, 236], [8, 78, 56]];
  return from.map((value, at) => Math.round(value + share * (to[at] - value)));
}

function drawMap() {
  const numbers = [...state.map.keys()].sort((a, b) => a - b);
  const devices = [...state.devices.values()].sort((a, b) => a.index - b.index);
  const most = Math.max(1, state.about.amount_max);
  byId("map-said").textContent = numbers.length
    ? `A column is a round (${numbers[0]} to ${numbers[numbers.length - 1]}), a row a device (${devices.length}); `
      + `the stronger the colour, the more of the model it runs, up to ${most}. The amounts of the latest round stand in the table of devices.`
    : "No device has answered yet.";
  const canvas = byId("map"), context = canvas.getContext("2d");
  canvas.width = Math.max(1, numbers.length);
  canvas.height = Math.max(1, devices.length);
  const named = devices.length <= NAMED_ROWS;
  canvas.style.height = `${named ? 22 * Math.max(1, devices.length) : Math.min(480, 4 * devices.length)}px`;
  byId("map-names").hidden = !named;
  byId("map-names").replaceChildren(...(named ? devices : []).map((device) => element("li", {}, device.name)));
  const image = context.createImageData(canvas.width, canvas.height);
  numbers.forEach((number, x) => {
    const row = state.map.get(number);
    devices.forEach((device, y) => {
      const amount = row[device.index] ?? ABSENT;
      const [r, g, b] = shade(amount === ABSENT ? 0 : 0.15 + 0.85 * amount / most);
      const at = 4 * (y * canvas.width + x);
      image.data.set([r, g, b, amount === ABSENT ? 0 : 255], at);
    });
  });
  context.putImageData(image, 0, 0);
  byId("map-key").replaceChildren(...[[0, "answered, runs nothing"], [0.5, "half"], [1, `all ${most}`]].map(
    ([share, words]) => {
      const patch = element("i");
      patch.style.background = `rgb(${shade(0.15 + 0.85 * share)})`;
      return element("span", {}, patch, words);
    }), element("span", {}, element("i"), "no answer"));
}

byId("map").addEventListener("mousemove", (event) => {
  const numbers = [...state.map.keys()].sort((a, b) => a - b);
  const devices = [...state.devices.values()].sort((a, b) => a.index - b.index);
  const box = event.target.getBoundingClientRect();
  const number = numbers[Math.floor((event.clientX - box.left) / box.width * numbers.length)];
  const device = devices[Math.floor((event.clientY - box.top) / box.height * devices.length)];
  if (number === undefined || !device) return;
  const amount = state.map.get(number)[device.index] ?? ABSENT;
  byId("map-hover").textContent =
    `round ${number}, ${device.name}: ${amount === ABSENT ? "no answer" : `runs ${amount}`}`;
});

// ---------------------------------------------------------------- one piece's way

function drawPieces() {
  const select = byId("piece");
  const keys = [...state.pieces.keys()].reverse();
  const open = keys.find((key) => state.pieces.get(key).shown);
  const listening = byId("exhibit").querySelector("audio")?.paused === false;
  const kept = byId("follow").checked && !listening ? open ?? keys[0] : select.value;
  if (document.activeElement !== select) {
    select.replaceChildren(...keys.map((key) => {
      const { device, piece, round, shown: seen } = state.pieces.get(key);
      return element("option", { value: key }, `${device}, round ${round}, ${piece.slice(0, 24)}${seen ? ", shown" : ""}`);
    }));
    if (state.pieces.has(kept)) select.value = kept;
  }
  const piece = state.pieces.get(select.value);
  drawExhibit(piece);
  drawWay(piece);
}
byId("piece").addEventListener("change", () => { byId("follow").checked = false; draw(); });

// What the device shows of a piece. It comes from a stranger: texts are set as text, and pictures and
// sounds, which the server has checked, are nothing but sources of images and players.
function drawExhibit(piece) {
  const place = byId("exhibit");
  const key = piece ? `${piece.device} ${piece.piece} ${piece.shown}` : "";
  if (place.dataset.piece === key) return;
  place.dataset.piece = key;
  if (!piece) return place.replaceChildren();
  if (piece.shown) return fetchExhibit(piece, key);
  const why = state.devices.get(piece.device)?.shows
    ? "This piece is not shown: its device shows one every few seconds, once it is finished."
    : `${piece.device} has shown nothing of what it works on. A device does so only where its owner says so `
      + "(edgepact device --show-pieces).";
  place.replaceChildren(element("p", { class: "quiet-text" }, why));
}

// Whether a text may be more than its place holds, so that it is scrolled, by keys too.
const isLong = (text) => text.length > 200 || text.split("\n").length > 8;

async function fetchExhibit(piece, key) {
  const place = byId("exhibit");
  const query = new URLSearchParams({ device: piece.device, piece: piece.piece });
  let told;
  try {
    const answer = await fetch(`/page/exhibit?${query}`, { headers: shown(), cache: "no-store" });
    if (!answer.ok) throw new Error((await answer.json()).error);
    told = await answer.json();
  } catch (error) {
    if (place.dataset.piece === key)
      place.replaceChildren(element("p", { class: "quiet-text" }, "What was shown of this piece is not there any more."));
    return;
  }
  if (place.dataset.piece !== key) return;  // another was chosen meanwhile
  const words = told.answer || told.given || "no words with it";
  const parts = [];
  if (told.picture) {
    const image = element("img", { alt: `Picture of this piece: ${words}`, src: `data:image/png;base64,${told.picture}` });
    image.addEventListener("load", () => image.classList.toggle("coarse", image.naturalWidth < 80));
    parts.push(element("figure", {}, image));
  }
  const lines = [["What went in", told.given], ["What came out", told.answer]].filter(([, text]) => text);
  const list = element("dl", {}, ...lines.flatMap(([name, text]) => [element("dt", {}, name), element("dd", isLong(text) ? { dir: "auto", tabindex: "0" } : { dir: "auto" }, text)]));
  if (told.sound) list.append(element("dt", {}, "How it sounds"), element("dd", {}, element("audio", { controls: "",
    preload: "metadata", "aria-label": `Sound of this piece: ${words}`, src: `data:audio/wav;base64,${told.sound}` })));
  parts.push(list);
  place.replaceChildren(element("div", { class: "exhibit" }, ...parts));
}

const PARTS = [["on the device and the link", "--quiet"], ["coming in", "--link"],
  ["waiting for its turn", "--server"], ["computing on the server", "--device"], ["into the ledger", "--ledger"]];

function wayOf(piece) {
  let before = null;
  return piece.exchanges.map((one) => {
    const away = before === null ? 0 : Math.max(0, 1e3 * (one.began_s - before));
    before = one.began_s + (one.body_ms + one.server_ms) / 1e3;
    return [away, one.body_ms, one.queue_ms, one.compute_ms, one.ledger_ms];
  });
}

function drawWay(piece) {
  const place = byId("way");
  if (!piece) return place.replaceChildren(element("p", { class: "quiet-text" }, "No piece has come in yet."));
  const ways = wayOf(piece);
  const sums = PARTS.map((_, at) => ways.reduce((sum, way) => sum + way[at], 0));
  const all = sums.reduce((a, b) => a + b, 0) || 1;
  // What a device does before its first exchange, nobody else sees.
  const words = (at) => at === 0 && ways.length < 2 ? "not seen by the server" : `${plain(sums[at], 3)} ms`;
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("class", "way");
  svg.setAttribute("viewBox", "0 0 1000 40");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", PARTS.map(([name], at) => `${name} ${words(at)}`).join(", "));
  let x = 0;
  PARTS.forEach(([, ink], at) => {
    const width = 1000 * sums[at] / all;
    const bar = document.createElementNS(ns, "rect");
    for (const [key, value] of Object.entries({ x, y: 4, width, height: 32 })) bar.setAttribute(key, value);
    bar.style.fill = `var(${ink})`;
    svg.append(bar);
    x += width;
  });
  const last = piece.exchanges[piece.exchanges.length - 1];
  const told = JSON.stringify(last.told, null, 1);
  const open = place.querySelector("details")?.open ? { open: "" } : {};
  const table = element("table", {}, element("tbody", {}, ...PARTS.map(([name, ink], at) => {
    const mark = element("i");
    mark.style.background = `var(${ink})`;
    return element("tr", {}, element("th", { scope: "row", class: "key" }, element("span", {}, mark, name)),
      element("td", { class: "number" }, words(at)));
  })));
  const size = (name) => piece.exchanges.reduce((sum, one) => sum + one[name], 0);
  place.replaceChildren(
    element("p", {}, `${piece.device} did ${piece.amount} of ${counted(state.about.amount_max, state.about.step)}; `
      + `${piece.exchanges.length} exchange${piece.exchanges.length === 1 ? "" : "s"}, `
      + `${bytes(size("bytes_in"))} to the server, ${bytes(size("bytes_out"))} back; `
      + `${piece.state ? `when it was finished its pay was ${piece.state}` : "it is under way"}.`),
    svg, table, told === "{}" ? "" : element("details", open, element("summary", {}, "What the server told the device last"),
      element("pre", {}, told)));
}

// ---------------------------------------------------------------- control

const isFree = (input) => document.activeElement !== input && !input.dataset.typed;
for (const id of ["budget", "round-budget", "low", "high"])
  byId(id).addEventListener("input", (event) => { event.target.dataset.typed = "yes"; });

function drawControl() {
  const { facts } = state;
  byId("pause").textContent = facts.paused ? "Resume" : "Pause";
  // Of a market that has ended there is nothing left to change.
  for (const each of document.querySelectorAll(".controls button")) each.disabled = isOver();
  const set = (id, value) => { if (isFree(byId(id))) byId(id).value = value ?? ""; };
  set("budget", facts.budget);
  set("round-budget", facts.round_budget);
  byId("bounds-form").hidden = facts.price_bounds === null;
  if (facts.price_bounds) {
    set("low", facts.price_bounds[0]);
    set("high", facts.price_bounds[1]);
  }
}

async function change(head, words, asked) {
  byId("ask-head").textContent = head;
  byId("ask-words").textContent = words;
  byId("control-said").textContent = "";
  const dialog = byId("ask");
  dialog.returnValue = "no";
  dialog.showModal();
  byId("ask-no").focus();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  if (dialog.returnValue !== "yes") return;
  try {
    const answer = await fetch("/page/control", {
      method: "POST", headers: { ...shown(), "Content-Type": "application/json" }, body: JSON.stringify(asked),
    });
    const said = await answer.json();
    byId("control-said").textContent = answer.ok ? `Done: ${head.toLowerCase()}.` : `Refused: ${said.error}`;
  } catch (error) {
    byId("control-said").textContent = "Not done: the server is away. Try again when it is back.";
  }
  for (const id of ["budget", "round-budget", "low", "high"]) delete byId(id).dataset.typed;
}

byId("pause").addEventListener("click", () => state.facts.paused
  ? change("Resume the market", "The next round begins at once.", { action: "resume" })
  : change("Pause the market", "The round that is on goes on to its end; no further one begins.", { action: "pause" }));

const limit = (id) => {
  const text = byId(id).value.trim();
  return text === "" ? null : Number.isFinite(Number(text)) ? Number(text) : text;
};
const isCredits = (value) => typeof value === "number" && value >= 0;
const notAsked = (why) => { byId("control-said").textContent = `Not done: ${why}`; };
const words = (value) => value === null ? "no limit" : `${value} credits`;
byId("budget-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const [all, round] = [limit("budget"), limit("round-budget")];
  if (![all, round].every((value) => value === null || isCredits(value)))
    return notAsked("a budget is a number of credits, 0 or more, or nothing for no limit.");
  const spent = state.facts.paid + state.facts.pending;
  change("Set the budget", `At most ${words(all)} in all and ${words(round)} a round are promised from now on. `
    + (all !== null && all <= spent ? `With ${credits(spent)} paid or pending that is nothing more. ` : "")
    + "What is promised already is paid.", { action: "budget", credits: all, round_credits: round });
});
byId("bounds-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const [low, high] = [limit("low"), limit("high")];
  if (!(isCredits(low) && isCredits(high) && low <= high))
    return notAsked("bounds are two numbers of credits, 0 or more, the lowest price first.");
  change("Bound the price", `Prices are quoted between ${low} and ${high} credits from the next round on.`,
    { action: "price_bounds", low, high });
});

// ---------------------------------------------------------------- devices

function stateOf(device) {
  if (device.revoked) return "revoked";
  if (device.excluded) return "excluded";
  return device.present ? "here" : "away";
}

function drawDevices() {
  const wanted = byId("filter").value.trim().toLowerCase();
  const all = [...state.devices.values()].filter((each) => each.name.toLowerCase().includes(wanted))
    .sort((a, b) => a.name.localeCompare(b.name, "en", { numeric: true }));
  const pages = Math.max(1, Math.ceil(all.length / PAGE_ROWS));
  state.page = Math.min(state.page, pages - 1);
  const rows = all.slice(state.page * PAGE_ROWS, (state.page + 1) * PAGE_ROWS);
  const newest = Math.max(...state.map.keys());
  const latest = state.map.get(newest) || [];
  byId("amount-head").textContent = state.map.size ? `Amount in round ${newest}` : "Amount";
  byId("devices-said").textContent = `${all.length} devices${pages > 1 ? `, page ${state.page + 1} of ${pages}` : ""}`;
  byId("before").disabled = state.page === 0;
  byId("after").disabled = state.page >= pages - 1;
  byId("before").parentElement.hidden = pages === 1;
  const body = byId("devices").tBodies[0];
  const focused = document.activeElement?.dataset?.device;
  body.replaceChildren(...rows.map((device) => {
    const out = device.revoked || device.excluded;
    const amount = latest[device.index] ?? ABSENT;
    const button = element("button", { type: "button", class: "small", "data-device": device.name,
      "aria-label": `${out ? "Readmit" : "Revoke"} ${device.name}` }, out ? "Readmit" : "Revoke");
    button.disabled = isOver();
    button.addEventListener("click", () => out
      ? change(`Readmit ${device.name}`, "It may take part again, with the token it had; its strikes are forgotten.",
        { action: "readmit", device: device.name })
      : change(`Revoke ${device.name}`, "Its token is void at once, and it takes no part until it is readmitted. "
        + "What it has earned stays its own.", { action: "revoke", device: device.name }));
    return element("tr", {}, element("th", { scope: "row" }, device.name),
      element("td", out ? { class: "bad" } : {}, stateOf(device)),
      element("td", { class: "number" }, amount === ABSENT ? "none" : String(amount)),
      element("td", { class: "number" }, credits(device.paid)), element("td", { class: "number" }, credits(device.pending)),
      element("td", device.strikes ? { class: "number bad" } : { class: "number" }, String(device.strikes)),
      element("td", {}, button));
  }));
  if (focused) body.querySelector(`[data-device="${CSS.escape(focused)}"]`)?.focus();
}
byId("filter").addEventListener("input", () => { state.page = 0; draw(); });
byId("before").addEventListener("click", () => { state.page -= 1; draw(); });
byId("after").addEventListener("click", () => { state.page += 1; draw(); });

// ---------------------------------------------------------------- light and dark

function theme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme").textContent = name === "dark" ? "Light" : "Dark";
  byId("theme").setAttribute("aria-label", `Change to ${name === "dark" ? "light" : "dark"} colours`);
}
const preferred = matchMedia("(prefers-color-scheme: dark)");
theme(preferred.matches ? "dark" : "light");
preferred.addEventListener("change", () => { theme(preferred.matches ? "dark" : "light"); draw(); });
byId("theme").addEventListener("click", () => {
  theme(document.documentElement.dataset.theme === "dark" ? "light" : "dark");
  if (state.facts.state) draw();
});
addEventListener("resize", () => { if (state.facts.state) draw(); });

makeCharts();
if (readToken()) connect(); else askForToken();
