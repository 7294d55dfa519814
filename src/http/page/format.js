// Times, lengths, counts and the words of a verdict, and the elements that show them.

const DAY_S = 24 * 3600;

// Formatters are costly to make, so each is made once.
const withSeconds = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const withMinutes = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat([], { weekday: "short" });
const dayAndMonth = new Intl.DateTimeFormat([], { weekday: "short", day: "numeric", month: "short" });
const number = new Intl.NumberFormat([]);
const collator = new Intl.Collator([], { numeric: true });

let clockAhead = 0; // how far the monitor's clock is ahead of this one, in seconds

export const setClockAhead = (seconds) => { clockAhead = seconds; };

// Milliseconds on a clock that nobody sets. Whatever waits or compares ages goes by it.
export const steady = () => performance.now();

// The present time by the monitor's clock, in Unix seconds.
export const now = () => Date.now() / 1000 + clockAhead;

export const compareNames = collator.compare;

export const counted = (count, noun) => `${number.format(count)} ${noun}${count === 1 ? "" : "s"}`;

export const formatNumber = (value) => number.format(value);

// A length to its largest unit, as `iotmonitor status` writes it.
export function roughly(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min`;
  if (whole < DAY_S) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / DAY_S)} d`;
}

export function ago(time) {
  const seconds = now() - time;
  return seconds < 1 ? "now" : `${roughly(seconds)} ago`;
}

// A length to its two largest units.
export function span(seconds) {
  const whole = Math.floor(seconds);
  const units = [[Math.floor(whole / DAY_S), "d"], [Math.floor(whole / 3600) % 24, "h"],
    [Math.floor(whole / 60) % 60, "min"], [whole % 60, "s"]];
  const first = units.findIndex(([count]) => count > 0);
  if (first < 0 || (first === 3 && whole < 10)) return `${Number(seconds.toFixed(1))} s`;
  return units.slice(first, first + 2).filter(([count]) => count > 0)
    .map(([count, unit]) => `${count} ${unit}`).join(" ");
}

// The day of a time relative to today: empty for today, the weekday within a week, the date otherwise.
function dayOf(date) {
  const today = new Date();
  if (date.toDateString() === today.toDateString()) return "";
  const near = Math.abs(date - today) < 6 * DAY_S * 1000;
  return `${(near ? weekday : dayAndMonth).format(date)} `;
}

export function clockTime(time) {
  const date = new Date(time * 1000);
  return dayOf(date) + withSeconds.format(date);
}

// The same without seconds.
export function shortTime(time) {
  const date = new Date(time * 1000);
  return dayOf(date) + withMinutes.format(date);
}

export const dateOf = (time) => dayAndMonth.format(new Date(time * 1000));

export const hourOf = (time) => withMinutes.format(new Date(time * 1000));

// A ratio as a percentage that says 100 only of what was never down.
export function percent(ratio) {
  if (ratio >= 1) return "100 %";
  const value = ratio * 100;
  const places = value >= 99 ? 2 : 1;
  const scale = 10 ** places;
  return `${(Math.floor(value * scale) / scale).toFixed(places)} %`;
}

const SILENT = new Set(["silent", "lwt-offline", "upstream"]);

// Alarms come first, then those that depend on one, then what was not heard yet.
export function rankOf(device) {
  if (device.reason === "upstream") return 1;
  if (device.state === "expired" || device.reason) return 0;
  if (device.state === "disabled") return 4;
  if (device.state === "elsewhere") return 3;
  return device.state === "unknown" && !isRunning(device) ? 2 : 3;
}

export const isAlarm = (device) => rankOf(device) <= 1;

const isRunning = (device) => device.agent?.state === "active";

// The state in the words that a person uses, and its tone: bad, odd, good or idle. `devices` says
// which of those that this one depends on is down.
export function verdictOf(device, devices) {
  const rank = rankOf(device);
  if (device.state === "elsewhere") return [stateWords(device, devices), "idle"];
  return [stateWords(device, devices), rank <= 1 ? "bad" : ["odd", "good", "idle"][rank - 2]];
}

function stateWords(device, devices) {
  const silence = () => {
    if (device.lastContact === null) return "never heard";
    return `silent for ${roughly(now() - device.lastContact)}`;
  };
  switch (device.reason) {
    case "agent-failed": return "failing";
    case "agent-hung": return `hangs, ${silence()}`;
    case "flapping": return device.state === "expired" ? `flapping, ${silence()}` : "flapping";
    case "upstream": {
      const isDown = (name) => devices.has(name) && isAlarm(devices.get(name));
      const gateway = device.dependsOn?.find(isDown) ?? device.dependsOn?.[0];
      return gateway ? `cut off by gateway ${gateway}` : "cut off by its gateway";
    }
    case "lwt-offline": return `offline for ${roughly(now() - device.since)}`;
    default:
  }
  switch (device.state) {
    case "expired": return silence();
    case "disabled":
      return device.disabledUntil > now() ? `disabled until ${shortTime(device.disabledUntil)}` : "disabled";
    case "alive": return "alive";
    case "elsewhere": return device.node ? `on node ${device.node}` : "on no node";
    default:
  }
  if (!device.agent) return "not heard yet";
  const words = { active: "running", reloading: "running", activating: "starting", deactivating: "stopping" };
  const word = words[device.agent.state] ?? "stopped";
  return word === "stopped" && device.agent.nextStart > now()
    ? `starts again at ${clockTime(device.agent.nextStart)}` : word;
}

// Until when its alerts are silenced, in words; empty if they are not.
export const silencedWords = (device) =>
  device.silencedUntil > now() ? `silenced until ${shortTime(device.silencedUntil)}` : "";

// Whether its words change by themselves.
export const isTicking = (device) => SILENT.has(device.reason) || device.state === "expired";

export function element(tag, text = "", className = "") {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export function svg(tag, attributes = {}) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

// Nothing is laid out anew for the same text.
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function setAttribute(node, name, value) {
  if (node.getAttribute(name) !== value) node.setAttribute(name, value);
}

export const deviceLink = (name) => `#/device/${encodeURIComponent(name)}`;
