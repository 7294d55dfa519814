// One stream of events for all tabs of a browser, which opens only six connections to a server: one tab
// leads, which holds the stream and passes each event on to the others. Web Locks exist only in secure
// contexts, and a page of the local network has none, so that the tabs agree over a BroadcastChannel.
// Two leaders at a time cost a connection and nothing else.

import { steady } from "./format.js";

const JOIN_MS = 250; // within which a leader answers a new tab
const SILENCE_MS = 7_000; // after which a leader is taken for gone, more than a heartbeat's interval …
const HIDDEN_SILENCE_MS = 12_000; // … and by a tab that nobody sees
const SAYING_MS = 3_000;
const STUCK_MS = 12_000; // without a heartbeat, or an answer
const LONGEST_DELAY_MS = 15_000;
const CONTEST_MS = 1_000;

const KINDS = ["device", "summary", "alert", "acknowledged", "refresh", "heartbeat"];

export class SharedStream {
  // `onEvent` gets the kind and the data, as text, of each event; `onState` is called when the stream
  // has been opened or lost.
  constructor(url, { onEvent, onState }) {
    this.url = url;
    this.onEvent = onEvent;
    this.onState = onState;
    this.id = Math.random();
    this.state = { open: false, stream: null, openedAt: 0, refused: false };
    this.isLeader = false;
    this.events = null;
    this.failures = 0;
    this.retryAt = 0;
    this.heardAt = steady();
    this.saidAt = 0;
    this.ledAt = 0;
    this.triedAt = 0;
    this.beatAt = 0; // when the last heartbeat came on the present stream
    this.channel = "BroadcastChannel" in window ? new BroadcastChannel("iotmonitor") : null;
    if (!this.channel) {
      this.#lead();
      return;
    }
    this.channel.onmessage = ({ data }) => this.#hear(data);
    this.#post({ type: "hello" });
    setTimeout(() => { if (this.heardFrom === undefined) this.#lead(); }, JOIN_MS);
    // A page that is kept for the way back or frozen must not hold up the others.
    addEventListener("pagehide", () => this.#resign());
    document.addEventListener("freeze", () => this.#resign());
    addEventListener("pageshow", (event) => { if (event.persisted) this.#post({ type: "hello" }); });
  }

  // The stream may have been lost without a word, as while the machine was suspended.
  renew() {
    if (this.events) this.#lose(false);
  }

  // Called once a second.
  beat() {
    const time = steady();
    if (!this.isLeader) {
      const patience = document.hidden ? HIDDEN_SILENCE_MS : SILENCE_MS;
      if (time - this.heardAt > patience) this.#lead();
      return;
    }
    // A connection whose other end is gone without a word would wait for minutes.
    if (this.events && time - Math.max(this.beatAt, this.triedAt) > STUCK_MS && !this.#isHeld()) this.#lose(false);
    if (!this.events && time >= this.retryAt) this.#open();
    if (time - this.saidAt > SAYING_MS) this.#say();
  }

  #hear(message) {
    if (message.type === "hello") {
      if (this.isLeader) this.#say();
      return;
    }
    if (message.type === "bye") {
      // The first to notice leads.
      if (!this.isLeader) setTimeout(() => this.#lead(), document.hidden ? 200 : 50 * Math.random());
      this.heardAt = steady();
      return;
    }
    if (this.isLeader) {
      const isContest = steady() - this.ledAt < CONTEST_MS;
      if (message.type !== "lead" && message.id < this.id) return;
      if (message.type === "lead" && isContest && message.id < this.id) {
        this.#post({ type: "lead" });
        return;
      }
      this.#follow();
    }
    this.heardFrom = message.id;
    this.heardAt = steady();
    if (message.type === "event") this.onEvent(message.kind, message.data);
    // The steady clocks of two tabs show different times.
    if (message.type === "state") this.#take({ ...message.state, openedAt: steady() - message.age });
  }

  #lead() {
    // Another tab may have been quicker.
    if (this.isLeader || (this.heardFrom !== undefined && steady() - this.heardAt < 40)) return;
    this.isLeader = true;
    this.ledAt = steady();
    this.failures = 0;
    this.#post({ type: "lead" });
    this.#open();
  }

  #follow() {
    this.isLeader = false;
    this.events?.close();
    this.events = null;
  }

  #resign() {
    if (!this.isLeader) return;
    this.#follow();
    this.heardAt = steady();
    this.#post({ type: "bye" });
  }

  // A proxy that lets no event through does the same to the next stream.
  #isHeld() {
    return this.state.open && this.beatAt === 0;
  }

  #open() {
    this.triedAt = steady();
    const events = new EventSource(this.url);
    this.events = events;
    this.beatAt = 0;
    events.onopen = () => {
      this.failures = 0;
      this.#take({ open: true, stream: Math.random(), openedAt: steady(), refused: false });
      this.#say();
    };
    events.onerror = () => {
      // The browser gives up by itself only after an answer that is no stream.
      if (this.events === events) this.#lose(events.readyState === EventSource.CLOSED);
    };
    for (const kind of KINDS) {
      events.addEventListener(kind, ({ data }) => {
        if (kind === "heartbeat") this.beatAt = steady();
        this.#post({ type: "event", kind, data });
        this.onEvent(kind, data);
      });
    }
  }

  #lose(refused) {
    this.events?.close();
    this.events = null;
    this.retryAt = steady() + Math.min(1_000 * 2 ** this.failures, LONGEST_DELAY_MS);
    this.failures += 1;
    this.#take({ ...this.state, open: false, refused });
    this.#say();
  }

  #take(state) {
    if (["open", "stream", "refused"].every((key) => state[key] === this.state[key])) return;
    this.state = state;
    this.onState(state);
  }

  #say() {
    this.saidAt = steady();
    this.#post({ type: "state", state: this.state, age: steady() - this.state.openedAt });
  }

  #post(message) {
    this.channel?.postMessage({ ...message, id: this.id });
  }
}
