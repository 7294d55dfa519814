// Which devices are shown, and in what order: found by text and state, grouped by area or below their
// gateways, alarms first.

import { compareNames, rankOf } from "./format.js";

export const STATES = [
  ["all", "All", () => true],
  ["alarm", "In alarm", (rank) => rank <= 1],
  ["waiting", "Not heard yet", (rank) => rank === 2],
  ["fine", "Fine", (rank) => rank === 3],
  ["disabled", "Disabled", (rank) => rank === 4],
];

export class Order {
  constructor() {
    this.sorted = [];
    this.known = new Set();
    this.words = new Map(); // what is searched of a device
  }

  // The devices by name; sorted anew only when names have come or gone.
  byName(devices) {
    const isSame = devices.size === this.known.size && [...devices.keys()].every((name) => this.known.has(name));
    if (!isSame) {
      this.sorted = [...devices.keys()].sort(compareNames);
      this.known = new Set(this.sorted);
      this.words.clear();
    }
    return this.sorted.map((name) => devices.get(name));
  }

  // Whether each word is in its name, area, fleet, kind or gateway.
  #matches(device, words) {
    let text = this.words.get(device.name);
    if (text === undefined) {
      const parts = [device.name, device.area, device.fleet, device.kind, ...(device.dependsOn ?? [])];
      text = parts.filter(Boolean).join("\n").toLowerCase();
      this.words.set(device.name, text);
    }
    return words.every((word) => text.includes(word));
  }

  // How many there are of each state, and the items to show: rows, and headings of groups.
  arrange(devices, { text, state, grouping, folded, opened }) {
    const all = this.byName(devices);
    const words = text.toLowerCase().split(/\s+/).filter(Boolean);
    const [, , hasState] = STATES.find(([key]) => key === state) ?? STATES[0];
    const counts = Object.fromEntries(STATES.map(([key]) => [key, 0]));
    const found = [];
    for (const device of all) {
      const rank = rankOf(device);
      for (const [key, , holds] of STATES) if (holds(rank)) counts[key] += 1;
      if (hasState(rank) && (words.length === 0 || this.#matches(device, words))) found.push(device);
    }
    const isSearch = words.length > 0 || state !== "all";
    const shape = { area: byArea, gateway: byGateway }[grouping] ?? flat;
    return { counts, found: found.length, items: shape(found, { isSearch, folded, opened, devices }) };
  }
}

const row = (device, extra = {}) => ({ key: `device ${device.name}`, name: device.name, depth: 0, ...extra });

// A stable order by rank: within one, names stay in theirs.
function byRank(list) {
  const ranks = [[], [], [], [], []];
  for (const device of list) ranks[rankOf(device)].push(device);
  return ranks.flat();
}

const flat = (found) => byRank(found).map((device) => row(device));

function byArea(found, { isSearch, folded }) {
  const areas = new Map();
  for (const device of found) {
    const area = device.area ?? "";
    if (!areas.has(area)) areas.set(area, []);
    areas.get(area).push(device);
  }
  const groups = [...areas].map(([area, list]) => ({
    area, list: byRank(list), alarms: list.filter((it) => rankOf(it) <= 1).length,
  }));
  // Groups with alarms come first, and those without an area last.
  groups.sort((a, b) => (b.alarms > 0) - (a.alarms > 0) || (a.area === "") - (b.area === "")
    || compareNames(a.area, b.area));
  return groups.flatMap(({ area, list, alarms }) => {
    const key = `area ${area}`;
    const isOpen = isSearch || !folded.has(key);
    const heading = { key, heading: area || "Without an area", count: list.length, alarms, isOpen };
    return [heading, ...(isOpen ? list.map((device) => row(device)) : [])];
  });
}

// Below each gateway what depends on it, folded until it is opened; its alarms of their own are always shown.
function byGateway(found, { isSearch, opened, devices }) {
  const isFound = new Set(found.map(({ name }) => name));
  const children = new Map();
  const roots = [];
  for (const device of devices.values()) {
    const gateway = device.dependsOn?.find((name) => devices.has(name) && name !== device.name);
    if (gateway === undefined) continue;
    if (!children.has(gateway)) children.set(gateway, []);
    children.get(gateway).push(device);
  }
  const seen = new Set(); // a circle would have no end
  const tree = (device) => {
    seen.add(device.name);
    const below = (children.get(device.name) ?? []).filter(({ name }) => !seen.has(name)).map(tree);
    const isShown = isFound.has(device.name) || below.some((it) => it.isShown);
    const own = rankOf(device) === 0 ? 1 : 0;
    const sum = (key) => below.reduce((all, it) => all + it[key], 0);
    return { device, below, isShown, own, alarms: own + sum("alarms"), size: 1 + sum("size") };
  };
  const isChild = new Set([...children.values()].flat().map(({ name }) => name));
  const names = [...devices.values()].filter(({ name }) => !isChild.has(name));
  for (const device of names) roots.push(tree(device));
  const items = [];
  const show = (node, depth) => {
    const { device, below, size } = node;
    const isOpen = isSearch || opened.has(device.name);
    items.push(row(device, below.length > 0 ? { depth, below: size - 1, isOpen } : { depth }));
    const wanted = sorted(below.filter((it) => it.isShown && (isOpen || it.alarms > 0)));
    for (const it of wanted) show(it, depth + 1);
  };
  for (const node of sorted(roots.filter((it) => it.isShown))) show(node, 0);
  return items;
}

// By name, with what is in alarm or has an alarm below it first.
function sorted(nodes) {
  const rank = ({ alarms, device }) => alarms > 0 ? 0 : rankOf(device);
  return nodes.sort((a, b) => rank(a) - rank(b) || compareNames(a.device.name, b.device.name));
}
