// One device or agent.

import { ago, clockTime, element, setText, verdictOf } from "./format.js";

export function open(root, { name }, source) {
  const heading = element("h2", name);
  const list = element("dl");
  root.append(heading, list);
  const show = () => {
    const device = source.devices.get(name);
    if (!device) {
      list.replaceChildren(element("dt", source.isLoaded ? "There is no device of this name." : "asking …"));
      return;
    }
    const [words, tone] = verdictOf(device, source.devices);
    const lines = [["State", words], ["Since", clockTime(device.since)],
      ["Last contact", device.lastContact === null ? "never" : ago(device.lastContact)]];
    if (list.children.length !== 2 * lines.length) {
      list.replaceChildren(...lines.flatMap(([label]) => [element("dt", label), element("dd")]));
    }
    lines.forEach(([, text], index) => setText(list.children[2 * index + 1], text));
    list.children[1].className = `state ${tone}`;
  };
  show();
  return {
    title: name,
    update(changes) {
      if (changes.devices || changes.tick || changes.names.has(name)) show();
    },
    close() {},
  };
}
