// Alerts and incidents to read: `#/alerts`, with the parameters `show` (`alerts` or `incidents`), `priority`,
// `device` and `since`, so that what is filtered can be shared.

import { momentOf } from "./charts.js";
import { button, Commands, HOW_TO_SET_A_TOKEN } from "./commands.js";
import { counted, element, now, setText, span } from "./format.js";
import { choices, link, nameLink, section, tableOf } from "./parts.js";
import { isPassing, Question } from "./question.js";
import { AlertList, keyOf, openList, RANK } from "./rows.js";
import { endingWords, shortReason } from "./words.js";

export { openList };

const PAGE = 200; // alerts that are asked for at a time
const NAMES = 1_000; // that are proposed
const AGAIN_MS = 1_000;
const PARALLEL = 4; // acknowledgements under way
const KINDS = [["alerts", "Alerts"], ["incidents", "Incidents"]];
const PRIORITIES = [["", "All"], ["notice", "Notices and worse"], ["warning", "Warnings and worse"],
  ["error", "Errors"]];
const SPANS = [["1h", "1 hour"], ["1d", "1 day"], ["7d", "7 days"], ["30d", "30 days"], ["90d", "90 days"],
  ["400d", "400 days"]];
const LENGTHS = { h: 3600, d: 24 * 3600 };
const FIRST = { show: "alerts", priority: "", device: "", since: "7d" };

const lengthOf = (since) => Number.parseInt(since, 10) * LENGTHS[since.at(-1)];

export const hashOf = (parameters = {}) => {
  const query = new URLSearchParams(Object.entries(parameters).filter(([key, value]) => value !== FIRST[key])).toString();
  return `#/alerts${query ? `?${query}` : ""}`;
};

class AlertsView {
  constructor(root, parameters, source) {
    const view = Object.assign(this, { root, source, commands: new Commands(source) });
    this.title = "Alerts";
    this.alerts = new Map();
    this.question = new Question((isLast) => this.load(isLast));
    this.shown = new AlertList({
      get possible() { return view.commands.possible; },
      knows: (name) => name !== undefined && source.devices.has(name),
      acknowledge: (pressed, alerts) => this.acknowledge(pressed, alerts),
      silence: (pressed, name) => this.commands.silence(pressed, name),
    });
    // Those that are older than a day are not among the alerts of the source.
    this.unsubscribe = source.on(({ acknowledged }) => {
      const known = acknowledged && [...this.alerts.values()].find(({ id }) => id === acknowledged.id);
      if (known) this.take([{ ...known, ...acknowledged }]);
    });
    root.classList.add("alerts-view");
    this.list = section("");
    this.nothing = element("p", "", "note");
    this.more = button("Show older ones", () => this.older());
    this.more.hidden = true;
    this.list.node.append(this.nothing, this.more);
    this.incidents = element("div");
    this.list.body.append(this.shown.node, this.incidents);
    root.append(this.head(), this.form(), this.commandBar(), this.list.node);
    this.follow(parameters);
  }

  // Shows what another address names in place, so that the focus stays where it is.
  follow(parameters) {
    this.filter = {
      show: parameters.show === "incidents" ? "incidents" : "alerts",
      priority: PRIORITIES.some(([it]) => it === parameters.priority) ? parameters.priority : "",
      device: parameters.device ?? "",
      since: SPANS.some(([it]) => it === parameters.since) ? parameters.since : FIRST.since,
    };
    this.kinds.choose(this.filter.show, (show) => hashOf({ ...this.filter, show }));
    for (const [key, control] of Object.entries(this.controls)) control.value = this.filter[key];
    const isAlerts = this.filter.show === "alerts";
    this.controls.priority.parentElement.hidden = !isAlerts;
    this.incidents.hidden = isAlerts;
    this.alerts.clear();
    this.shown.show([]);
    this.list.count(null);
    setText(this.list.heading.firstChild, isAlerts ? "Alerts " : "Incidents ");
    setText(this.nothing, "asking …");
    this.commands.say("");
    this.isWhole = undefined;
    this.more.hidden = true;
    this.question.ask();
    this.offer();
    return true;
  }

  head() {
    this.kinds = choices("What is shown", KINDS);
    const head = element("div", "", "head");
    head.append(element("h2", "Alerts and incidents", "title"), this.kinds.node);
    return head;
  }

  // Whoever changes the filter gets another address, so that "back" leads to the one before.
  form() {
    const form = element("form", "", "filters");
    form.setAttribute("role", "search");
    const device = element("input");
    this.controls = { priority: selectOf(PRIORITIES), since: selectOf(SPANS), device };
    for (const key of ["priority", "since"]) {
      this.controls[key].addEventListener("change", (event) => this.change({ [key]: event.target.value }));
    }
    device.type = "search";
    device.setAttribute("list", "names");
    device.autocomplete = "off";
    device.spellcheck = false;
    device.addEventListener("focus", () => names.replaceChildren(
      ...[...this.source.devices.keys()].slice(0, NAMES).map((name) => optionOf(name, ""))));
    device.addEventListener("change", () => this.change({ device: device.value.trim() }));
    const names = element("datalist");
    names.id = "names";
    form.append(labelled("Severity", this.controls.priority), labelled("Time", this.controls.since),
      labelled("Device", device), names);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.change({ device: device.value.trim() });
    });
    return form;
  }

  change(changes) {
    const wanted = hashOf({ ...this.filter, ...changes });
    if (wanted !== hashOf(this.filter)) location.hash = wanted;
  }

  commandBar() {
    const bar = element("section", "", "commands");
    bar.setAttribute("aria-label", "Commands");
    this.acknowledgeAll = button("Acknowledge all of these", (event) => this.acknowledge(
      event.currentTarget, [...this.alerts.values()]));
    this.silence = button("Silence all alerts …", (event) => this.commands.silence(event.currentTarget));
    this.unsilence = button("Unsilence all alerts", (event) => this.commands.unsilence(event.currentTarget));
    this.test = button("Send a test alert", (event) => this.commands.test(event.currentTarget));
    this.buttons = element("p", "", "buttons");
    this.buttons.append(this.acknowledgeAll, this.silence, this.unsilence, this.test);
    this.hint = element("p", HOW_TO_SET_A_TOKEN, "note");
    bar.append(this.buttons, this.hint, this.commands.said);
    return bar;
  }

  get query() {
    const { priority, device, since } = this.filter;
    return new URLSearchParams({ since, ...(device && { device }), ...(priority && { priority }) });
  }

  async load(isLast) {
    const { show } = this.filter;
    try {
      if (show === "incidents") {
        const { since, device } = this.filter;
        const incidents = await this.source.get(`api/v1/incidents?${new URLSearchParams({ since, ...(device && { device }) })}`);
        if (isLast()) this.showIncidents(incidents);
      } else {
        const query = this.query;
        query.set("limit", PAGE);
        const page = await this.source.get(`api/v1/alerts?${query}`);
        if (!isLast()) return true;
        this.take(page);
        this.isWhole ??= page.length < PAGE;
        this.takeLive();
      }
      return true;
    } catch (error) {
      if (isLast()) setText(this.nothing, error.message);
      return !isPassing(error);
    }
  }

  async older() {
    const query = this.query;
    query.set("limit", PAGE);
    query.set("before", Math.min(...this.ids()));
    this.more.disabled = true;
    try {
      const page = await this.source.get(`api/v1/alerts?${query}`);
      if (this.closed) return;
      this.take(page);
      this.isWhole = page.length < PAGE;
      this.showAlerts();
    } catch (error) {
      this.commands.say(error.message, true);
    }
    this.more.disabled = false;
  }

  take(alerts) {
    for (const alert of alerts) {
      // One that came before it had a number is the same.
      const unnumbered = keyOf({ ...alert, id: undefined });
      if (alert.id === undefined && [...this.alerts.values()].some((it) => unnumbered === keyOf({ ...it, id: undefined }))) {
        continue;
      }
      if (alert.id !== undefined) this.alerts.delete(unnumbered);
      const key = keyOf(alert);
      this.alerts.set(key, { ...this.alerts.get(key), ...alert });
    }
  }

  matches(alert) {
    const { priority, device } = this.filter;
    return (!priority || RANK[alert.priority] <= RANK[priority]) && (!device || alert.device === device);
  }

  // The list of the last day is kept current by the source. What is older than the loaded alerts is left to the
  // button, so that no gap is between them.
  takeLive() {
    if (this.isWhole === undefined) return;
    const oldest = this.isWhole ? -Infinity : Math.min(...this.ids());
    this.take(this.source.alerts.filter((alert) => this.matches(alert) && (alert.id ?? Infinity) > oldest));
    this.showAlerts();
  }

  ids() {
    return [...this.alerts.values()].map((alert) => alert.id).filter((id) => id !== undefined);
  }

  showAlerts() {
    const oldest = now() - lengthOf(this.filter.since);
    for (const [key, { time }] of this.alerts) {
      if (time >= oldest) continue;
      this.alerts.delete(key);
      this.isWhole = true; // what is older still is not to be shown
    }
    const all = [...this.alerts.values()]
      .sort((a, b) => (b.id ?? Infinity) - (a.id ?? Infinity) || b.time - a.time);
    const rows = this.shown.show(all);
    this.list.count(all.length);
    this.more.hidden = this.isWhole !== false;
    setText(this.list.heading.firstChild, this.isWhole === false ? "The latest alerts " : "Alerts ");
    setText(this.nothing, rows > 0 ? "" : "There is no such alert.");
    this.offer();
  }

  showIncidents(incidents) {
    this.list.count(incidents.length);
    setText(this.list.heading.firstChild, "Incidents ");
    setText(this.nothing, incidents.length > 0 ? "" : "No device or agent had an incident.");
    this.incidents.replaceChildren();
    if (incidents.length === 0) return;
    this.incidents.append(tableOf("Incidents", ["Device", "Began", "Lasted", "Reason", "What ended it"],
      incidents.map((it) => [nameLink(it.device), momentOf(it.begin), span(it.seconds), shortReason(it),
        endingWords(it)])));
  }

  // Marks alerts as seen by a person, in every open page.
  async acknowledge(pressed, alerts) {
    const open = alerts.filter((alert) => !alert.acknowledged && alert.id !== undefined);
    await this.commands.run(pressed, async () => {
      const waiting = open.slice();
      const work = async () => {
        for (let alert = waiting.shift(); alert; alert = waiting.shift()) {
          await this.source.post(`api/v1/alerts/${alert.id}/acknowledge`);
          this.take([{ ...alert, acknowledged: Math.floor(now()) }]);
        }
      };
      await Promise.all(Array.from({ length: PARALLEL }, work));
    }, open.length === 1 ? "The alert is acknowledged." : `${counted(open.length, "alert")} are acknowledged.`);
    this.showAlerts();
  }

  update(changes) {
    if (this.filter.show === "alerts" && changes.alerts) this.takeLive();
    else if (changes.status || changes.devices) this.offer();
    // An alert may begin or end an incident; many come together.
    if (this.filter.show === "incidents" && changes.alerts) {
      this.question.soon(AGAIN_MS);
    }
    if (changes.tick) this.question.beat();
  }

  // The buttons for what is possible now.
  offer() {
    const { possible } = this.commands;
    this.buttons.hidden = !possible;
    this.hint.hidden = possible || !this.source.status;
    this.acknowledgeAll.hidden = ![...this.alerts.values()].some((alert) => !alert.acknowledged);
    this.silence.hidden = this.source.status?.silenced === true;
    this.unsilence.hidden = !this.silence.hidden;
    this.shown.update();
  }

  close() {
    this.closed = true;
    this.unsubscribe();
    this.question.close();
  }
}

function optionOf(value, words) {
  const option = element("option", words);
  option.value = value;
  return option;
}

function selectOf(items) {
  const select = element("select");
  select.append(...items.map(([value, words]) => optionOf(value, words)));
  return select;
}

function labelled(title, control) {
  const label = element("label", `${title} `);
  label.append(control);
  return label;
}

export function open(root, parameters, source) {
  return new AlertsView(root, parameters, source);
}
