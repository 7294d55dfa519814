// The page of one device or agent: `#/device/NAME`, with `since` for the stretch of time that is shown and `topic`
// for the values that are charted.

import { CommandBar, pathOf } from "./commands.js";
import { Journal, States, Values } from "./contents.js";
import {
  ago, clockTime, compareNames, counted, deviceLink, element, setText, shortTime, silencedWords, span, verdictOf,
} from "./format.js";
import { choices, link, nameLink, section } from "./parts.js";
import { FIRST_RANGE, Past, RANGES } from "./past.js";
import { isPassing, Question } from "./question.js";
import { reasonWords } from "./words.js";

const CHILDREN = 50; // links to devices behind a gateway
const AGAIN_MS = 5 * 60_000; // figures of the past are asked for again

export const hashOf = (name, parameters = {}) => {
  const query = new URLSearchParams(Object.entries(parameters).filter(([, value]) => value)).toString();
  return `${deviceLink(name)}${query ? `?${query}` : ""}`;
};

// The state as a sentence, and in a cluster the node that has the device.
function sentenceOf(device) {
  const node = device.node && device.state !== "elsewhere" ? ` Node ${device.node} has it.` : "";
  return stateOf(device) + node;
}

function stateOf(device) {
  const since = clockTime(device.since);
  const gone = device.lastContact === null ? "It was never heard." : `Its last contact was ${ago(device.lastContact)}.`;
  const until = device.disabledUntil ? ` until ${shortTime(device.disabledUntil)}` : "";
  switch (device.state) {
    case "disabled": return `Disabled since ${since}${until}: it is not monitored.`;
    case "expired": return `Since ${since}: ${reasonWords(device.reason ?? "silent")}. ${gone}`;
    case "alive": return device.reason ? `Since ${since}: ${reasonWords(device.reason)}. ${gone}`
      : `Present since ${since}. ${gone}`;
    case "elsewhere": return device.node ? `Since ${since} node ${device.node} has it, whose page shows more.`
      : `Since ${since} no node has it.`;
    default: return device.reason ? `Since ${since}: ${reasonWords(device.reason)}. ${gone}`
      : `Watched since ${since}. ${gone}`;
  }
}

// How long it is usually silent, its timeout beside that, and what `auto` would do.
function rhythmWords(device, rhythm) {
  const timeout = device.watchTimeOut > 0 ? `Its timeout is ${span(device.watchTimeOut)}`
    : "It has no timeout, and never expires";
  if (!rhythm || rhythm.usual === null) return `${timeout}. How long it is usually silent is not learned yet.`;
  const usual = `Half of its silences last at most ${span(rhythm.usual)}`
    + (rhythm.rare === null ? "" : `, one in a hundred is longer than ${span(rhythm.rare)}`)
    + (rhythm.longest === null ? "" : `, and the longest was ${span(rhythm.longest)}`);
  const auto = rhythm.auto === null ? "What `auto` would use is not learned yet"
    : `With watchTimeOut = "auto" it would be ${span(rhythm.auto)}`;
  return `${usual}. ${timeout}. ${auto}.`;
}

class DeviceView {
  constructor(root, name, parameters, source) {
    Object.assign(this, { root, name, source });
    this.read(parameters);
    root.classList.add("device-view");
    this.head();
    this.past = new Past(source, name, this.range);
    this.rhythm = section("Rhythm");
    this.process = section("Process");
    this.rhythmText = element("p");
    this.rhythm.body.append(this.rhythmText);
    const { commands } = this.bar;
    this.contents = [
      new Values(source, name, commands, { range: this.range, topic: this.topic, choose: (it) => this.choose(it) }),
      new States(source, name, commands),
      new Journal(source, name, commands),
    ];
    this.ranges = choices("The time that is shown", RANGES);
    this.showRange();
    const [values, states, journal] = this.contents.map((it) => it.node);
    const { uptime, incidents, restarts, activity, usage } = this.past;
    this.parts = [this.bar.node, uptime.node, this.rhythm.node, this.ranges.node, activity.node, incidents.node,
      this.process.node, usage.node, restarts.node, values, states, journal];
    root.append(...this.parts);
    this.unknown = element("p", "", "note");
    this.unknown.hidden = true;
    root.append(this.unknown);
    this.timer = setInterval(() => this.tick(), 1_000);
    this.question = new Question((isLast) => this.ask(isLast));
    this.question.ask();
    this.update();
  }

  read(parameters) {
    this.range = RANGES.some(([range]) => range === parameters.since) ? parameters.since : FIRST_RANGE;
    this.topic = parameters.topic ?? null;
  }

  // Shows another stretch of time in place.
  follow(parameters) {
    if (parameters.name !== this.name) return false;
    this.read(parameters);
    this.showRange();
    this.past.range = this.range;
    this.past.load();
    this.contents[0].follow(this.range, this.topic);
    return true;
  }

  showRange() {
    this.ranges.choose(this.range, (since) => this.address({ since }));
  }

  address(changes) {
    return hashOf(this.name, { since: this.range, topic: this.topic, ...changes });
  }

  // A chosen topic is in the address, so that the link shows the same; nothing else changes.
  choose(topic) {
    this.topic = topic;
    history.replaceState(null, "", this.address({}));
    this.showRange();
  }

  head() {
    this.title = this.name;
    const title = element("h2", "", "title");
    this.state = element("span", "", "state");
    title.append(element("span", this.name), " ", this.state);
    this.sentence = element("p", "", "sentence");
    this.silenced = element("p", "", "note");
    this.relations = element("p", "", "relations");
    this.bar = new CommandBar(this.source, this.name);
    this.root.append(link("#/", "All devices", "back"), title, this.sentence, this.silenced, this.relations);
  }

  // What changes by itself is not among the events: the rhythm and the past.
  async ask(isLast) {
    try {
      const device = await this.source.get(pathOf(this.name));
      if (!isLast()) return true;
      this.device = device;
      this.isUnknown = false;
      this.update();
      this.past.load();
      this.question.soon(AGAIN_MS);
      return true;
    } catch (error) {
      if (!isLast()) return true;
      this.isUnknown = error.status === 404;
      this.problem = error.message;
      this.past.say(error.message);
      this.update();
      return !isPassing(error);
    }
  }

  update(changes) {
    const live = this.source.devices.get(this.name);
    // The list may come before or after the answer about this one alone, which also has the rhythm.
    const device = live ? { ...this.device, ...live } : this.device;
    const known = device !== undefined && !this.isUnknown;
    if (changes?.tick) {
      this.question.beat();
      this.past.question.beat();
    }
    for (const part of this.parts) part.classList.toggle("absent", !known);
    this.unknown.hidden = known;
    if (!known) {
      setText(this.unknown, this.isUnknown
        ? `No device or agent has the name ${this.name}. It may have left the configuration, or the link is wrong.`
        : this.problem ?? "asking …");
      // It may be in the configuration now, if the list is newer than the refusal.
      if (live && this.isUnknown && (changes?.devices || changes?.names.has(this.name))) this.question.ask();
      return;
    }
    this.showHead(device);
    setText(this.rhythmText, rhythmWords(device, this.device?.rhythm));
    this.showProcess(device);
    this.bar.update(device);
    this.contents.forEach((it) => it.update());
    // A change of state begins or ends an incident.
    const mark = [device.state, device.reason, device.since, device.agent?.restarts].join();
    if (this.mark !== undefined && this.mark !== mark) this.question.ask();
    this.mark = mark;
  }

  showHead(device) {
    this.shown = device;
    const [words, tone] = verdictOf(device, this.source.devices);
    setText(this.state, words);
    this.state.className = `state ${tone}`;
    setText(this.sentence, sentenceOf(device));
    const silenced = silencedWords(device);
    this.silenced.hidden = !silenced;
    setText(this.silenced, silenced ? `Its alerts are ${silenced}.` : "");
    this.showRelations(device);
  }

  // Made anew only when it changes, so that a link that has the focus keeps it.
  showRelations(device) {
    const above = device.dependsOn ?? [];
    const below = [...this.source.devices.values()].filter((it) => it.dependsOn?.includes(this.name))
      .map((it) => it.name).sort(compareNames);
    const mark = JSON.stringify([device.kind, device.area, device.fleet, above, below]);
    if (mark === this.relationsMark) return;
    this.relationsMark = mark;
    const parts = [device.kind === "agent" ? "Agent" : "Device",
      device.area ? ` in ${device.area}` : "", device.fleet ? `, of the fleet ${device.fleet}` : ""];
    const add = (words, names) => {
      if (names.length === 0) return;
      parts.push(words);
      names.slice(0, CHILDREN).forEach((name, index) => parts.push(index ? ", " : "", nameLink(name)));
      if (names.length > CHILDREN) parts.push(`, and ${names.length - CHILDREN} more`);
    };
    add(". It depends on ", above);
    add(`. ${counted(below.length, "device")} behind it: `, below);
    this.relations.replaceChildren(...parts, ".");
  }

  showProcess(device) {
    const { agent } = device;
    this.process.node.hidden = !agent;
    if (!agent) return;
    const last = agent.lastExit ? `${agent.lastExit}${agent.lastExitAt ? `, ${ago(agent.lastExitAt)}` : ""}` : "none seen";
    const next = agent.nextStart ? clockTime(agent.nextStart) : null;
    const facts = [["Unit", agent.unit], ["systemd says", agent.state],
      ["PID", agent.mainPid ? String(agent.mainPid) : "–"], ["Last exit", last],
      ...(next ? [["Next try", next]] : []), ["Restarts in all", String(agent.restarts)]];
    const mark = facts.map(([title]) => title).join();
    if (mark !== this.processMark) {
      this.processMark = mark;
      const list = element("dl", "", "facts");
      for (const [title] of facts) list.append(element("dt", title), element("dd"));
      this.process.body.replaceChildren(list);
    }
    const values = this.process.body.querySelectorAll("dd");
    facts.forEach(([, value], index) => setText(values[index], value));
  }

  // The words that change by themselves.
  tick() {
    if (!this.shown || this.isUnknown) return;
    setText(this.sentence, sentenceOf(this.shown));
    this.showProcess(this.shown);
  }

  close() {
    clearInterval(this.timer);
    this.question.close();
    this.past.close();
    this.contents.forEach((it) => it.close());
  }
}

export function open(root, parameters, source) {
  return new DeviceView(root, parameters.name, parameters, source);
}
