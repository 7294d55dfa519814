// The frame around the views: it chooses one by the address, draws at most once a frame, and says in the
// heading, in the title and in the icon how things stand.

import { Source } from "./source.js";
import { counted, element, isAlarm, roughly, setAttribute, setText } from "./format.js";
import * as overview from "./overview.js";
import * as device from "./device.js";
import * as alerts from "./alerts.js";

const TITLE_MS = 250; // the title of a hidden page is not drawn, so that no frame paces it

const MOST_IN_ICON = 9;
const LOST_ICON = "icon-lost.svg";
new Image().src = LOST_ICON; // for when it cannot be had any more

const $ = (selector) => document.querySelector(selector);
const source = new Source();

// What a view gets: the names of changed devices, and which lists are new.
const nothing = () => ({ names: new Set(), devices: false, alerts: false, status: false, life: false, tick: false });
let changes = nothing();
let view = null;

// `#/`, `#/device/NAME` or `#/alerts`, each with `?key=value` behind it.
function route() {
  const [path, query = ""] = location.hash.slice(1).split("?");
  const parameters = Object.fromEntries(new URLSearchParams(query));
  const [, kind = "", name = ""] = path.split("/");
  if (kind === "device" && name) return [device, { ...parameters, name: decoded(name) }];
  return kind === "alerts" ? [alerts, parameters] : [overview, parameters];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

let opened = null; // the module of the view

function open() {
  const [module, parameters] = route();
  // A view shows other parameters of its own in place.
  if (module === opened && view.follow?.(parameters)) return;
  opened = module;
  view?.close();
  const root = element("div");
  const isFirst = view === null;
  $("#view").replaceChildren(root);
  for (const link of document.querySelectorAll("header nav a")) {
    const isHere = module === { "#/": overview, "#/alerts": alerts }[link.getAttribute("href")];
    if (isHere) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  view = module.open(root, parameters, source);
  if (isFirst) return;
  // Readers of the screen go on at the new view.
  scrollTo(0, 0);
  $("#view").focus({ preventScroll: true });
  sayTitle();
}

let frame = 0;
function drawSoon() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    const seen = changes;
    changes = nothing();
    view.update(seen);
    sayVerdict();
  });
}

function verdict(alarms) {
  const all = source.devices.size;
  if (source.life() === "asking") return ["asking …", "idle"];
  if (source.life() === "lost") {
    const silence = source.silence();
    const since = Number.isFinite(silence) && silence > 5 ? ` for ${roughly(silence)}` : "";
    return [`iotmonitor does not answer${since}; trying again …`, "bad"];
  }
  if (source.status && !source.status.watching) {
    return ["The broker cannot be reached: no device is heard, and none expires.", "bad"];
  }
  const text = alarms > 0 ? `${alarms} of ${all} in alarm` : "No alarm";
  if (source.status?.lastAlertTold === false) {
    return [`${text}; the last notification failed, ${source.status.alertsWaiting} pending`, "bad"];
  }
  return [source.status?.silenced ? `${text}; all alerts are silenced` : text, alarms > 0 ? "bad" : "good"];
}

let counts = null; // until a device has changed
function count() {
  if (!counts) {
    counts = { alarms: 0, agents: 0 };
    for (const it of source.devices.values()) {
      if (isAlarm(it)) counts.alarms += 1;
      if (it.agent) counts.agents += 1;
    }
  }
  return counts;
}

function sayVerdict() {
  const { alarms, agents } = count();
  const [text, tone] = verdict(alarms);
  setText($("#verdict"), text);
  setAttribute($("#verdict"), "class", tone);
  setText($("#how"), source.isPolling() ? "Live updates do not arrive; the page asks every few seconds." : "");
  if (source.status?.version) {
    setText($("#about"), `iotmonitor ${source.status.version} · `
      + `${counted(source.devices.size - agents, "device")}, ${counted(agents, "agent")}`);
  }
}

function iconFor(alarms) {
  if (source.life() === "lost") return LOST_ICON;
  return alarms === 0 ? "icon.svg" : `icon-${alarms <= MOST_IN_ICON ? alarms : "many"}.svg`;
}

let titleTimer = 0;
function sayTitle() {
  titleTimer ||= setTimeout(() => {
    titleTimer = 0;
    const { alarms } = count();
    const mark = source.life() === "lost" ? "(?) " : alarms > 0 ? `(${alarms}) ` : "";
    const title = `${mark}${view.title ? `${view.title} · ` : ""}iotmonitor`;
    if (document.title !== title) document.title = title;
    setAttribute($("link[rel=icon]"), "href", iconFor(alarms));
  }, TITLE_MS);
}

source.on((change) => {
  if (change.kind === "device") changes.names.add(change.name);
  else changes[change.kind] = true;
  if (change.kind === "device" || change.kind === "devices") counts = null;
  drawSoon();
  sayTitle();
});
addEventListener("hashchange", open);
// What was drawn before the page was hidden may be wrong by now.
document.addEventListener("visibilitychange", () => { if (!document.hidden) sayVerdict(); });
setInterval(() => {
  sayTitle();
  if (document.hidden) return;
  changes.tick = true;
  drawSoon();
}, 1_000);
open();
