// Alerts as a list, newest first, in which the restarts of an agent on one day are one row.

import { momentOf } from "./charts.js";
import { button } from "./commands.js";
import { element, setAttribute } from "./format.js";
import { nameLink } from "./parts.js";

export const RANK = { error: 3, warning: 4, notice: 5, info: 6 };
const RESTARTS = new Set(["agent-started", "agent-relaunched"]);

// An alert has no number before those of earlier runs are known.
export const keyOf = (alert) => String(alert.id ?? `${alert.time} ${alert.message}`);

const dayOf = (alert) => new Date(alert.time * 1000).toDateString();

// Rows of alerts, each with a key that stays the same when alerts are added. The restarts of an agent on one day
// stand where the latest of them does.
export function folded(alerts) {
  const rows = new Map();
  for (const alert of alerts) {
    const key = RESTARTS.has(alert.event) ? `${dayOf(alert)} ${alert.device}` : keyOf(alert);
    const row = rows.get(key);
    if (row) row.push(alert);
    else rows.set(key, [alert]);
  }
  return rows;
}

// The priority of a row is that of the worst of its alerts.
const worst = (row) => row.reduce((a, b) => RANK[b.priority] < RANK[a.priority] ? b : a).priority;

// A restart may come with two alerts: that it is due, and that it has happened.
function restartWords(alerts) {
  const starts = alerts.filter((alert) => alert.event === "agent-started").length;
  const [verb, count] = starts > 0 ? ["started", starts] : ["relaunched", alerts.length];
  const often = count === 1 ? "" : ` ${count} times`;
  return `${alerts[0].device} was ${verb}${often} since ${momentOf(alerts.at(-1).time)}`;
}

function timeOf(seconds) {
  const time = element("time", momentOf(seconds));
  time.dateTime = new Date(seconds * 1000).toISOString();
  time.title = time.dateTime;
  return time;
}

// `actions` offers `acknowledge(button, alerts)` and `silence(button, name)`, and says what is possible.
export class AlertList {
  constructor(actions = null) {
    this.actions = actions;
    this.node = element("ol", "", "alerts");
    this.rows = new Map();
  }

  // A row is made once, so that the focus and what is expanded stay.
  show(alerts, most = Infinity) {
    const kept = new Map();
    let place = 0;
    for (const [key, row] of folded(alerts)) {
      if (place === most) break;
      const item = this.rows.get(key) ?? new Row(this.actions);
      item.fill(row);
      kept.set(key, item);
      const there = this.node.children[place] ?? null;
      if (there !== item.node) this.node.insertBefore(item.node, there);
      place += 1;
    }
    for (const [key, item] of this.rows) if (!kept.has(key)) item.node.remove();
    this.rows = kept;
    this.node.hidden = kept.size === 0;
    return kept.size;
  }

  update() {
    for (const row of this.rows.values()) row.update();
  }
}

// One alert, or an agent's restarts of a day.
class Row {
  constructor(actions) {
    this.node = element("li");
    this.body = element("div", "", "body");
    this.actions = actions;
    if (!actions) return;
    this.bar = element("p", "", "buttons");
    this.acknowledge = button("Acknowledge", (event) => actions.acknowledge(event.currentTarget, this.alerts));
    this.silence = button("Silence …", (event) => actions.silence(event.currentTarget, this.alerts[0].device));
    this.bar.append(this.acknowledge, this.silence);
  }

  fill(alerts) {
    const mark = alerts.map((alert) => `${keyOf(alert)} ${alert.acknowledged ?? ""}`).join();
    if (mark !== this.mark) {
      this.mark = mark;
      this.alerts = alerts;
      this.draw();
    }
  }

  draw() {
    const { alerts } = this;
    const [latest] = alerts;
    const isSeen = alerts.every((alert) => alert.acknowledged);
    this.node.className = `${worst(alerts)}${isSeen ? " seen" : ""}`;
    const facts = element("div", "", "about");
    facts.append(element("span", worst(alerts), "severity"));
    if (latest.device) facts.append(nameLink(latest.device));
    if (isSeen) {
      const at = Math.max(...alerts.map((alert) => alert.acknowledged));
      facts.append(element("span", `acknowledged ${momentOf(at)}`));
    }
    this.body.replaceChildren(alerts.length > 1 ? this.expandable() : element("p", latest.message), facts);
    // Only what is new is put in, so that a button keeps the focus.
    const time = timeOf(latest.time);
    if (this.node.firstChild) this.node.firstChild.replaceWith(time);
    else this.node.append(time, this.body, ...(this.bar ? [this.bar] : []));
    this.update();
  }

  expandable() {
    const { alerts } = this;
    this.details ??= element("details");
    const inner = element("ol");
    for (const alert of alerts) {
      const item = element("li", "", alert.priority);
      item.append(timeOf(alert.time), element("p", alert.message));
      inner.append(item);
    }
    this.details.replaceChildren(element("summary", restartWords(alerts)), inner);
    return this.details;
  }

  update() {
    if (!this.actions) return;
    const { device } = this.alerts[0];
    this.acknowledge.hidden = !this.actions.possible
      || this.alerts.every((alert) => alert.acknowledged || alert.id === undefined);
    this.silence.hidden = !this.actions.possible || !this.actions.knows(device);
    const what = this.alerts.length > 1 ? `the restarts of ${device}` : this.alerts[0].message;
    setAttribute(this.acknowledge, "aria-label", `Acknowledge: ${what}`);
    setAttribute(this.silence, "aria-label", `Silence … ${device}`);
  }
}

const LATEST = 20; // rows of the overview

// The latest alerts on the overview.
export function openList(root, source) {
  const section = element("section");
  section.id = "alerts";
  const heading = element("h2", "Alerts of the last day ");
  heading.id = "alerts-title";
  section.setAttribute("aria-labelledby", heading.id);
  const count = element("span", "", "count");
  heading.append(count);
  const list = new AlertList();
  const all = element("p", "", "note");
  const link = element("a", "Read all alerts and incidents");
  link.href = "#/alerts";
  all.append(link);
  section.append(heading, list.node, all);
  root.append(section);
  const update = () => {
    count.textContent = String(source.alerts.length);
    list.show(source.alerts, LATEST);
  };
  update();
  return { update };
}
