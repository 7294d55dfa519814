// The alerts of the last day.

import { clockTime, element, now, setText } from "./format.js";

const SHOWN = 100;
const DAY_S = 24 * 3600;

export function openList(root, source) {
  const section = element("section");
  section.id = "alerts";
  const heading = element("h2", "Alerts of the last day ");
  const count = element("span", "", "count");
  heading.append(count);
  const list = element("ol");
  const note = element("p", "", "note");
  section.append(heading, list, note);
  root.append(section);
  const made = new WeakMap(); // an item is made once
  const itemOf = (alert) => {
    if (!made.has(alert)) {
      const item = element("li", "", alert.priority);
      const time = element("time", clockTime(alert.time));
      time.dateTime = new Date(alert.time * 1000).toISOString();
      item.append(time, element("p", alert.message));
      made.set(alert, item);
    }
    return made.get(alert);
  };
  const update = () => {
    list.replaceChildren(...source.alerts.slice(0, SHOWN).map(itemOf));
    list.hidden = source.alerts.length === 0;
    setText(count, String(source.alerts.length));
    const isYoung = source.status !== null && source.status.started > now() - DAY_S;
    note.hidden = !isYoung;
    if (isYoung) {
      setText(note, `iotmonitor has run since ${clockTime(source.status.started)}; older alerts are in the journal.`);
    }
  };
  update();
  return { update };
}

export function open(root, parameters, source) {
  const list = openList(root, source);
  return {
    title: "Alerts",
    update(changes) {
      if (changes.alerts || changes.status) list.update();
    },
    close() {},
  };
}
