// Behaviour of the console's pages. Everything that a page shows is rendered by the server; this
// replaces parts of a page by newer ones, draws charts, and sends commands to the API.
"use strict";

const chartLibrary = document.currentScript.dataset.charts;
const message = document.getElementById("message");

// `about` is the part of the page that the text is about: it goes when that part is replaced.
function say(text, kind = "", about = "") {
  message.dataset.about = about;
  message.className = kind;
  if (message.textContent !== text) message.textContent = text; // screen readers say it once
}

// --- charts -------------------------------------------------------------------------------------

let drawing = null;

// The policy of the endpoint forbids style elements and style attributes in markup, and the library
// makes some. It adds its rules to the sheet with the id `plotly.js-style-global`, which is the
// page's own; it leaves out those for maps where an element with the id below stands already; and
// what it sets as an attribute is set as a property, which is no markup.
const mapStyles = "9f215cf04c5486422605d13261cb87401f4e7763b6296af81e98efbc0130da53";

const setAttribute = Element.prototype.setAttribute;

function setStyleAsProperty(name, value) {
  if (name === "style") this.style.cssText = value;
  else setAttribute.call(this, name, value);
}

function plotly() {
  drawing ??= new Promise((resolve, reject) => {
    document.head.append(Object.assign(document.createElement("template"), { id: mapStyles }));
    Element.prototype.setAttribute = setStyleAsProperty;
    const script = document.createElement("script");
    script.src = chartLibrary;
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => {
      drawing = null; // tried again with the next chart
      reject(new Error("the chart library could not be loaded"));
    };
    document.head.append(script);
  });
  return drawing;
}

function themed(value, colors) {
  if (Array.isArray(value)) return value.map((one) => themed(one, colors));
  if (value && typeof value === "object") {
    return Object.fromEntries(
      Object.entries(value).map(([name, one]) => [
        name,
        name === "colorscale" && scales[one] ? scales[one](colors) : name === "color" ? color(one, colors) : themed(one, colors),
      ]),
    );
  }
  return value;
}

function color(value, colors) {
  if (Array.isArray(value)) return value.map((one) => color(one, colors));
  const own = typeof value === "string" && colors.getPropertyValue(`--${value}`).trim();
  return own || value;
}

const scales = {
  diverging: (colors) => [[0, color("series-2", colors)], [0.5, color("panel", colors)], [1, color("series-1", colors)]],
  rising: (colors) => [[0, color("panel", colors)], [1, color("series-2", colors)]],
};

// Values stand in the cells of a heat map where they fit.
const leastCell = 46;

function withoutText(trace, width) {
  if (trace.type !== "heatmap" || width / trace.x.length >= leastCell) return trace;
  const { texttemplate, ...rest } = trace;
  return rest;
}

async function draw(root = document) {
  const figures = [...root.querySelectorAll("figure.chart")];
  if (!figures.length) return;
  const library = await plotly();
  const colors = getComputedStyle(document.documentElement);
  const axis = { gridcolor: color("grid", colors), zerolinecolor: color("line", colors), automargin: true, exponentformat: "B" };
  for (const one of figures) {
    const plot = one.querySelector(".plot");
    if (!plot.isConnected) continue;
    const { data, layout } = themed(JSON.parse(one.querySelector(".figure").textContent), colors);
    const traces = data.map((trace) => withoutText(trace, plot.clientWidth));
    const shown = {
      ...layout,
      xaxis: { ...axis, ...layout.xaxis },
      yaxis: { ...axis, ...layout.yaxis },
      margin: { l: 56, r: 14, t: 10, b: 44 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: color("ink", colors) },
      legend: { orientation: "h", x: 0, y: 1.02, yanchor: "bottom" },
      hoverlabel: { bgcolor: color("panel", colors), font: { color: color("ink", colors) } },
    };
    await library.react(plot, traces, shown, { displayModeBar: false, responsive: true });
  }
  document.documentElement.dataset.charts = "drawn";
}

function redraw(root) {
  return draw(root).catch((error) => say(error.message, "failed"));
}

// --- parts of a page ------------------------------------------------------------------------------

const PATIENCE_MS = 60000;

async function ask(url, options) {
  try {
    return await fetch(url, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("the endpoint cannot be reached");
  }
}

async function part(name, url, signal) {
  const answer = await ask(url, { headers: { "X-Fragment": name }, signal });
  if (answer.status === 401) {
    location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}&ended=1`);
    return null;
  }
  const text = await answer.text();
  if (!answer.ok) {
    const page = new DOMParser().parseFromString(text, "text/html");
    throw new Error(page.querySelector("main .lead")?.textContent ?? `the endpoint answered ${answer.status}`);
  }
  return text;
}

// What a reader did with a part of the page, in the order of its elements.
function traces(place) {
  return {
    scrolled: [...place.querySelectorAll(".scroll")],
    opened: [...place.querySelectorAll("details")],
    links: [...place.querySelectorAll("a[href]")],
  };
}

// Put new content into a part: what was scrolled, opened and focused in it stays so.
function fill(place, text) {
  const before = traces(place);
  const at = document.activeElement;
  const scrolls = before.scrolled.map((one) => [one.scrollLeft, one.scrollTop]);
  const same = before.links.filter((one) => one.getAttribute("href") === at.getAttribute("href"));
  for (const plot of place.querySelectorAll(".js-plotly-plot")) window.Plotly.purge(plot);
  place.innerHTML = text;
  const after = traces(place);
  if (after.opened.length === before.opened.length) {
    before.opened.forEach((one, i) => (after.opened[i].open = one.open));
  }
  after.scrolled.forEach((one, i) => scrolls[i] && one.scrollTo(...scrolls[i]));
  const alike = after.links.filter((one) => one.getAttribute("href") === at.getAttribute("href"));
  const summary = after.opened[before.opened.indexOf(at.parentElement)]?.querySelector("summary");
  const next = after.scrolled[before.scrolled.indexOf(at)] ?? alike[same.indexOf(at)] ?? summary;
  if (!at.isConnected) next?.focus({ preventScroll: true });
}

const asked = new Map(); // the newest request for each part; an answer to an older one is dropped
const minute = () => new Date().toISOString().slice(11, 16);
const shownAt = new Map();
const loadedAt = minute();

// Whether the part was replaced; `may` is asked again when the answer is there.
async function replace(name, url, may = () => true) {
  const place = document.getElementById(name);
  asked.get(name)?.abort();
  const request = new AbortController();
  const late = setTimeout(() => request.abort(), PATIENCE_MS);
  const isNewest = () => asked.get(name) === request;
  asked.set(name, request);
  place.setAttribute("aria-busy", "true");
  try {
    const text = await part(name, url, request.signal);
    if (text === null || !isNewest() || !may()) return false;
    fill(place, text);
    shownAt.set(name, minute());
    if (message.dataset.about === name) say("");
    await redraw(place);
    return true;
  } catch (error) {
    if (isNewest()) {
      say(`Not updated: ${error.message}. What is shown is of ${shownAt.get(name) ?? loadedAt} UTC.`, "failed", name);
    }
    return false;
  } finally {
    clearTimeout(late);
    if (isNewest()) {
      asked.delete(name);
      place.removeAttribute("aria-busy");
    }
  }
}

// Whether a field of a part is being used, or text in it is selected.
function isUsed(place) {
  const at = document.activeElement;
  const field = place.contains(at) && at.matches("input, select, textarea, button");
  const chosen = getSelection();
  return field || (!chosen.isCollapsed && place.contains(chosen.anchorNode));
}

function keepFresh() {
  for (const place of document.querySelectorAll("[data-refresh]")) {
    const may = () => !document.hidden && !isUsed(place);
    const refresh = () => {
      if (may() && !asked.has(place.id)) replace(place.id, location.href, may);
    };
    setInterval(refresh, 1000 * Number(place.dataset.refresh));
    document.addEventListener("visibilitychange", refresh);
  }
}

function query(form) {
  const given = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "") given.append(name, value);
  const text = given.toString();
  return form.getAttribute("action") + (text ? `?${text}` : "");
}

const heard = document.getElementById("heard"); // read by screen readers, not shown

// A form of filters: the page's address follows it, and only its part of the page is replaced.
function follow(form) {
  let waiting;
  const update = async () => {
    const url = query(form);
    history.replaceState(null, "", url);
    if (await replace(form.dataset.part, url)) {
      heard.textContent = document.querySelector(`#${form.dataset.part} .pager span`)?.textContent ?? "Updated";
    }
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    update();
  });
  form.addEventListener("input", (event) => {
    const twin = document.getElementById(event.target.dataset.with ?? "");
    if (twin) twin.value = event.target.value || (twin.type === "range" ? "0" : "");
    clearTimeout(waiting);
    waiting = setTimeout(update, 250);
  });
}

// --- commands -------------------------------------------------------------------------------------

function body(form) {
  const given = {};
  for (const field of form.elements) {
    if (!field.name || field.disabled || field.value === "") continue;
    if ((field.type === "checkbox" || field.type === "radio") && !field.checked) continue;
    if (field.dataset.list !== undefined) (given[field.name] ??= []).push(field.value);
    else if (field.type === "number") given[field.name] = Number(field.value);
    else if (field.type === "datetime-local") given[field.name] = `${field.value}Z`;
    else given[field.name] = field.value;
  }
  return given;
}

async function send(url, given, { method = "POST", key = null } = {}) {
  const answer = await ask(url, {
    method,
    headers: { "Content-Type": "application/json", ...(key && { "Idempotency-Key": key }) },
    body: method === "DELETE" ? undefined : JSON.stringify(given),
  });
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    const detail = said.detail ?? `the endpoint answered ${answer.status}`;
    throw Object.assign(new Error(detail), { status: answer.status });
  }
  return { ...said, status: answer.status };
}

function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((one) => one.toString(16).padStart(2, "0")).join("");
}

// A form that posts to the API: what became of the command is said, and the page is loaded again.
// A command whose outcome is not known is sent again under the same key, so it is recorded once.
function command(form) {
  let unanswered = null;
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    if (button.disabled) return;
    button.disabled = true;
    const given = body(form);
    const text = JSON.stringify(given);
    if (unanswered?.text !== text) unanswered = { text, key: randomKey() };
    try {
      const answer = await send(form.dataset.post, given, { key: unanswered.key });
      const waits = answer?.status === 202;
      sessionStorage.setItem("said", waits ? "The command is on record and waits for the monitor." : (form.dataset.done ?? "Done."));
      location.reload();
    } catch (error) {
      if (error.status < 500) unanswered = null;
      const words = {
        401: "The key is no longer valid: sign in in another tab, and send the command again.",
        undefined: `${error.message}. The command may be on record; it can be sent again and counts once.`,
      };
      say(words[error.status] ?? error.message, "failed");
      message.scrollIntoView({ block: "nearest" });
      button.disabled = false;
    }
  });
}

// --- the frame ------------------------------------------------------------------------------------

document.getElementById("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  redraw();
});

document.getElementById("sign-out")?.addEventListener("click", async () => {
  try {
    await send("/console/session", null, { method: "DELETE" });
    location.assign("/login");
  } catch (error) {
    say(`Not signed out: ${error.message}.`, "failed");
  }
});

document.getElementById("sign-in")?.addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await send("/console/session", { key: event.target.elements.key.value });
    location.assign(event.target.dataset.next);
  } catch (error) {
    say(error.message, "failed");
  }
});

document.querySelectorAll("form[data-part]").forEach(follow);
document.querySelectorAll("form[data-post]").forEach(command);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => redraw());
keepFresh();
const said = sessionStorage.getItem("said");
if (said) {
  say(said, "done");
  sessionStorage.removeItem("said");
}
redraw();
