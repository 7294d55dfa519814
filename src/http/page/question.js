// What a view asks for beside what the source keeps. Of several answers only that to the last question counts, and
// a question that could not be answered is repeated.

import { steady } from "./format.js";

const FIRST_DELAY_MS = 2_000;
const LONGEST_DELAY_MS = 30_000;

export class Question {
  // `work(isLast)` asks, and shows the answer while `isLast()`. It returns whether that was all.
  constructor(work) {
    this.work = work;
    this.mine = null;
    this.dueAt = Infinity;
    this.failures = 0;
  }

  async ask() {
    const mine = {};
    this.mine = mine;
    this.dueAt = Infinity;
    const isDone = await this.work(() => this.mine === mine);
    if (this.mine !== mine) return;
    if (!isDone) this.soon(Math.min(FIRST_DELAY_MS * 2 ** this.failures, LONGEST_DELAY_MS));
    this.failures = isDone ? 0 : this.failures + 1;
  }

  // Asks again after this time, if not before.
  soon(delay) {
    this.dueAt = Math.min(this.dueAt, steady() + delay);
  }

  // Called once a second while the page is in sight.
  beat() {
    if (steady() >= this.dueAt) this.ask();
  }

  close() {
    this.mine = null;
    this.dueAt = Infinity;
  }
}

// Whether the same request may succeed later: the monitor cannot be reached, or cannot answer at the moment.
export const isPassing = ({ status }) => !status || status === 409 || status === 429 || status >= 500;
