// How a device and the heading of a group are drawn in the overview.

import { Bar, uptimeWords } from "./bars.js";
import {
  ago, clockTime, counted, deviceLink, element, formatNumber, setAttribute, setText, silencedWords, verdictOf,
} from "./format.js";

export const COLUMNS = [["Name", "name"], ["State", "verdict"], ["Last 30 days", "month"], ["Uptime", "uptime"],
  ["Last 24 hours", "day"], ["Last contact", "contact"]];

function cell(className, role = "cell") {
  const made = element("div", "", className);
  made.setAttribute("role", role);
  return made;
}

export class Rows {
  // `toggle(key)` opens or folds a group or a gateway.
  constructor(source, pasts, toggle) {
    Object.assign(this, { source, pasts, toggle });
  }

  draw(item, node) {
    if (item.heading !== undefined) return this.#drawHeading(item, node ?? this.#makeHeading(item));
    return this.#drawRow(item, node ?? this.#makeRow(item));
  }

  #made(item, className) {
    const node = cell(`row ${className}`, "row");
    node.dataset.key = item.key;
    return node;
  }

  #makeHeading(item) {
    const node = this.#made(item, "group");
    const title = cell("heading", "rowheader");
    title.setAttribute("aria-colspan", String(COLUMNS.length));
    node.button = element("button", "", "fold");
    node.button.type = "button";
    node.button.addEventListener("click", () => this.toggle(item.key));
    node.count = element("span", "", "count");
    node.alarms = element("span", "", "alarms");
    title.append(node.button, node.count, node.alarms);
    node.append(title);
    return node;
  }

  #drawHeading(item, node) {
    setText(node.button, item.heading);
    setAttribute(node.button, "aria-expanded", String(item.isOpen));
    setText(node.count, formatNumber(item.count));
    setText(node.alarms, item.alarms > 0 ? `${formatNumber(item.alarms)} in alarm` : "");
    return node;
  }

  #makeRow(item) {
    const node = this.#made(item, "device");
    node.dataset.name = item.name;
    const name = cell("name", "rowheader");
    node.fold = element("button", "", "fold");
    node.fold.type = "button";
    node.fold.addEventListener("click", () => this.toggle(item.name));
    node.link = element("a", item.name);
    node.link.href = deviceLink(item.name);
    node.tag = element("span", "", "tag");
    name.append(node.fold, node.link, node.tag);
    const verdict = cell("verdict");
    node.state = element("span", "", "state");
    node.quiet = element("span", "", "quiet");
    verdict.append(node.state, node.quiet);
    node.bars = [new Bar("day"), new Bar("hour")];
    const [month, day] = [cell("month"), cell("day")];
    month.append(node.bars[0].node);
    day.append(node.bars[1].node);
    [node.uptime, node.contact] = [cell("uptime"), cell("contact")];
    node.append(name, verdict, month, node.uptime, day, node.contact);
    return node;
  }

  #drawRow(item, node) {
    const device = this.source.devices.get(item.name);
    if (!device) return node;
    const [words, tone] = verdictOf(device, this.source.devices);
    const quiet = silencedWords(device);
    setAttribute(node, "data-state", device.state);
    setAttribute(node, "data-depth", String(Math.min(item.depth, 3)));
    setText(node.state, words);
    setAttribute(node.state, "class", `state ${tone}`);
    setAttribute(node.state, "title", `since ${clockTime(device.since)}`);
    setText(node.quiet, quiet);
    setText(node.tag, device.agent ? "agent" : "");
    const isGateway = item.below > 0;
    if (node.fold.hidden === isGateway) node.fold.hidden = !isGateway;
    if (isGateway) {
      setText(node.fold, formatNumber(item.below));
      setAttribute(node.fold, "aria-expanded", String(item.isOpen));
      setAttribute(node.fold, "aria-label", `${counted(item.below, "device")} behind ${item.name}`);
    }
    const past = this.pasts.get(item.name);
    for (const bar of node.bars) bar.show(item.name, past);
    setText(node.uptime, uptimeWords(past));
    setText(node.contact, device.lastContact === null ? "never" : ago(device.lastContact));
    return node;
  }
}
