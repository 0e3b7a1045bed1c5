// Behaviour of the console's pages. Everything that a page shows is rendered by the server; this
// replaces parts of a page by newer ones, draws charts, and sends commands to the API.
"use strict";

const chartLibrary = document.currentScript.dataset.charts;
const message = document.getElementById("message");

function say(text, kind = "") {
  message.className = kind;
  message.textContent = text;
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
    script.onerror = () => reject(new Error("the chart library could not be loaded"));
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
        name === "colorscale" && one === "heat" ? heat(colors) : name === "color" ? color(one, colors) : themed(one, colors),
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

function heat(colors) {
  const of = (name) => colors.getPropertyValue(name).trim();
  return [[0, of("--series-2")], [0.5, of("--panel")], [1, of("--series-1")]];
}

async function draw(root = document) {
  const figures = [...root.querySelectorAll("figure.chart")];
  if (!figures.length) return;
  const library = await plotly();
  const colors = getComputedStyle(document.documentElement);
  const axis = { gridcolor: color("grid", colors), zerolinecolor: color("line", colors), automargin: true };
  for (const one of figures) {
    const plot = one.querySelector(".plot");
    if (!plot.isConnected) continue;
    const { data, layout } = themed(JSON.parse(one.querySelector(".figure").textContent), colors);
    const shown = {
      ...layout,
      xaxis: { ...axis, ...layout.xaxis },
      yaxis: { ...axis, ...layout.yaxis },
      margin: { l: 56, r: 14, t: layout.showlegend ? 34 : 8, b: 44 },
      paper_bgcolor: "rgba(0,0,0,0)",
      plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: "system-ui, sans-serif", size: 12, color: color("ink", colors) },
      legend: { orientation: "h", y: 1.12 },
      hoverlabel: { bgcolor: color("panel", colors), font: { color: color("ink", colors) } },
    };
    await library.react(plot, data, shown, { displayModeBar: false, responsive: true });
  }
  document.documentElement.dataset.charts = "drawn";
}

// --- parts of a page ------------------------------------------------------------------------------

async function part(name, url) {
  const answer = await fetch(url, { headers: { "X-Fragment": name }, credentials: "same-origin" });
  if (answer.status === 401) location.assign(`/login?next=${encodeURIComponent(location.pathname + location.search)}`);
  const text = await answer.text();
  if (!answer.ok) {
    const page = new DOMParser().parseFromString(text, "text/html");
    throw new Error(page.querySelector("main .lead")?.textContent ?? `the endpoint answered ${answer.status}`);
  }
  return text;
}

let refreshFailed = false;

async function replace(name, url) {
  const place = document.getElementById(name);
  place.setAttribute("aria-busy", "true");
  try {
    const text = await part(name, url);
    place.innerHTML = text;
    if (refreshFailed) say("");  // what a command said stays
    refreshFailed = false;
    await draw(place);
  } catch (error) {
    say(error.message, "failed");
    refreshFailed = true;
  } finally {
    place.removeAttribute("aria-busy");
  }
}

function keepFresh() {
  for (const place of document.querySelectorAll("[data-refresh]")) {
    setInterval(() => {
      const used = place.contains(document.activeElement) || place.querySelector("details[open]");
      if (!document.hidden && !used) replace(place.id, location.href);
    }, 1000 * Number(place.dataset.refresh));
  }
}

function query(form) {
  const given = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "") given.append(name, value);
  const text = given.toString();
  return form.getAttribute("action") + (text ? `?${text}` : "");
}

// A form of filters: the page's address follows it, and only its part of the page is replaced.
function follow(form) {
  let waiting;
  const update = () => {
    const url = query(form);
    history.replaceState(null, "", url);
    replace(form.dataset.part, url);
  };
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(waiting);
    update();
  });
  form.addEventListener("input", (event) => {
    const twin = document.getElementById(event.target.dataset.with ?? "");
    if (twin) twin.value = event.target.value;
    for (const shown of form.querySelectorAll(`output[for="${event.target.id}"]`)) shown.textContent = event.target.value;
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
    else if (field.type === "datetime-local") given[field.name] = `${field.value}:00Z`.replace(/:00:00Z$/, ":00Z");
    else given[field.name] = field.value;
  }
  return given;
}

async function send(url, given, method = "POST") {
  const answer = await fetch(url, {
    method,
    credentials: "same-origin",
    headers: { "Content-Type": "application/json" },
    body: method === "DELETE" ? undefined : JSON.stringify(given),
  });
  if (answer.status === 204) return null;
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(said.detail ?? `the endpoint answered ${answer.status}`);
  return { ...said, status: answer.status };
}

// A form that posts to the API: what became of the command is said, and the page is loaded again.
function command(form) {
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = form.querySelector("[type=submit]");
    button.disabled = true;
    try {
      const answer = await send(form.dataset.post, body(form));
      const waits = answer?.status === 202;
      sessionStorage.setItem("said", waits ? "The command is on record and waits for the monitor." : (form.dataset.done ?? "Done."));
      location.reload();
    } catch (error) {
      say(error.message, "failed");
      refreshFailed = false;
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
  draw();
});

document.getElementById("sign-out")?.addEventListener("click", async () => {
  await send("/console/session", null, "DELETE");
  location.assign("/login");
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
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
keepFresh();
const said = sessionStorage.getItem("said");
if (said) {
  say(said, "done");
  sessionStorage.removeItem("said");
}
draw().catch((error) => say(error.message, "failed"));
