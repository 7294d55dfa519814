// A long list of which only the part in sight is drawn. It scrolls with the page. Items have a key, and a
// height in pixels that their kind and the width of the page decide.

import { setAttribute } from "./format.js";

const MARGIN_PX = 400; // drawn beyond the edges, so that Tab always finds a next row

export class WindowedList {
  // `draw(item, node)` returns the item's node, which is `node` if the item was drawn before.
  constructor(body, { heightOf, draw, onSight }) {
    Object.assign(this, { body, heightOf, draw, onSight });
    this.items = [];
    this.tops = [0]; // where each item begins, and where the last ends
    this.places = new Map(); // of each key
    this.nodes = new Map();
    this.first = 0;
    this.last = 0;
    this.frame = 0;
    this.scrolled = () => { this.frame ||= requestAnimationFrame(() => { this.frame = 0; this.render(); }); };
    addEventListener("scroll", this.scrolled, { passive: true });
    addEventListener("resize", this.scrolled);
  }

  close() {
    cancelAnimationFrame(this.frame);
    removeEventListener("scroll", this.scrolled);
    removeEventListener("resize", this.scrolled);
  }

  // Shows other items; what is read stays where it is.
  show(items) {
    const anchor = this.#anchor();
    this.items = items;
    this.#measure();
    this.places = new Map(items.map((item, place) => [item.key, place]));
    const place = anchor ? this.places.get(anchor.key) : undefined;
    if (place !== undefined) {
      const moved = this.tops[place] - anchor.top;
      if (moved !== 0 && Math.abs(moved) < 10 * innerHeight) scrollBy(0, moved);
    }
    this.render();
  }

  #measure() {
    const tops = new Float64Array(this.items.length + 1);
    this.items.forEach((item, place) => { tops[place + 1] = tops[place] + this.heightOf(item); });
    this.tops = tops;
    this.body.style.height = `${tops[this.items.length]}px`;
  }

  // The first item in sight, if the list's beginning is out of sight.
  #anchor() {
    const above = -this.body.getBoundingClientRect().top;
    if (above <= 0) return null;
    const place = this.#placeAt(above);
    return place < this.items.length ? { key: this.items[place].key, top: this.tops[place] } : null;
  }

  // The item at this distance from the beginning.
  #placeAt(top) {
    let [low, high] = [0, this.items.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle + 1] <= top) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  // Heights may have changed with the page's width.
  measureAgain() {
    this.#measure();
    this.render();
  }

  render() {
    const above = -this.body.getBoundingClientRect().top;
    this.first = this.#placeAt(Math.max(0, above - MARGIN_PX));
    this.last = Math.min(this.items.length, this.#placeAt(above + innerHeight + MARGIN_PX) + 1);
    const drawn = new Set();
    const focused = document.activeElement;
    let next = this.body.firstElementChild;
    for (let place = this.first; place < this.last; place += 1) {
      const item = this.items[place];
      drawn.add(item.key);
      const known = this.nodes.get(item.key);
      const node = this.draw(item, known);
      if (node !== known) {
        known?.remove();
        if (known === next) next = next?.nextElementSibling ?? null;
        this.nodes.set(item.key, node);
      }
      setAttribute(node, "aria-rowindex", String(place + 2));
      const top = `translateY(${this.tops[place]}px)`;
      if (node.style.transform !== top) node.style.transform = top;
      // The order of the nodes is that in which they are read and reached by Tab.
      while (next && next !== node && !this.#isWanted(next)) next = next.nextElementSibling;
      if (next === node) next = next.nextElementSibling;
      else this.body.insertBefore(node, next);
    }
    for (const [key, node] of this.nodes) {
      if (drawn.has(key)) continue;
      // The row that is in use stays, wherever it is.
      const place = this.places.get(key);
      if (place !== undefined && node.contains(focused)) {
        node.style.transform = `translateY(${this.tops[place]}px)`;
        continue;
      }
      node.remove();
      this.nodes.delete(key);
    }
    // A node that is moved loses the focus.
    if (focused !== document.activeElement && this.body.contains(focused)) focused.focus({ preventScroll: true });
    this.onSight();
  }

  #isWanted(node) {
    const place = this.places.get(node.dataset.key);
    return place !== undefined && place >= this.first && place < this.last;
  }

  // The items that are drawn.
  inSight() {
    return this.items.slice(this.first, this.last);
  }

  // Brings an item into sight and returns its node.
  reveal(place) {
    const box = this.body.getBoundingClientRect();
    const [top, bottom] = [box.top + this.tops[place], box.top + this.tops[place + 1]];
    const edge = this.body.previousElementSibling?.offsetHeight ?? 0;
    if (top < edge) scrollBy(0, top - edge);
    else if (bottom > innerHeight) scrollBy(0, bottom - innerHeight);
    this.render();
    return this.nodes.get(this.items[place].key);
  }
}
