// Devices, agents and the alerts of the last day.

import {
  ago, clockTime, compareNames, element, rankOf, deviceLink, setText, silencedWords, span, verdictOf,
} from "./format.js";
import { openList } from "./alerts.js";

const SHOWN = 500; // rows of a table; more are found by name

const contact = (device) => device.lastContact === null ? "never" : ago(device.lastContact);
const timeout = (device) => device.watchTimeOut > 0 ? span(device.watchTimeOut) : "none";
const COMMON = [["Last contact", contact], ["Timeout", timeout]];
const COLUMNS = {
  devices: [...COMMON, ["Hellos", (it) => String(it.hellos)]],
  agents: [...COMMON, ["Unit", (it) => it.agent.state],
    ["PID", (it) => it.agent.mainPid === 0 ? "–" : String(it.agent.mainPid)],
    ["Restarts", (it) => String(it.agent.restarts)]],
};

// A row is made once, so that what is selected or read out stays.
class Table {
  constructor(root, id, title, source) {
    this.source = source;
    this.columns = COLUMNS[id];
    this.rows = new Map();
    this.section = element("section");
    this.section.id = id;
    const heading = element("h2", `${title} `);
    this.count = element("span", "", "count");
    heading.append(this.count);
    const head = element("tr");
    for (const label of ["Name", "State", ...this.columns.map(([it]) => it)]) {
      const cell = element("th", label);
      cell.scope = "col";
      head.append(cell);
    }
    this.table = element("table");
    this.table.createTHead().append(head);
    this.body = this.table.createTBody();
    this.note = element("p", "", "note");
    this.section.append(heading, this.table, this.note);
    root.append(this.section);
  }

  show(list, wanted) {
    const found = wanted ? list.filter((it) => it.name.toLowerCase().includes(wanted)) : list;
    found.sort((a, b) => rankOf(a) - rankOf(b) || compareNames(a.name, b.name));
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
    setText(this.count, String(list.length));
    const rest = found.length - shown.length;
    this.note.hidden = rest === 0 && found.length > 0;
    const nothing = list.length === 0 ? "None is configured." : "None has a name like this.";
    setText(this.note, rest > 0 ? `${rest} more: find them by name.` : nothing);
    this.table.hidden = found.length === 0;
  }

  make(name) {
    const row = element("tr");
    const heading = element("th");
    heading.scope = "row";
    const link = element("a", name);
    link.href = deviceLink(name);
    heading.append(link);
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
    const [words, tone] = verdictOf(device, this.source.devices);
    const quiet = silencedWords(device);
    const state = row.children[1].firstChild;
    setText(state, quiet ? `${words}, ${quiet}` : words);
    state.className = `state ${tone}`;
    row.dataset.state = device.state;
    state.title = `since ${clockTime(device.since)}`;
    this.columns.forEach(([, value], index) => setText(row.children[index + 2], value(device)));
  }

  tick() {
    for (const [name, row] of this.rows) {
      const device = this.source.devices.get(name);
      if (device) this.fill(row, device);
    }
  }
}

export function open(root, parameters, source) {
  const search = element("p");
  search.id = "search";
  const label = element("label", "Find ");
  const filter = element("input");
  filter.type = "search";
  filter.id = "filter";
  filter.autocomplete = "off";
  label.append(filter);
  search.append(label);
  root.append(search);
  const devices = new Table(root, "devices", "Devices", source);
  const agents = new Table(root, "agents", "Agents", source);
  const list = openList(root, source);
  const show = () => {
    const all = [...source.devices.values()];
    const wanted = filter.value.trim().toLowerCase();
    devices.show(all.filter((it) => !it.agent), wanted);
    const running = all.filter((it) => it.agent);
    agents.show(running, wanted);
    agents.section.hidden = running.length === 0;
    search.hidden = all.length <= 10 && wanted === "";
  };
  filter.addEventListener("input", show);
  show();
  return {
    update(changes) {
      if (changes.devices || changes.names.size > 0) show();
      else if (changes.tick) [devices, agents].forEach((table) => table.tick());
      if (changes.alerts) list.update(changes);
    },
    close() {},
  };
}
