// Parts of which the views are made.

import { deviceLink, element, setAttribute, setText } from "./format.js";

let made = 0;

// A section with a heading, a count beside it, a line below, and a body.
export function section(title) {
  const node = element("section");
  const heading = element("h2", `${title} `);
  const count = element("span", "", "count");
  heading.append(count);
  heading.id = `section-${made += 1}`;
  node.setAttribute("aria-labelledby", heading.id);
  const note = element("p", "", "note");
  note.hidden = true;
  const body = element("div");
  node.append(heading, note, body);
  return {
    node, body, title, heading,
    count: (number) => setText(count, number === null ? "" : String(number)),
    say: (words) => {
      note.hidden = !words;
      setText(note, words || "");
    },
  };
}

// A table of words or nodes. On a phone each cell bears its heading instead.
export function tableOf(label, headings, rows) {
  const table = element("table");
  table.setAttribute("aria-label", label);
  table.tabIndex = -1;
  const head = table.createTHead().insertRow();
  for (const heading of headings) {
    const cell = element("th", heading);
    cell.scope = "col";
    head.append(cell);
  }
  const body = table.createTBody();
  for (const row of rows) {
    const line = body.insertRow();
    row.forEach((content, index) => {
      const cell = element(index === 0 ? "th" : "td");
      if (index === 0) cell.scope = "row";
      else cell.dataset.label = headings[index];
      cell.append(content);
      line.append(cell);
    });
  }
  return table;
}

export function link(href, words, className = "") {
  const node = element("a", words, className);
  node.href = href;
  return node;
}

export const nameLink = (name) => link(deviceLink(name), name);

// Links from which one is chosen; each is an address of its own, so that it can be shared.
export function choices(label, items) {
  const node = element("nav", "", "choices");
  node.setAttribute("aria-label", label);
  const links = items.map(([, words]) => link("#", words));
  node.append(...links);
  const choose = (chosen, hrefOf) => items.forEach(([value], index) => {
    setAttribute(links[index], "href", hrefOf(value));
    if (value === chosen) links[index].setAttribute("aria-current", "true");
    else links[index].removeAttribute("aria-current");
  });
  return { node, choose };
}
