// What has been of one device: uptime, incidents, restarts, and contacts, memory and CPU time as charts.

import { Chart, momentOf } from "./charts.js";
import { pathOf } from "./commands.js";
import { counted, element, formatNumber, now, percent, span } from "./format.js";
import { section, tableOf } from "./parts.js";
import { isPassing, Question } from "./question.js";
import { bytes, endingWords, figure, shortReason } from "./words.js";

const HOUR = 3600;
const DAY = 24 * HOUR;
const ROWS = 10; // of a list, before a person asks for all
const HOURLY = 30; // days; longer stretches are charted by the day
const WINDOWS = [["24h", "24 hours"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"]];

// The stretches of time from which a person chooses.
export const RANGES = [["1d", "1 day"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"],
  ["400d", "400 days"]];
export const FIRST_RANGE = "7d";
const uptimeWords = (ratio) => ratio === null || ratio === undefined ? "–" : percent(ratio);
const daysOf = (range) => Number.parseInt(range, 10);

export class Past {
  constructor(source, name, range) {
    Object.assign(this, { source, name, range });
    this.uptime = section("Uptime");
    this.incidents = section("Incidents");
    this.restarts = section("Restarts");
    this.activity = section("Contacts");
    this.usage = section("Memory and CPU time");
    this.charts = { contacts: new Chart(), memory: new Chart(), cpu: new Chart() };
    this.activity.body.append(this.charts.contacts.node);
    this.usage.body.append(this.charts.memory.node, this.charts.cpu.node);
    for (const it of [this.restarts, this.usage]) it.node.hidden = true;
    this.question = new Question((isLast) => this.ask(isLast));
    this.open = new Set(); // lists that a person wants whole
  }

  load() {
    return this.question.ask();
  }

  // Asks for everything and shows it. What cannot be had is said where it is missing.
  async ask(isLast) {
    const path = pathOf(this.name);
    const hours = Math.min(daysOf(this.range), 90);
    const [report, activity] = await Promise.allSettled([
      this.source.get(`${path}/history?since=${this.range}`),
      this.source.get(`${path}/hours?since=${hours}d`),
    ]);
    if (!isLast()) return true;
    this.report = report.value ?? null;
    this.problem = report.reason?.message;
    this.hours = activity.value ?? null;
    this.show();
    return ![report, activity].some(({ reason }) => reason && isPassing(reason));
  }

  // Why nothing is shown, where there is nothing.
  say(problem) {
    for (const it of [this.uptime, this.incidents]) if (!this.report) it.say(problem);
  }

  show() {
    const { report } = this;
    this.say(this.problem);
    if (report) {
      this.uptime.say("");
      this.incidents.say("");
      this.showUptime(report);
      this.showIncidents(report);
      this.showRestarts(report);
    }
    this.showCharts();
  }

  showUptime(report) {
    const list = element("dl", "", "figures");
    for (const [key, title] of WINDOWS) {
      const pair = element("div");
      pair.append(element("dt", title), element("dd", uptimeWords(report.uptime[key])));
      list.append(pair);
    }
    const known = element("p", "", "note");
    known.textContent = report.since ? `Recorded since ${momentOf(report.since)}. Time in which it was disabled or `
      + "iotmonitor could not hear counts as neither." : "Nothing is recorded yet.";
    this.uptime.body.replaceChildren(list, known);
  }

  // A list of which the rest is shown on request.
  list(place, key, headings, items, row) {
    const shown = this.open.has(key) ? items : items.slice(0, ROWS);
    const parts = [tableOf(place.title, headings, shown.map(row))];
    if (shown.length < items.length) {
      const more = element("button", `Show all ${items.length}`);
      more.type = "button";
      more.addEventListener("click", () => {
        this.open.add(key);
        this.list(place, key, headings, items, row);
        place.body.querySelector("table").focus();
      });
      parts.push(more);
    }
    place.body.replaceChildren(...parts);
  }

  showIncidents(report) {
    const items = report.incidents.toSorted((a, b) => b.begin - a.begin);
    this.incidents.count(items.length);
    if (items.length === 0) {
      this.incidents.say(`None in ${RANGES.find(([range]) => range === this.range)[1]}.`);
      this.incidents.body.replaceChildren();
      return;
    }
    this.list(this.incidents, "incidents", ["Began", "Lasted", "Reason", "What ended it"], items,
      (it) => [momentOf(it.begin), span(it.seconds), shortReason(it), endingWords(it)]);
  }

  showRestarts(report) {
    const items = report.restarts.toSorted((a, b) => b.time - a.time);
    this.restarts.node.hidden = items.length === 0;
    this.restarts.count(items.length);
    if (items.length > 0) {
      this.list(this.restarts, "restarts", ["Restarted", "After", "Most memory before"], items,
        (it) => [momentOf(it.time), it.exit ?? "–", it.memoryPeak ? bytes(it.memoryPeak) : "–"]);
    }
  }

  showCharts() {
    const end = Math.floor(now());
    const begin = end - daysOf(this.range) * DAY;
    const stretches = (this.report?.incidents ?? []).map((it) => ({ ...it, end: it.end ?? end, kind: "alarm" }))
      .concat((this.report?.unwatched ?? []).map((it) => ({ ...it, end: it.end ?? end, kind: "unwatched" })));
    this.showContacts({ begin, end, stretches });
    const { hours } = this;
    this.usage.node.hidden = !hours?.memory && !hours?.cpu;
    if (this.usage.node.hidden) return;
    const first = Math.max(begin, hours.begin);
    const points = (values, scale) => (values ?? []).map((value, index) =>
      [hours.begin + index * HOUR, value === null ? null : value * scale]);
    const common = { begin: Math.min(first, end - HOUR), end, step: HOUR };
    this.charts.memory.show({ ...common, title: "Memory, the most in each hour", bytes: true, words: bytes,
      points: points(hours.memory, 1) });
    this.charts.cpu.show({ ...common, title: "CPU time, as a share of one core", columns: true,
      words: (value) => `${figure(value)} %`, points: points(hours.cpu, 100 / HOUR) });
  }

  showContacts({ begin, end, stretches }) {
    const common = { end, stretches, columns: true, whole: true, words: (value) => formatNumber(Math.round(value * 10) / 10) };
    if (daysOf(this.range) <= HOURLY && this.hours) {
      const from = Math.max(begin - begin % HOUR, Math.min(this.hours.begin, end - DAY));
      this.charts.contacts.show({ ...common, title: "Contacts an hour", begin: from, step: HOUR,
        points: this.hours.contacts.map((count, index) => [this.hours.begin + index * HOUR, count])
          .filter(([time]) => time >= from) });
    } else if (this.report) {
      const points = this.report.days.map((day) => [Date.parse(`${day.date}T00:00:00Z`) / 1000, day.contacts]);
      this.charts.contacts.show({ ...common, title: "Contacts a day, of UTC",
        begin: Math.min(points[0]?.[0] ?? begin, end - DAY), step: DAY, points });
    }
    const alarms = stretches.filter((it) => it.kind === "alarm").length;
    const isDeaf = stretches.some((it) => it.kind === "unwatched");
    this.activity.say([alarms > 0 ? `Red on the upper edge: ${counted(alarms, "incident")}.` : "",
      isDeaf ? "Grey: iotmonitor could not hear." : ""].join(" ").trim());
  }

  close() {
    this.question.close();
    Object.values(this.charts).forEach((chart) => chart.close());
  }
}
