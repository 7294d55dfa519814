// Charts as SVG. A chart is drawn anew for the width that it has, so that its words keep their size on a
// phone; a summary, a reading under the pointer, and a table say the same in words.

import { element, setText, svg } from "./format.js";

const HEIGHT = 150;
const TOP = 12;
const BOTTOM = 22; // below the plot, for the times
const LABEL = 7.7; // the width of a digit of the axes, at most
const TICK_EVERY = 40; // pixels, at least, from one time to the next
const MINUTE = 60;
const HOUR = 3600;
const DAY = 24 * HOUR;

// Making a formatter is slow, so each is made once.
const clock = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit" });
const weekday = new Intl.DateTimeFormat([], { weekday: "short", day: "numeric" });
const day = new Intl.DateTimeFormat([], { day: "numeric", month: "short" });
const month = new Intl.DateTimeFormat([], { month: "short", year: "numeric" });
const moment = new Intl.DateTimeFormat([], {
  weekday: "short", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
});

const yearsAgo = new Intl.DateTimeFormat([], {
  year: "numeric", day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
});

// A time in full; the year where it is another one.
export function momentOf(time) {
  const date = new Date(time * 1000);
  return (date.getFullYear() === new Date().getFullYear() ? moment : yearsAgo).format(date);
}

function drawn(tag, attributes, ...children) {
  const made = svg(tag, attributes);
  made.append(...children);
  return made;
}

// The steps of an axis from at most `least` to at least `most`: 1, 2 or 5 times a power of ten. Bytes are divided by
// powers of 1024 before, and what is counted has no fractions.
export function valueTicks(least, most, count, { bytes = false, whole = false } = {}) {
  const range = most - least || Math.abs(most) || 1;
  let unit = 1;
  if (bytes) while (range / unit >= 1024) unit *= 1024;
  const rough = range / unit / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const found = unit * power * [1, 2, 5, 10].find((it) => it * power >= rough * 0.999_999);
  const step = whole ? Math.max(1, found) : found;
  const first = Math.floor(least / step + 1e-9);
  const last = Math.max(Math.ceil(most / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, index) => (first + index) * step);
}

// The distances from one time of the axis to the next: how long they are, how a time moves to the next one, and
// how it is written. Local time decides, also where a day has 23 hours.
const forward = {
  minutes: (count) => (date) => date.setTime(date.getTime() + count * MINUTE * 1000),
  // Each hour follows the one before, also where the clock shows one twice or passes over one.
  hours: (count) => count === 1 ? forward.minutes(60) : (date) => date.setHours(date.getHours() + count, 0, 0, 0),
  days: (count) => (date) => date.setDate(date.getDate() + count),
  months: (count) => (date) => date.setMonth(date.getMonth() + count),
};
const atMinutes = (count) => (date) => date.setMinutes(Math.floor(date.getMinutes() / count) * count, 0, 0);
const atHours = (count) => (date) => date.setHours(Math.floor(date.getHours() / count) * count, 0, 0, 0);
const atMidnight = (date) => date.setHours(0, 0, 0, 0);
const atMonth = (date) => { date.setDate(1); date.setHours(0, 0, 0, 0); };
const withClock = (date) => (date.getHours() + date.getMinutes() === 0 ? weekday : clock).format(date);
const STEPS = [
  ...[1, 5, 15, 30].map((it) => [it * MINUTE, atMinutes(it), forward.minutes(it), withClock]),
  ...[1, 3, 6, 12].map((it) => [it * HOUR, atHours(it), forward.hours(it), withClock]),
  [DAY, atMidnight, forward.days(1), (date) => weekday.format(date)],
  ...[2, 7, 14].map((it) => [it * DAY, atMidnight, forward.days(it), (date) => day.format(date)]),
  ...[1, 3, 6, 12].map((it) => [it * 30 * DAY, atMonth, forward.months(it), (date) => month.format(date)]),
];

// The times of an axis with their labels, at most `count` of them.
export function timeTicks(begin, end, count) {
  const length = end - begin;
  // Noons say nothing of a week.
  const fits = ([step]) => length / step <= count && !(step === HOUR * 12 && length > 4 * DAY);
  const [, align, next, label] = STEPS.find(fits) ?? STEPS.at(-1);
  const date = new Date(begin * 1000);
  align(date);
  // Days have no first one to count from: it is the first that is shown.
  if (align === atMidnight && date.getTime() < begin * 1000) forward.days(1)(date);
  const ticks = [];
  for (; date.getTime() <= end * 1000; next(date)) {
    if (date.getTime() >= begin * 1000) ticks.push({ time: date.getTime() / 1000, label: label(date) });
  }
  return ticks;
}

// What all values say together; null where there is none.
function summaryOf(data) {
  const known = data.points.filter((point) => point[1] !== null);
  if (known.length === 0) return null;
  const least = Math.min(...known.map((point) => point[1]));
  const most = Math.max(...known.map((point) => point.at(-1)));
  const mean = known.reduce((sum, point) => sum + (point.length > 2 ? point[2] : point[1]), 0) / known.length;
  return { least, most, mean };
}

// Where what is.
function frameOf(data, width) {
  const { least, most } = summaryOf(data);
  const from = data.columns || least > 0 && least < most / 2 ? Math.min(0, least) : least;
  const values = valueTicks(from, most, 3, data);
  const labels = values.map((value) => data.words(value));
  const left = Math.ceil(Math.max(...labels.map((it) => it.length)) * LABEL) + 8;
  const right = width - 8;
  const bottom = HEIGHT - BOTTOM;
  const [low, high] = [values[0], values.at(-1)];
  return {
    left, right, bottom, values, labels,
    x: (time) => left + (time - data.begin) / (data.end - data.begin) * (right - left),
    y: (value) => bottom - (value - low) / (high - low) * (bottom - TOP),
    time: (x) => data.begin + (x - left) / (right - left) * (data.end - data.begin),
  };
}

function axes(data, frame) {
  const { left, right, bottom, values, labels, x, y } = frame;
  const parts = values.map((value, index) => drawn("g", {},
    svg("line", { class: "grid", x1: left, x2: right, y1: y(value), y2: y(value) }),
    drawn("text", { class: "tick", x: left - 6, y: y(value) + 4, "text-anchor": "end" }, labels[index])));
  for (const { at, middle, label } of placedTicks(data, frame)) {
    parts.push(svg("line", { class: "grid", x1: at, x2: at, y1: bottom, y2: bottom + 4 }));
    parts.push(drawn("text", { class: "tick", x: middle, y: HEIGHT - 4, "text-anchor": "middle" }, label));
  }
  return parts;
}

// As many times as have room beside each other.
function placedTicks(data, { left, right, x }) {
  let placed = [];
  for (let count = Math.floor((right - left) / TICK_EVERY); count > 0; count -= 1) {
    placed = timeTicks(data.begin, data.end, count).map(({ time, label }) => {
      const at = x(time);
      const half = label.length * LABEL / 2;
      // A label at the edge would be cut off.
      return { at, label, half, middle: Math.min(Math.max(at, half), right + 8 - half) };
    });
    const isApart = placed.every((it, index) =>
      index === 0 || it.middle - it.half >= placed[index - 1].middle + placed[index - 1].half);
    if (isApart) break;
  }
  return placed;
}

const rounded = (number) => Math.round(number * 10) / 10;

function columns(data, { x, y, bottom }) {
  const path = [];
  for (const [time, value] of data.points) {
    if (!value) continue;
    // The last hour or day is not over.
    const [from, to] = [x(Math.max(time, data.begin)), x(Math.min(time + data.step, data.end))];
    if (to <= from) continue;
    const gap = to - from > 3 ? 1 : 0;
    // What is more than nothing is seen.
    const top = Math.min(y(value), bottom - 1);
    path.push(`M${rounded(from)} ${bottom}V${rounded(top)}H${rounded(to - gap)}V${bottom}Z`);
  }
  return [svg("path", { class: "columns", d: path.join("") })];
}

// Points in succession; where a value is missing, or long none came, the line is interrupted.
function runs(data) {
  const found = [];
  let last = -Infinity;
  for (const point of data.points) {
    if (point[1] === null) continue;
    if (point[0] - last > data.step * 1.5) found.push([]);
    found.at(-1).push(point);
    last = point[0];
  }
  return found;
}

function lines(data, { x, y }) {
  const parts = [];
  const way = (points) => points.map(([time, value]) => `${rounded(x(time))} ${rounded(y(value))}`).join("L");
  for (const run of runs(data)) {
    if (run[0].length > 2) {
      const above = run.map((point) => [point[0], point[3]]);
      const below = run.map((point) => [point[0], point[1]]).reverse();
      parts.push(svg("path", { class: "band", d: `M${way([...above, ...below])}Z` }));
    }
    const middle = run.map((point) => [point[0], point.length > 2 ? point[2] : point[1]]);
    parts.push(middle.length > 1 ? svg("path", { class: "line", d: `M${way(middle)}` })
      : svg("circle", { class: "dot", cx: x(middle[0][0]), cy: y(middle[0][1]), r: 2 }));
  }
  return parts;
}

// Stretches of time that explain a value, such as alarms: behind it, and on the upper edge, where nothing hides them.
function stretches(data, { x, bottom }) {
  return (data.stretches ?? []).filter((it) => it.end > data.begin && it.begin < data.end).flatMap((it) => {
    const from = x(Math.max(it.begin, data.begin));
    const width = Math.max(2, x(Math.min(it.end, data.end)) - from);
    return [svg("rect", { class: `stretch ${it.kind}`, x: from, y: TOP, width, height: bottom - TOP }),
      svg("rect", { class: `edge ${it.kind}`, x: from, y: 1, width, height: TOP - 4 })];
  });
}

// The drawing alone.
//   data: { title, begin, end, step, points, words, columns, bytes, whole, stretches }, where a point is [time, value] or
//   [time, least, mean, most], a value may be null, and `words` writes a value with its unit.
export function draw(data, width) {
  const frame = frameOf(data, width);
  const image = svg("svg", {
    class: "plot", viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: "img",
    "aria-label": `${data.title}: ${sentence(data)}`,
  });
  image.append(...stretches(data, frame), ...axes(data, frame),
    ...(data.columns ? columns(data, frame) : lines(data, frame)));
  return [image, frame];
}

function sentence(data) {
  const found = summaryOf(data);
  if (found === null) return "nothing was recorded";
  const { least, most, mean } = found;
  const range = least === most ? `always ${data.words(most)}`
    : `from ${data.words(least)} to ${data.words(most)}, ${data.words(mean)} on average`;
  return `${range}, ${momentOf(data.begin)} to ${momentOf(data.end)}`;
}

function reading(data, point) {
  const when = data.step < DAY && data.columns
    ? `${momentOf(point[0])} to ${clock.format((point[0] + data.step) * 1000)}` : momentOf(point[0]);
  return `${when}: ${valueWords(data, point)}`;
}

function valueWords(data, point) {
  if (point[1] === null) return "not recorded";
  if (point.length < 3 || point[1] === point[3]) return data.words(point[1]);
  return `${data.words(point[2])} (${data.words(point[1])} to ${data.words(point[3])})`;
}

// A chart in the page. `show` takes new data, and `close` ends it.
export class Chart {
  constructor() {
    this.node = element("figure", "", "chart");
    this.title = element("figcaption");
    this.place = element("div");
    this.words = element("p", "", "reading");
    this.table = element("details");
    this.table.append(element("summary", "As a table"));
    this.node.append(this.title, this.place, this.words, this.table);
    this.table.addEventListener("toggle", () => this.fillTable());
    this.place.addEventListener("pointermove", (event) => this.point(event));
    this.place.addEventListener("pointerdown", (event) => this.point(event));
    this.place.addEventListener("pointerleave", () => this.rest());
    this.observer = new ResizeObserver(() => {
      if (this.data && this.width !== this.place.clientWidth) this.redraw();
    });
    this.observer.observe(this.place);
  }

  show(data) {
    this.data = data;
    setText(this.title, data.title);
    this.redraw();
    this.fillTable();
  }

  redraw() {
    this.width = this.place.clientWidth;
    if (this.width === 0) return;
    this.place.replaceChildren();
    this.frame = null;
    this.table.hidden = summaryOf(this.data) === null;
    if (!this.table.hidden) {
      const [image, frame] = draw(this.data, this.width);
      this.mark = svg("line", { class: "mark", y1: TOP, y2: frame.bottom, x1: 0, x2: 0, visibility: "hidden" });
      image.append(this.mark);
      this.place.append(image);
      this.frame = frame;
    }
    this.rest();
  }

  rest() {
    this.mark?.setAttribute("visibility", "hidden");
    const words = sentence(this.data);
    setText(this.words, words.charAt(0).toUpperCase() + words.slice(1) + ".");
  }

  point(event) {
    if (!this.frame) return;
    const time = this.frame.time(event.clientX - this.place.getBoundingClientRect().left);
    const distance = (point) => this.data.columns ? Math.abs(point[0] + this.data.step / 2 - time)
      : Math.abs(point[0] - time);
    const nearest = this.data.points.reduce((a, b) => distance(b) < distance(a) ? b : a);
    const at = this.frame.x(nearest[0] + (this.data.columns ? this.data.step / 2 : 0));
    for (const name of ["x1", "x2"]) this.mark.setAttribute(name, at);
    this.mark.setAttribute("visibility", "visible");
    setText(this.words, reading(this.data, nearest));
  }

  // Thousands of rows are made only for those who read them.
  fillTable() {
    this.table.querySelector(".scroll")?.remove();
    if (!this.table.open || !this.data) return;
    const scroll = element("div", "", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", `${this.data.title}, as a table`);
    const table = element("table");
    const head = element("tr");
    for (const title of ["Time", this.data.title]) {
      const cell = element("th", title);
      cell.scope = "col";
      head.append(cell);
    }
    const body = element("tbody");
    for (const point of this.data.points.toReversed()) {
      const row = element("tr");
      const time = element("th", momentOf(point[0]));
      time.scope = "row";
      row.append(time, element("td", valueWords(this.data, point)));
      body.append(row);
    }
    table.append(element("thead"), body);
    table.tHead.append(head);
    scroll.append(table);
    this.table.append(scroll);
  }

  close() {
    this.observer.disconnect();
  }
}
