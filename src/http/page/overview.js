// All devices and agents, with their past as bars. What is in alarm comes first, and only what is in
// sight is drawn.

import { Pasts, Tip } from "./bars.js";
import { element, formatNumber, setAttribute, setText, steady } from "./format.js";
import { Order, STATES } from "./groups.js";
import { COLUMNS, Rows } from "./devices.js";
import { openList } from "./rows.js";
import { WindowedList } from "./window.js";

const GROUPINGS = [["area", "Area"], ["gateway", "Gateway"], ["flat", "None"]];
const REMEMBERED = "iotmonitor-grouping";
const NARROW = matchMedia("(max-width: 56rem)");
const LATEST_UP_TO = 200; // devices; below a longer list nobody would find the latest alerts
const BUSY_MS = 500; // between two arrangements of a long list …
const LONG = 2_000; // … of so many
const PAGE_ROWS = 10;

// What a person has chosen stays when another view is shown in between.
const chosen = { text: "", state: "all", grouping: null, folded: new Set(), opened: new Set(), scroll: 0 };

function remembered() {
  try {
    return localStorage.getItem(REMEMBERED);
  } catch {
    return null; // storage is forbidden
  }
}

function remember(grouping) {
  try {
    localStorage.setItem(REMEMBERED, grouping);
  } catch {
    // It holds until the page is closed.
  }
}

class Overview {
  constructor(root, source) {
    this.source = source;
    this.order = new Order();
    this.pasts = new Pasts(source, () => this.list.render());
    this.arrangedAt = -Infinity;
    this.isOld = true;
    this.nodes = this.#make(root);
    this.rows = new Rows(source, this.pasts, (key) => this.#toggle(key));
    this.list = new WindowedList(this.nodes.body, {
      heightOf: (item) => this.#heightOf(item),
      draw: (item, node) => this.rows.draw(item, node),
      onSight: () => this.#inSight(),
    });
    this.tip = new Tip(root);
    this.resized = () => this.list.measureAgain();
    NARROW.addEventListener("change", this.resized);
    this.pressed = (event) => this.#findKey(event);
    addEventListener("keydown", this.pressed);
    this.#arrange();
    this.#showLatest();
    if (chosen.scroll > 0) requestAnimationFrame(() => scrollTo(0, chosen.scroll));
  }

  update(changes) {
    for (const name of changes.names) this.pasts.changed(name);
    if (changes.devices || changes.names.size > 0) this.isOld = true;
    const isPaced = this.source.devices.size > LONG && steady() - this.arrangedAt < BUSY_MS;
    if (this.isOld && !isPaced) this.#arrange();
    else if (changes.tick || changes.names.size > 0 || changes.devices) this.list.render();
    if (changes.alerts || changes.status) this.#showLatest();
  }

  close() {
    chosen.scroll = scrollY;
    this.list.close();
    this.tip.close();
    NARROW.removeEventListener("change", this.resized);
    removeEventListener("keydown", this.pressed);
  }

  // The heights are those that style.css gives.
  #heightOf(item) {
    if (item.heading !== undefined) return 40;
    return NARROW.matches ? 88 : 44;
  }

  #make(root) {
    const tools = element("div", "", "tools");
    const filter = element("input");
    filter.type = "search";
    filter.id = "filter";
    filter.placeholder = "Find by name or area";
    filter.setAttribute("aria-label", "Find by name or area");
    filter.autocomplete = "off";
    filter.spellcheck = false;
    filter.value = chosen.text;
    filter.addEventListener("input", () => this.#choose({ text: filter.value.trim() }));
    const states = this.#choices("State", STATES.map(([key, label]) => [key, label]), "state");
    const groupings = this.#choices("Group by", GROUPINGS, "grouping");
    tools.append(filter, states.node, groupings.node);

    const table = element("div", "", "devices");
    table.id = "devices";
    table.setAttribute("role", "table");
    table.setAttribute("aria-label", "Devices and agents");
    table.setAttribute("aria-colcount", String(COLUMNS.length));
    const headings = element("div", "", "row headings");
    headings.setAttribute("role", "row");
    headings.setAttribute("aria-rowindex", "1");
    const head = element("div");
    head.setAttribute("role", "rowgroup");
    head.className = "head";
    for (const [label, className] of COLUMNS) {
      const heading = element("div", label, className);
      heading.setAttribute("role", "columnheader");
      headings.append(heading);
    }
    head.append(headings);
    const body = element("div", "", "body");
    body.setAttribute("role", "rowgroup");
    body.addEventListener("keydown", (event) => this.#moveKey(event));
    table.append(head, body);
    const note = element("p", "", "note");
    note.id = "note";
    note.setAttribute("role", "status");

    const latest = element("div");
    root.append(element("h2", "Devices and agents", "unseen"), tools, note, table, latest);
    return { tools, filter, states, groupings, table, body, note, latest };
  }

  // Buttons of which one is chosen.
  #choices(label, entries, key) {
    const node = element("div", "", `choices of-${key}`);
    node.setAttribute("role", "group");
    node.setAttribute("aria-label", label);
    if (key === "grouping") node.append(element("span", label, "label"));
    const buttons = new Map();
    for (const [value, text] of entries) {
      const button = element("button");
      button.type = "button";
      button.dataset.value = value;
      button.append(element("span", text), element("span", "", "count"));
      button.addEventListener("click", () => {
        if (key === "grouping") remember(value);
        this.#choose({ [key]: value });
      });
      buttons.set(value, button);
      node.append(button);
    }
    return { node, buttons };
  }

  #choose(choice) {
    Object.assign(chosen, choice);
    this.#arrange();
  }

  #toggle(key) {
    const set = key.startsWith("area ") ? chosen.folded : chosen.opened;
    if (!set.delete(key)) set.add(key);
    this.#arrange();
  }

  #grouping() {
    const devices = [...this.source.devices.values()];
    const possible = {
      area: devices.some(({ area }) => area),
      gateway: devices.some(({ dependsOn }) => dependsOn?.length > 0),
      flat: true,
    };
    const wanted = chosen.grouping ?? remembered();
    const grouping = possible[wanted] ? wanted : GROUPINGS.find(([key]) => possible[key])[0];
    this.nodes.groupings.node.hidden = !possible.area && !possible.gateway;
    for (const [key, button] of this.nodes.groupings.buttons) {
      button.hidden = !possible[key];
      setAttribute(button, "aria-pressed", String(key === grouping));
    }
    return grouping;
  }

  #arrange() {
    this.isOld = false;
    this.arrangedAt = steady();
    const { devices, isLoaded } = this.source;
    const { counts, found, items } = this.order.arrange(devices, { ...chosen, grouping: this.#grouping() });
    for (const [key, button] of this.nodes.states.buttons) {
      setText(button.lastChild, formatNumber(counts[key]));
      button.hidden = counts[key] === 0 && !["all", "alarm", chosen.state].includes(key);
      setAttribute(button, "aria-pressed", String(key === chosen.state));
    }
    this.nodes.tools.hidden = devices.size === 0;
    this.nodes.table.hidden = found === 0;
    const nothing = devices.size === 0 ? "No device and no agent is configured." : "Nothing here is like this.";
    setText(this.nodes.note, isLoaded && found === 0 ? nothing : "");
    setAttribute(this.nodes.table, "aria-rowcount", String(items.length + 1));
    this.list.show(items);
  }

  #inSight() {
    if (document.hidden) return;
    const names = this.list.inSight().filter((item) => item.name !== undefined).map(({ name }) => name);
    this.pasts.want(names);
  }

  #showLatest() {
    this.nodes.latest.hidden = this.source.devices.size > LATEST_UP_TO;
    if (this.nodes.latest.hidden) return;
    if (this.latest) this.latest.update();
    else this.latest = openList(this.nodes.latest, this.source);
  }

  // The browser's own search finds only what is drawn: the first Ctrl-F is the filter's.
  #findKey(event) {
    const isFind = (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey && event.key === "f";
    if (!isFind || document.activeElement === this.nodes.filter) return;
    event.preventDefault();
    this.nodes.filter.focus();
    this.nodes.filter.select();
  }

  // From row to row.
  #moveKey(event) {
    const node = event.target.closest("[data-key]");
    const isBar = event.target.closest(".bar") !== null;
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: PAGE_ROWS, PageUp: -PAGE_ROWS };
    if (!isBar) Object.assign(steps, { Home: -Infinity, End: Infinity });
    if (!node || !(event.key in steps) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const last = this.list.items.length - 1;
    const place = this.list.places.get(node.dataset.key) + steps[event.key];
    const next = this.list.reveal(Math.max(0, Math.min(last, place)));
    const same = isBar ? next.querySelector(`.${event.target.bar.unit}s`) : null;
    (same ?? next.link ?? next.button).focus({ preventScroll: true });
  }
}

export const open = (root, parameters, source) => new Overview(root, source);
