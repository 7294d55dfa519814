// The last 30 days and the last 24 hours of a device as bars, and its uptime. Only what is in sight is
// requested. Days and hours are those of the browser's time zone.

import { counted, dateOf, hourOf, now, percent, setAttribute, span, steady, svg } from "./format.js";

const DAYS = 30;
const HOURS = 24;
const MOST_NAMES = 100; // in one request …
const LONGEST_QUERY = 6_000; // … and characters of them
const FRESH_MS = 300_000;
const CHANGED_MS = 3_000; // within which a changed device is requested again
const REFUSED_MS = 30_000;
const MOST_KEPT = 2_000;

const HEIGHT = 20;
const SHARE = 0.74; // of a step that its mark takes
const BRIEF = 0.05; // an alarm for less than this part of the time is drawn as a brief one
// From the least to the most important; the height says the same as the colour.
const KINDS = { none: 2, idle: 5, good: 12, brief: 20, bad: 20 };

// Where the days and hours begin, with the end of the last one.
export function boundaries(at) {
  const date = new Date(at * 1000);
  const seconds = (it) => it.getTime() / 1000;
  const day = (back) => seconds(new Date(date.getFullYear(), date.getMonth(), date.getDate() - back));
  const days = Array.from({ length: DAYS + 1 }, (_, index) => day(DAYS - 1 - index));
  // Zones exist whose hours begin at another minute than those of UTC.
  const ahead = date.getTimezoneOffset() * -60;
  const hour = Math.floor((at + ahead) / 3600) * 3600 - ahead;
  const hours = Array.from({ length: HOURS + 1 }, (_, index) => hour + (index + 1 - HOURS) * 3600);
  const all = [...new Set([...days, ...hours])].sort((a, b) => a - b);
  return { days, hours, all };
}

const nothing = () => ({ known: 0, alarm: 0, unwatched: 0, disabled: 0, incidents: 0 });

// What the answer's items say of each of the given stretches; null where the device was not known.
export function stretches(items, all, edges, at) {
  const sums = Array.from({ length: edges.length - 1 }, nothing);
  items.forEach((item, index) => {
    if (!item) return;
    const [begin, end] = [all[index], Math.min(all[index + 1], at)];
    const place = edges.findLastIndex((edge) => edge <= begin);
    const sum = sums[place];
    if (!sum || end <= begin) return;
    sum.known += end - begin;
    const [alarm, unwatched, disabled, incidents] = item;
    sum.alarm += alarm;
    sum.unwatched += unwatched;
    sum.disabled += disabled;
    sum.incidents += incidents;
  });
  return sums.map((sum) => sum.known > 0 ? sum : null);
}

// The part of the time for which it was not in alarm; null if it was never watched.
export function uptimeOf(sums) {
  const whole = sums.filter(Boolean).reduce((all, it) => {
    for (const key of Object.keys(all)) all[key] += it[key];
    return all;
  }, nothing());
  const watched = whole.known - whole.unwatched - whole.disabled;
  return watched >= 1 ? Math.max(0, 1 - whole.alarm / watched) : null;
}

// The past of the devices that were in sight lately.
export class Pasts {
  constructor(source, onNew) {
    Object.assign(this, { source, onNew });
    this.kept = new Map();
    this.isAsking = false;
    this.notBefore = 0;
  }

  get(name) {
    return this.kept.get(name);
  }

  changed(name) {
    const past = this.kept.get(name);
    if (past) past.until = Math.min(past.until, past.at + CHANGED_MS);
  }

  // Requests what is missing or old of these names; called when they come into sight, and once a second.
  async want(names) {
    const time = steady();
    if (this.isAsking || time < this.notBefore || this.source.life() === "lost") return;
    const wanted = names.filter((name) => !(this.kept.get(name)?.until > time));
    if (wanted.length === 0) return;
    this.isAsking = true;
    try {
      await this.#ask(wanted);
    } catch {
      this.notBefore = steady() + REFUSED_MS;
    }
    this.isAsking = false;
    this.onNew();
  }

  async #ask(wanted) {
    const at = now();
    const edges = boundaries(at);
    const asked = [];
    let query = "";
    for (const name of wanted.slice(0, MOST_NAMES)) {
      const parameter = `name=${encodeURIComponent(name)}&`;
      if (query.length + parameter.length > LONGEST_QUERY) break;
      query += parameter;
      asked.push(name);
    }
    const { devices } = await this.source.get(`api/v1/bars?${query}at=${edges.all.join(",")}`);
    const time = steady();
    for (const name of asked) {
      const items = devices[name] ?? [];
      const days = stretches(items, edges.all, edges.days, at);
      const hours = stretches(items, edges.all, edges.hours, at);
      this.kept.delete(name);
      this.kept.set(name, { days, hours, edges, uptime: uptimeOf(days), at: time, until: time + FRESH_MS });
    }
    for (const name of this.kept.keys()) {
      if (this.kept.size <= MOST_KEPT) break;
      this.kept.delete(name);
    }
  }
}

function kindOf(sum) {
  if (!sum) return "none";
  const watched = sum.known - sum.unwatched - sum.disabled;
  if (sum.alarm > 0 && sum.alarm >= BRIEF * watched) return "bad";
  if (sum.alarm > 0 || sum.incidents > 0) return "brief";
  return watched < sum.known / 2 ? "idle" : "good";
}

// What was in one stretch, in words.
export function wordsOf(sum) {
  if (!sum) return "not known yet";
  const words = [];
  if (sum.incidents > 0) words.push(counted(sum.incidents, "incident"));
  if (sum.alarm > 0) words.push(`${span(sum.alarm)} in alarm`);
  if (sum.disabled > 0) words.push(`${span(sum.disabled)} disabled`);
  if (sum.unwatched > 0) words.push(`${span(sum.unwatched)} not watched`);
  return words.length > 0 ? words.join(", ") : "no alarm";
}

const titleOf = (bar, place) => {
  const edge = bar.edges[place];
  return bar.unit === "day" ? dateOf(edge) : `${hourOf(edge)} – ${hourOf(bar.edges[place + 1])}`;
};

// One bar. Its steps are reached with the arrow keys, and are read as the values of a slider.
export class Bar {
  constructor(unit) {
    this.unit = unit;
    this.count = unit === "day" ? DAYS : HOURS;
    this.place = this.count - 1;
    this.sums = null;
    this.node = document.createElement("div");
    this.node.className = `bar ${unit}s`;
    this.node.tabIndex = 0;
    this.svg = svg("svg", { viewBox: `0 0 ${this.count} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.paths = {};
    for (const kind of Object.keys(KINDS)) {
      this.paths[kind] = svg("path", { class: kind });
      this.svg.append(this.paths[kind]);
    }
    this.node.append(this.svg);
    for (const [name, value] of [["role", "slider"], ["aria-valuemin", "1"], ["aria-valuemax", String(this.count)],
      ["aria-readonly", "true"]]) this.node.setAttribute(name, value);
    this.node.bar = this;
  }

  // `past` is undefined until it is known.
  show(name, past) {
    this.edges = past?.edges[`${this.unit}s`];
    const sums = past?.[`${this.unit}s`] ?? null;
    const title = this.unit === "day" ? `last ${DAYS} days` : `last ${HOURS} hours`;
    setAttribute(this.node, "aria-label", `${name}, ${title}`);
    if (sums !== this.sums || !this.isDrawn) this.#draw(sums);
    this.#say();
  }

  #draw(sums) {
    this.sums = sums;
    this.isDrawn = true;
    const marks = Object.fromEntries(Object.keys(KINDS).map((kind) => [kind, ""]));
    for (let place = 0; place < this.count; place += 1) {
      const kind = kindOf(sums?.[place]);
      const height = KINDS[kind];
      marks[kind] += `M${place + (1 - SHARE) / 2} ${HEIGHT - height}h${SHARE}v${height}h-${SHARE}z`;
    }
    for (const [kind, path] of Object.entries(this.paths)) setAttribute(path, "d", marks[kind]);
  }

  #say() {
    setAttribute(this.node, "aria-valuenow", String(this.place + 1));
    setAttribute(this.node, "aria-valuetext", this.words(this.place).join(": "));
  }

  // When, and what was then.
  words(place) {
    return this.edges ? [titleOf(this, place), wordsOf(this.sums[place])] : ["not known yet", ""];
  }

  placeAt(x) {
    const box = this.node.getBoundingClientRect();
    return Math.max(0, Math.min(this.count - 1, Math.floor((x - box.left) / box.width * this.count)));
  }

  goTo(place) {
    this.place = Math.max(0, Math.min(this.count - 1, place));
    this.#say();
  }
}

// Says beside a bar what was when: under the pointer or finger, or at the place that the keys have chosen.
export class Tip {
  constructor(root) {
    this.root = root;
    this.node = document.createElement("div");
    this.node.className = "tip";
    this.node.hidden = true;
    this.node.setAttribute("aria-hidden", "true"); // the bar itself says it
    this.when = document.createElement("strong");
    this.what = document.createElement("span");
    this.node.append(this.when, this.what);
    root.append(this.node);
    const barOf = (event) => event.target.closest?.(".bar")?.bar;
    const point = (event) => {
      const bar = barOf(event);
      if (bar) this.show(bar, bar.placeAt(event.clientX));
      else this.hide();
    };
    root.addEventListener("pointermove", point);
    root.addEventListener("pointerdown", point);
    root.addEventListener("pointerleave", () => this.hide());
    root.addEventListener("focusin", (event) => {
      const bar = barOf(event);
      if (bar?.node.matches(":focus-visible")) this.show(bar, bar.place);
    });
    root.addEventListener("focusout", () => this.hide());
    root.addEventListener("keydown", (event) => this.#press(event, barOf(event)));
    this.scrolled = () => this.hide();
    addEventListener("scroll", this.scrolled, { passive: true });
  }

  close() {
    removeEventListener("scroll", this.scrolled);
  }

  #press(event, bar) {
    if (event.key === "Escape") this.hide();
    const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -bar?.count, End: bar?.count };
    if (!bar || !(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    bar.goTo(bar.place + steps[event.key]);
    this.show(bar, bar.place);
  }

  show(bar, place) {
    const [when, what] = bar.words(place);
    this.when.textContent = when;
    this.what.textContent = what;
    this.node.hidden = false;
    const box = bar.node.getBoundingClientRect();
    const size = this.node.getBoundingClientRect();
    const middle = box.left + box.width * (place + 0.5) / bar.count;
    const left = Math.max(8, Math.min(document.documentElement.clientWidth - size.width - 8, middle - size.width / 2));
    const top = box.top - size.height - 6;
    this.node.style.transform = `translate(${left}px, ${top < 4 ? box.bottom + 6 : top}px)`;
  }

  hide() {
    this.node.hidden = true;
  }
}

export const uptimeWords = (past) => past && past.uptime !== null ? percent(past.uptime) : "–";
