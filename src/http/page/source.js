// What the page knows of the monitor: lists that are requested, and the events that keep them current.
// One timer decides once a second what is due, so that no failure starts a second one.

import { SharedStream } from "./stream.js";
import { setClockAhead, now, steady } from "./format.js";

export const PROOF_S = 15; // how old the last sign of life may be for a verdict

const LIMIT_MS = 10_000; // for an answer …
const LIST_LIMIT_MS = 30_000; // … and for a list, which may be megabytes on a slow line
const QUIET_MS = 8_000; // without an event, the stream is taken for held up
const POLL_MS = 5_000;
const CONTACTS_MS = 10_000; // contacts cause no event …
const FLEET_MS = 60_000; // … and the list of a fleet is long
const FLEET = 1_000;
const LONGEST_DELAY_MS = 10_000;
const MOST_ALERTS = 1_000;
const DAY_S = 24 * 3600;
const STEP_MS = 2_000; // between the clocks of this machine, that is no inaccuracy
const TOKEN = "iotmonitor-token";

export class Source {
  constructor() {
    this.devices = new Map();
    this.alerts = [];
    this.status = null;
    this.isLoaded = false;
    this.failures = 0;
    this.listeners = new Set();
    this.changed = new Map(); // when an event last reported a device
    this.figuresAt = 0;
    this.asking = null;
    this.isWanted = true; // everything should be requested anew
    this.beganAt = 0; // when the last complete request was made
    this.notBefore = 0;
    this.pollAt = 0;
    this.contactsAt = 0;
    this.heardAt = 0; // when the last event came …
    this.liveAt = steady(); // … and when it was last seen that they come in time
    this.proof = null; // the last sign of life, by both clocks of this machine
    this.apart = Date.now() - steady(); // how far these two are apart
    this.isDoubtful = false; // the last heartbeat seems old: the monitor's clock may have been set
    this.secret = null;
    this.stream = new SharedStream("api/v1/events", {
      onEvent: (kind, data) => this.#hear(kind, data),
      onState: (state) => this.#streamChanged(state),
    });
    document.addEventListener("visibilitychange", () => {
      if (document.hidden) return;
      this.contactsAt = 0;
      this.#beat();
    });
    addEventListener("online", () => { this.notBefore = 0; this.#beat(); });
    setInterval(() => this.#beat(), 1_000);
    this.#beat();
  }

  // `listener` gets {kind: "device", name}, {kind: "devices"}, {kind: "alerts"} (with
  // `acknowledged`, if that is what has changed), {kind: "status"} or
  // {kind: "life"}; returns a function that ends it.
  on(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  // The age of the last sign of life, in seconds.
  silence() {
    if (!this.proof) return Infinity;
    // A suspended machine stops one clock, and a step turns the other back.
    return Math.max(Date.now() - this.proof.wall, steady() - this.proof.steady) / 1_000;
  }

  // Events arrive, and in time.
  isLive() {
    return this.stream.state.open && steady() - Math.max(this.heardAt, this.stream.state.openedAt) < QUIET_MS;
  }

  // The monitor answers, but its events do not arrive, for longer than it takes to connect.
  isPolling() {
    if (this.isLive()) this.liveAt = steady();
    return this.isLoaded && this.life() === "fresh" && steady() - this.liveAt > QUIET_MS;
  }

  // "asking" before the first answer, "lost" while there is no proof that the monitor works.
  life() {
    const isLost = this.silence() > PROOF_S || (this.failures > 0 && !this.isLive());
    if (!this.isLoaded) return this.failures > 0 ? "lost" : "asking";
    return isLost ? "lost" : "fresh";
  }

  // The answer's JSON. An error has the server's sentence, and its status.
  async get(path, limit = LIMIT_MS) {
    const response = await this.#request(path, { limit });
    return this.#whole(path, () => response.json());
  }

  // Needs the token.
  async post(path) {
    await this.#request(path, { method: "POST", headers: this.#authorization() });
  }

  // The same as `get` with the token.
  async getWithToken(path) {
    const response = await this.#request(path, { headers: this.#authorization() });
    return response.status === 204 ? null : this.#whole(path, () => response.json());
  }

  get token() {
    try {
      return sessionStorage.getItem(TOKEN) ?? this.secret;
    } catch {
      return this.secret;
    }
  }

  set token(value) {
    this.secret = value;
    try {
      if (value) sessionStorage.setItem(TOKEN, value);
      else sessionStorage.removeItem(TOKEN);
    } catch {
      // Storage is forbidden: it is known to this page alone.
    }
  }

  #authorization() {
    return this.token ? { authorization: `Bearer ${this.token}` } : {};
  }

  async #request(path, { method = "GET", headers = {}, limit = LIMIT_MS } = {}) {
    const response = await this.#whole(path, () => fetch(path, {
      method,
      headers: { accept: "application/json", ...headers },
      cache: "no-store",
      signal: AbortSignal.timeout(limit),
    }));
    if (!response.ok) throw await refusal(response);
    const date = Date.parse(response.headers.get("date") ?? "");
    // The header has no fractions: a difference below that is none.
    const ahead = (date - Date.now()) / 1_000;
    if (Number.isFinite(ahead)) setClockAhead(Math.abs(ahead) < 2 ? 0 : ahead);
    this.isDoubtful = false;
    this.#prove(0);
    return response;
  }

  async #whole(path, work) {
    try {
      return await work();
    } catch (error) {
      const isLate = error.name === "TimeoutError" || error.name === "AbortError";
      const sentence = isLate ? "iotmonitor does not answer in time" : "iotmonitor cannot be reached";
      throw Object.assign(new Error(sentence), { status: 0, path, cause: error });
    }
  }

  // The monitor worked this many seconds ago.
  #prove(age) {
    const proof = { wall: Date.now() - age * 1_000, steady: steady() - age * 1_000 };
    if (!this.proof || proof.steady > this.proof.steady) this.proof = proof;
  }

  #emit(change) {
    for (const listener of this.listeners) listener(change);
  }

  #streamChanged(state) {
    // What happened before the stream was open is in no event.
    if (state.open && state.openedAt > this.beganAt) {
      this.isWanted = true;
      this.notBefore = 0;
    }
    this.#emit({ kind: "life" });
    this.#beat();
  }

  #hear(kind, data) {
    this.heardAt = steady();
    const value = data === "" ? null : JSON.parse(data);
    if (kind === "heartbeat") {
      // One that was held up on its way proves little.
      const age = Math.max(0, now() - value.time);
      this.#prove(age < 2 ? 0 : age);
      this.isDoubtful = age >= 2;
      if (this.isDoubtful) this.#beat();
      this.#emit({ kind: "life" });
      return;
    }
    if (kind === "device") {
      this.changed.set(value.name, this.heardAt);
      const { area, dependsOn } = this.devices.get(value.name) ?? {};
      this.devices.set(value.name, { area, dependsOn, ...value });
      this.#emit({ kind: "device", name: value.name });
    } else if (kind === "summary") {
      this.figuresAt = this.heardAt;
      this.figures = value;
      this.status = { ...this.status, ...value };
      this.#emit({ kind: "status" });
    } else if (kind === "alert") {
      this.alerts.unshift({ ...value, at: this.heardAt });
      this.#forgetAlerts();
      this.#emit({ kind: "alerts" });
    } else if (kind === "acknowledged") {
      const alert = this.alerts.find(({ id }) => id === value.id);
      if (alert) alert.acknowledged = value.acknowledged;
      this.#emit({ kind: "alerts", acknowledged: value });
    } else if (kind === "refresh") {
      this.isWanted = true;
      this.#beat();
    }
  }

  // Notices go before warnings.
  #forgetAlerts() {
    if (this.alerts.length <= MOST_ALERTS) return;
    const isMinor = ({ priority }) => priority === "notice" || priority === "info";
    const oldest = this.alerts.findLastIndex(isMinor);
    this.alerts.splice(oldest < 0 ? this.alerts.length - 1 : oldest, 1);
  }

  // The clock was set, or the machine was suspended: what was known of the monitor's clock and of the stream
  // may be wrong.
  #noticeStep() {
    const apart = Date.now() - steady();
    const step = Math.abs(apart - this.apart);
    this.apart = apart;
    if (step < STEP_MS) return;
    this.isWanted = true;
    this.notBefore = 0;
    this.stream.renew();
  }

  // What is due now.
  #beat() {
    this.#noticeStep();
    this.stream.beat();
    const time = steady();
    if (this.asking || time < this.notBefore) return;
    if (this.isWanted) {
      this.#ask(() => this.#askForAll());
    } else if (!this.isLive()) {
      if (time < this.pollAt) return;
      this.pollAt = time + POLL_MS;
      const isLate = time - this.beganAt >= (this.devices.size > FLEET ? FLEET_MS : POLL_MS);
      this.#ask(() => isLate ? this.#askForAll() : this.#askForFigures());
    } else if (this.isDoubtful) {
      this.#ask(() => this.#askForFigures());
    } else if (!document.hidden && time >= this.contactsAt) {
      this.#ask(() => this.#askForDevices());
    }
  }

  #ask(work) {
    const began = steady();
    this.asking = work().then(() => {
      this.failures = 0;
      // Requests that follow each other leave room for other work.
      this.notBefore = steady() + Math.min(2 * (steady() - began), LONGEST_DELAY_MS);
    }, () => {
      this.notBefore = steady() + Math.min(1_000 * 2 ** this.failures, LONGEST_DELAY_MS);
      this.failures += 1;
      this.isWanted = true;
    }).finally(() => {
      this.asking = null;
      this.#emit({ kind: "life" });
    });
  }

  async #askForAll() {
    this.isWanted = false;
    const began = steady();
    await Promise.all([this.#askForFigures(), this.#askForAlerts(), this.#askForDevices()]);
    this.beganAt = began;
    this.isLoaded = true;
  }

  // What came as an event since something was requested is newer than the answer.
  async #askForFigures() {
    const asked = steady();
    const answer = await this.get("api/v1/status");
    this.status = { ...answer, ...(this.figuresAt >= asked ? this.figures : {}) };
    this.#emit({ kind: "status" });
  }

  async #askForAlerts() {
    const asked = steady();
    const list = await this.get("api/v1/alerts", LIST_LIMIT_MS);
    const key = (alert) => alert.id ?? `${alert.time} ${alert.message}`;
    const known = new Set(list.map(key));
    const isNew = (alert) => alert.at >= asked && !known.has(key(alert));
    const since = now() - DAY_S;
    this.alerts = [...this.alerts.filter(isNew), ...list].filter((alert) => alert.time >= since);
    this.#emit({ kind: "alerts" });
  }

  async #askForDevices() {
    const asked = steady();
    const list = await this.get("api/v1/devices", LIST_LIMIT_MS);
    const names = new Set(list.map((device) => device.name));
    for (const name of this.devices.keys()) if (!names.has(name)) this.devices.delete(name);
    for (const device of list) {
      if (!((this.changed.get(device.name) ?? 0) >= asked)) this.devices.set(device.name, device);
    }
    this.changed.clear();
    this.contactsAt = steady() + (list.length > FLEET ? FLEET_MS : CONTACTS_MS);
    this.#emit({ kind: "devices" });
  }
}

async function refusal(response) {
  const text = await response.text().catch(() => "");
  let sentence = `the server answers ${response.status}`;
  try {
    sentence = JSON.parse(text).error ?? sentence;
  } catch {
    // A proxy writes its own pages.
  }
  return Object.assign(new Error(sentence), { status: response.status });
}
