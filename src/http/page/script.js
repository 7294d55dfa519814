// Fills the page and keeps it current. Changes arrive as events, and everything is requested anew when
// the connection is back or events were missed. Contacts that change no state cause no event; they are
// requested from time to time while the page is visible.
"use strict";

const CONTACTS_MS = 10_000; // how often contacts are asked for …
const FLEET_CONTACTS_MS = 60_000; // … and of a fleet
const FLEET = 1_000;
const SHOWN = 500; // rows of a table; more are found by name
const RETRY_MS = 5_000; // after the server has refused another stream
const DAY_S = 24 * 3600;

const devices = new Map();
let alerts = [];
let status = null;
let connected = false;
let latest = { at: 0 }; // the figures that came last as an event, and when
let clockAhead = 0; // how far the monitor's clock is ahead of this one, in seconds

const $ = (selector) => document.querySelector(selector);
const now = () => Date.now() / 1000 + clockAhead;

function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const counted = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;

// To the largest unit, as `iotmonitor status` says it.
function ago(time) {
  const seconds = Math.max(0, Math.floor(now() - time));
  if (seconds < 1) return "now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < DAY_S) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / DAY_S)} d ago`;
}

// To its two largest units.
function span(seconds) {
  const whole = Math.floor(seconds);
  const units = [[Math.floor(whole / DAY_S), "d"], [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  const first = units.findIndex(([count]) => count > 0);
  if (first < 0 || (first === 3 && whole < 10)) return `${Number(seconds.toFixed(1))} s`;
  return units.slice(first, first + 2).filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`).join(" ");
}

function clockTime(time, seconds = { second: "2-digit" }) {
  const date = new Date(time * 1000);
  const clock = date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...seconds });
  const isToday = date.toDateString() === new Date().toDateString();
  return isToday ? clock : `${date.toLocaleDateString([], { weekday: "short" })} ${clock}`;
}

// Whatever is in an alarm comes first.
function rank(device) {
  if (device.state === "expired" || device.reason) return 0;
  return { unknown: 1, alive: 2 }[device.state] ?? 3;
}

function stateOf(device) {
  const until = device.silencedUntil;
  const quiet = until > now() ? `, silenced until ${clockTime(until, {})}` : "";
  const text = (device.reason ? `${device.state} (${device.reason})` : device.state) + quiet;
  const className = rank(device) === 0 ? "bad" : { alive: "good", unknown: "odd" }[device.state] ?? "";
  return [text, className];
}

// A row is made once, so that what is selected or read out stays.
class Table {
  constructor(section, columns) {
    this.section = section;
    this.body = section.querySelector("tbody");
    this.columns = columns;
    this.rows = new Map();
  }

  show(list, wanted) {
    const found = wanted ? list.filter((it) => it.name.toLowerCase().includes(wanted)) : list;
    found.sort((a, b) => rank(a) - rank(b) || a.name.localeCompare(b.name));
    const shown = found.slice(0, SHOWN);
    const kept = new Set(shown.map((device) => device.name));
    for (const [name, row] of this.rows) {
      if (!kept.has(name)) {
        row.remove();
        this.rows.delete(name);
      }
    }
    shown.forEach((device, place) => {
      const row = this.rows.get(device.name) ?? this.make(device.name);
      this.fill(row, device);
      if (this.body.children[place] !== row) this.body.insertBefore(row, this.body.children[place]);
    });
    setText(this.section.querySelector(".count"), String(list.length));
    const rest = found.length - shown.length;
    const note = this.section.querySelector(".note");
    note.hidden = rest === 0 && found.length > 0;
    const nothing = list.length === 0 ? "None is configured." : "None has a name like this.";
    setText(note, rest > 0 ? `${rest} more: find them by name.` : nothing);
    this.section.querySelector("table").hidden = found.length === 0;
  }

  make(name) {
    const row = element("tr");
    const heading = element("th", name);
    heading.scope = "row";
    const state = element("td");
    state.append(element("span"));
    row.append(heading, state);
    for (const [label] of this.columns) {
      const cell = element("td");
      cell.dataset.label = label;
      row.append(cell);
    }
    row.dataset.name = name;
    this.rows.set(name, row);
    return row;
  }

  fill(row, device) {
    const [text, className] = stateOf(device);
    const state = row.children[1].firstChild;
    setText(state, text);
    state.className = `state ${className}`;
    row.children[0].title = device.fleet ? `of fleet ${device.fleet}` : "";
    state.title = `since ${clockTime(device.since)}`;
    this.columns.forEach(([, value], index) => setText(row.children[index + 2], value(device)));
  }

  // The words that change by themselves.
  tick() {
    for (const [name, row] of this.rows) {
      const device = devices.get(name);
      if (device) setText(row.children[2], contact(device));
    }
  }
}

const contact = (device) => device.lastContact === null ? "never" : ago(device.lastContact);
const timeout = (device) => device.watchTimeOut > 0 ? span(device.watchTimeOut) : "none";
const common = [["Last contact", contact], ["Timeout", timeout]];
const tables = {
  device: new Table($("#devices"), [...common, ["Hellos", (it) => String(it.hellos)]]),
  agent: new Table($("#agents"), [...common, ["Unit", (it) => it.agent.state],
    ["PID", (it) => it.agent.mainPid === 0 ? "–" : String(it.agent.mainPid)],
    ["Restarts", (it) => String(it.agent.restarts)]]),
};

function verdict(all) {
  if (!connected) return ["iotmonitor does not answer; trying again …", "bad"];
  if (status && !status.watching) {
    return ["The broker cannot be reached: no device is heard, and none expires.", "bad"];
  }
  const alarms = all.filter((device) => rank(device) === 0).length;
  const text = alarms > 0 ? `${alarms} of ${all.length} in alarm` : "No alarm";
  if (status?.lastAlertTold === false) {
    return [`${text}; the last notification failed, ${status.alertsWaiting} pending`, "bad"];
  }
  return [status?.silenced ? `${text}; all alerts are silenced` : text, alarms > 0 ? "bad" : "good"];
}

function showAlerts() {
  const since = now() - DAY_S;
  alerts = alerts.filter((alert) => alert.time >= since);
  const items = alerts.slice(0, SHOWN).map((alert) => {
    const item = element("li", "", alert.priority);
    const time = element("time", clockTime(alert.time));
    time.dateTime = new Date(alert.time * 1000).toISOString();
    time.title = time.dateTime;
    item.append(time, element("p", alert.message));
    return item;
  });
  $("#alerts ol").replaceChildren(...items);
  $("#alerts ol").hidden = items.length === 0;
  setText($("#alerts .count"), String(alerts.length));
  const note = $("#alerts .note");
  const isYoung = status !== null && status.started > since;
  note.hidden = !isYoung;
  if (isYoung) {
    setText(note, `iotmonitor has run since ${clockTime(status.started)}; older alerts are in the journal.`);
  }
}

function show() {
  const all = [...devices.values()];
  const wanted = $("#filter").value.trim().toLowerCase();
  const agents = all.filter((device) => device.kind === "agent");
  tables.device.show(all.filter((device) => device.kind === "device"), wanted);
  tables.agent.show(agents, wanted);
  $("#agents").hidden = agents.length === 0;
  $("#search").hidden = all.length <= 10 && wanted === "";
  const [text, className] = verdict(all);
  setText($("#verdict"), text);
  $("#verdict").className = className;
  const alarms = all.filter((device) => rank(device) === 0).length;
  document.title = alarms > 0 ? `(${alarms}) iotmonitor` : "iotmonitor";
  if (status?.version) setText($("#about"), `iotmonitor ${status.version} · ${counted(all.length - agents.length, "device")}, ${counted(agents.length, "agent")}`);
}

// What comes together is shown together.
let waiting = null;
function soon() {
  waiting ??= setTimeout(() => { waiting = null; show(); }, 30);
}

async function ask(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  if (!response.ok) throw new Error(`${path}: ${response.status}`);
  const date = Date.parse(response.headers.get("date") ?? "");
  // The header has no fractions: a difference below that is none.
  const ahead = (date - Date.now()) / 1000;
  if (Number.isFinite(ahead)) clockAhead = Math.abs(ahead) < 2 ? 0 : ahead;
  return response.json();
}

// What came as an event since something was asked for is newer than the answer.
async function askForFigures() {
  const asked = Date.now();
  const answer = await ask("/api/v1/status");
  status = { ...answer, ...(latest.at >= asked ? latest.figures : {}) };
}

async function askForAlerts() {
  const asked = Date.now();
  const list = await ask("/api/v1/alerts");
  const isNew = (alert) => alert.at >= asked
    && !list.some((known) => known.time === alert.time && known.message === alert.message);
  alerts = [...alerts.filter(isNew), ...list];
}

async function askForDevices() {
  const asked = Date.now();
  const list = await ask("/api/v1/devices");
  const names = new Set(list.map((device) => device.name));
  for (const name of devices.keys()) if (!names.has(name)) devices.delete(name);
  for (const device of list) {
    if (!((changed.get(device.name) ?? 0) >= asked)) devices.set(device.name, device);
  }
}

const changed = new Map(); // when an event last reported a device
let asking = null;
let again = false;

async function askForAll() {
  if (asking) {
    again = true;
    return asking;
  }
  asking = (async () => {
    try {
      do {
        again = false;
        await Promise.all([askForFigures(), askForAlerts(), askForDevices()]);
        connected = true;
        showAlerts();
        show();
      } while (again);
    } catch (error) {
      connected = false;
      soon();
      setTimeout(askForAll, RETRY_MS);
    } finally {
      asking = null;
    }
  })();
  return asking;
}

function listen() {
  const events = new EventSource("/api/v1/events");
  events.onopen = askForAll;
  events.onerror = () => {
    connected = false;
    soon();
    // The browser itself reconnects, but not after a refusal, which means that the server has no room
    // for another stream: the page polls instead.
    if (events.readyState === EventSource.CLOSED) {
      setTimeout(listen, RETRY_MS);
      askForAll();
    }
  };
  events.addEventListener("device", (event) => {
    const device = JSON.parse(event.data);
    changed.set(device.name, Date.now());
    devices.set(device.name, device);
    soon();
  });
  events.addEventListener("summary", (event) => {
    latest = { at: Date.now(), figures: JSON.parse(event.data) };
    status = { ...status, ...latest.figures };
    soon();
  });
  events.addEventListener("alert", (event) => {
    alerts.unshift({ ...JSON.parse(event.data), at: Date.now() });
    showAlerts();
  });
  events.addEventListener("refresh", askForAll);
}

function lookForContacts() {
  setTimeout(async () => {
    if (connected && document.visibilityState === "visible") {
      await askForDevices().then(show, () => {});
    }
    lookForContacts();
  }, devices.size > FLEET ? FLEET_CONTACTS_MS : CONTACTS_MS);
}

$("#filter").addEventListener("input", soon);
document.addEventListener("visibilitychange", () => {
  if (connected && document.visibilityState === "visible") askForAll();
});
setInterval(() => Object.values(tables).forEach((table) => table.tick()), 1000);
listen();
lookForContacts();
