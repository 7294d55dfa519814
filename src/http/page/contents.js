// What is shown to a person with the token: recorded states, the journal, and recorded numbers of a device.

import { Chart, momentOf } from "./charts.js";
import { button, HOW_TO_SET_A_TOKEN, pathOf } from "./commands.js";
import { clockTime, element, now } from "./format.js";
import { section, tableOf } from "./parts.js";
import { isPassing } from "./question.js";
import { figure } from "./words.js";

const DAY = 24 * 3600;
const JOURNAL_LINES = 50;
const POINTS = 300;
const LONGEST_PAYLOAD = 500; // characters that are shown of a payload
const PRIORITIES = { 0: "error", 1: "error", 2: "error", 3: "error", 4: "warning" };

// A section that is filled when there is a token, and says how to get it there otherwise.
class Private {
  constructor(title, commands, label) {
    this.commands = commands;
    this.section = section(title);
    this.node = this.section.node;
    this.label = label;
    this.bar = element("p", "", "buttons");
    this.show = button(label, () => this.press());
    this.bar.append(this.show);
    this.section.node.insertBefore(this.bar, this.section.body);
  }

  // Follows the token: with one the section fills itself.
  update() {
    const { possible } = this.commands;
    this.bar.hidden = !possible;
    if (!possible) this.section.say(this.commands.source.status ? HOW_TO_SET_A_TOKEN : "");
    else if (!this.loaded && !this.loading) {
      this.section.say("");
      if (this.commands.source.token) this.load();
    }
  }

  async press() {
    if (await this.commands.token()) await this.load();
  }

  async load() {
    if (this.loading) return;
    this.loading = true;
    this.show.disabled = true;
    try {
      const answer = await this.commands.withToken(this.ask);
      if (this.closed) return;
      this.section.say("");
      this.fill(answer);
      this.loaded = true;
      this.show.textContent = "Read again";
    } catch (error) {
      this.failed(error);
    } finally {
      this.loading = false;
      this.show.disabled = false;
    }
  }

  failed(error) {
    this.loaded = true; // until a person presses the button
    this.section.say(error.message);
  }

  close() {
    this.closed = true;
  }
}

export class States extends Private {
  constructor(source, name, commands) {
    super("Recorded states", commands, "Show the states");
    this.ask = () => source.getWithToken(`${pathOf(name)}/states`);
  }

  fill(states) {
    this.section.count(states.length);
    if (states.length === 0) {
      this.section.body.replaceChildren();
      this.section.say("No state is recorded.");
      return;
    }
    const rows = states.map((it) => {
      const payload = it.payload ?? `base64: ${it.payloadBase64 ?? ""}`;
      const cut = payload.length > LONGEST_PAYLOAD ? `${payload.slice(0, LONGEST_PAYLOAD)}…` : payload;
      return [it.topic, element("code", cut), momentOf(it.time)];
    });
    this.section.body.replaceChildren(tableOf("Recorded states", ["Topic", "Payload", "Recorded"], rows));
  }
}

export class Journal extends Private {
  constructor(source, name, commands) {
    super("Journal", commands, "Show the last lines");
    this.ask = () => source.getWithToken(`${pathOf(name)}/journal?lines=${JOURNAL_LINES}`);
  }

  fill(lines) {
    if (lines.length === 0) {
      this.section.body.replaceChildren();
      this.section.say("The journal has no entry.");
      return;
    }
    const list = element("ol", "", "journal");
    for (const line of lines) {
      const item = element("li", "", PRIORITIES[line.priority] ?? "");
      const time = element("time", clockTime(line.time));
      time.dateTime = new Date(line.time * 1000).toISOString();
      item.append(time, element("code", line.message));
      list.append(item);
    }
    const scroll = element("div", "", "scroll");
    scroll.tabIndex = 0;
    scroll.setAttribute("role", "region");
    scroll.setAttribute("aria-label", "The last lines of the journal");
    scroll.append(list);
    this.section.body.replaceChildren(scroll);
    scroll.scrollTop = scroll.scrollHeight;
  }
}

// Numbers that iotmonitor-recorder has recorded. Where it is not installed, nothing is shown.
export class Values extends Private {
  constructor(source, name, commands, { range, topic, choose }) {
    super("Recorded values", commands, "Show recorded values");
    Object.assign(this, { source, range, topic });
    this.path = `${pathOf(name)}/values`;
    this.ask = () => source.getWithToken(this.path);
    this.select = element("select");
    this.select.addEventListener("change", () => {
      this.topic = this.select.value;
      choose(this.topic);
      this.showTopic();
    });
    const label = element("label", "Topic ", "choose");
    label.append(this.select);
    this.chart = new Chart();
    this.problem = element("p", "", "note");
    this.parts = [label, this.chart.node, this.problem];
    this.node.hidden = true;
  }

  update() {
    // Whether a recorder is installed is known only with the token.
    if (this.commands.source.token) super.update();
    this.bar.hidden = !this.isRefused;
  }

  load() {
    this.isRefused = false;
    return super.load();
  }

  follow(range, topic) {
    this.range = range;
    this.topic = topic ?? this.topic;
    if (this.topics) this.fill(this.topics);
  }

  async fill(topics) {
    this.topics = topics;
    this.node.hidden = topics.length === 0;
    if (topics.length === 0) return;
    const chosen = topics.includes(this.topic) ? this.topic : topics[0];
    this.topic = chosen;
    this.select.replaceChildren(...topics.map((topic) => {
      const option = element("option", topic);
      option.value = topic;
      option.selected = topic === chosen;
      return option;
    }));
    this.section.body.replaceChildren(...this.parts);
    await this.showTopic();
  }

  async showTopic() {
    const { topic } = this;
    const mine = {};
    this.asked = mine;
    const end = Math.floor(now());
    const length = Number.parseInt(this.range, 10) * DAY;
    const query = new URLSearchParams({ topic, since: this.range, points: POINTS });
    try {
      const { points } = await this.source.getWithToken(`${this.path}?${query}`);
      if (this.closed || this.asked !== mine) return;
      this.problem.textContent = "";
      this.chart.show({ title: topic, begin: end - length, end, points, words: figure,
        step: Math.max(length / POINTS, usualStep(points)) });
    } catch (error) {
      if (this.closed || this.asked !== mine) return;
      this.problem.textContent = error.message;
      this.offerAgain();
    }
  }

  failed(error) {
    this.loaded = true;
    this.node.hidden = !isPassing(error);
    if (this.node.hidden) return;
    super.failed(error);
    this.offerAgain();
  }

  offerAgain() {
    this.isRefused = true;
    this.bar.hidden = false;
  }

  close() {
    super.close();
    this.chart.close();
  }
}

// A sensor that speaks once an hour has a line too.
function usualStep(points) {
  const steps = points.slice(1).map((point, index) => point[0] - points[index][0]).toSorted((a, b) => a - b);
  return steps[Math.floor(steps.length / 2)] ?? 0;
}
