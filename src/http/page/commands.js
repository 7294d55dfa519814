// The token, the commands, and what came of them. A command is sent once; what it changes arrives as an event.

import { element, silencedWords } from "./format.js";

const SPANS = [["30min", "30 minutes"], ["1h", "1 hour"], ["2h", "2 hours"], ["8h", "8 hours"],
  ["1d", "1 day"], ["7d", "7 days"]];
const FIRST_SPAN = "2h";

export const HOW_TO_SET_A_TOKEN = "Commands, recorded states and the journal require a token: set tokenFile in "
  + "[http] of the configuration, and reload iotmonitor.";

export function button(label, action, className = "") {
  const made = element("button", label, className);
  made.type = "button";
  made.addEventListener("click", action);
  return made;
}

// A dialog that is made when it is opened. `closed` resolves to what `submit` has returned, or to null.
function ask({ title, words, fields, label, submit }) {
  const dialog = element("dialog");
  const form = element("form");
  const heading = element("h2", title);
  heading.id = "dialog-title";
  dialog.setAttribute("aria-labelledby", heading.id);
  const problem = element("p", "", "problem");
  problem.setAttribute("role", "alert");
  const send = element("button", label, "primary");
  send.type = "submit";
  const bar = element("p", "", "buttons");
  bar.append(send, button("Cancel", () => dialog.close()));
  form.append(heading, element("p", words, "note"), ...fields, problem, bar);
  dialog.append(form);
  document.body.append(dialog);
  return new Promise((closed) => {
    let answer = null;
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      send.disabled = true;
      problem.textContent = "";
      try {
        answer = await submit();
        dialog.close();
      } catch (error) {
        problem.textContent = error.message;
      }
      send.disabled = false;
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      closed(answer);
    });
    dialog.showModal();
  });
}

function askForToken(source, words) {
  const label = element("label", "Token ");
  const input = element("input");
  input.type = "password";
  input.autocomplete = "off";
  input.required = true;
  input.name = "token";
  label.append(input);
  const submit = async () => {
    const before = source.token;
    source.token = input.value.trim();
    try {
      await source.getWithToken("api/v1/token");
    } catch (error) {
      source.token = before;
      throw error.status === 401 ? new Error("This is not the token that is configured in [http].") : error;
    }
    return true;
  };
  return ask({ title: "Token", words, fields: [label], label: "Continue", submit });
}

// For how long something is to hold; null if the person changes their mind.
function askForSpan(title, words, label, endless = null) {
  const group = element("fieldset");
  group.append(element("legend", "For how long"));
  for (const [span, name] of [...SPANS, ...(endless ? [["", endless]] : [])]) {
    const choice = element("label", "", "choice");
    const input = element("input");
    input.type = "radio";
    input.name = "span";
    input.value = span;
    input.checked = span === FIRST_SPAN;
    input.autofocus = input.checked;
    choice.append(input, name);
    group.append(choice);
  }
  const submit = async () => group.querySelector("input:checked").value;
  return ask({ title, words, fields: [group], label, submit });
}

// What a view needs to send commands: `said` is a line in which a screen reader hears what came of them.
export class Commands {
  constructor(source) {
    this.source = source;
    this.said = element("p", "", "said");
    this.said.setAttribute("role", "status");
    this.asking = null;
  }

  get possible() {
    return this.source.status?.commands === true;
  }

  // Whether there is a token, after asking for it where there is none.
  async token() {
    if (this.source.token) return true;
    this.asking ??= askForToken(this.source,
      "It is the one in [http] of the configuration, and is kept until this tab is closed.");
    const given = await this.asking;
    this.asking = null;
    return given === true;
  }

  // Does what takes the token. One that is refused meanwhile was changed, and is asked for once more.
  async withToken(work) {
    try {
      return await work();
    } catch (error) {
      if (error.status !== 401) throw error;
      this.source.token = null;
      if (!await this.token()) throw error;
      return work();
    }
  }

  say(words, isBad = false) {
    this.said.className = isBad ? "said problem" : "said";
    this.said.textContent = words;
  }

  // Sends what `send` sends, with the token, and says how it went. A button is disabled meanwhile.
  async run(pressed, send, done) {
    if (!await this.token()) return false;
    const hadFocus = document.activeElement === pressed;
    pressed.disabled = true;
    pressed.setAttribute("aria-busy", "true");
    this.say("");
    try {
      await this.withToken(send);
      this.say(done);
      return true;
    } catch (error) {
      this.say(error.message, true);
      return false;
    } finally {
      pressed.disabled = false;
      pressed.removeAttribute("aria-busy");
      // A disabled button loses the focus.
      if (hadFocus && document.activeElement === document.body) pressed.focus();
    }
  }

  post(pressed, path, done) {
    return this.run(pressed, () => this.source.post(path), done);
  }

  // Silences the alerts of one device, or all of them.
  async silence(pressed, name = null) {
    if (!await this.token()) return;
    const what = name ?? "all devices and agents";
    const span = await askForSpan(`Silence ${what}`,
      "It is monitored as before, and nobody is notified. Alarms that last are reported when this ends.", "Silence");
    if (span === null) return;
    const path = name === null ? "api/v1/silence" : `${pathOf(name)}/silence`;
    await this.post(pressed, `${path}?for=${span}`, `The alerts of ${what} are silenced for ${wordsOf(span)}.`);
  }

  async unsilence(pressed, name = null) {
    const path = name === null ? "api/v1/unsilence" : `${pathOf(name)}/unsilence`;
    await this.post(pressed, path, `The alerts of ${name ?? "all devices and agents"} are no longer silenced.`);
  }

  async test(pressed, name = null) {
    const path = name === null ? "api/v1/test" : `${pathOf(name)}/test`;
    await this.post(pressed, path, "The test alert was delivered.");
  }

  async disable(pressed, device) {
    if (!await this.token()) return;
    const words = device.kind === "agent" ? "Its process is stopped, and no alarm is raised."
      : "It is not monitored, and no alarm is raised.";
    const span = await askForSpan(`Disable ${device.name}`, words, "Disable", "Until it is enabled again");
    if (span === null) return;
    const query = span ? `?for=${span}` : "";
    const length = span ? ` for ${wordsOf(span)}` : "";
    await this.post(pressed, `${pathOf(device.name)}/disable${query}`, `${device.name} is disabled${length}.`);
  }
}

export const pathOf = (name) => `api/v1/devices/${encodeURIComponent(name)}`;
const wordsOf = (span) => SPANS.find(([it]) => it === span)[1];

// The buttons for a device or agent, which follow its state.
export class CommandBar {
  constructor(source, name) {
    this.commands = new Commands(source);
    this.name = name;
    this.node = element("section", "", "commands");
    this.node.setAttribute("aria-label", "Commands");
    const { commands } = this;
    const path = pathOf(name);
    const device = () => source.devices.get(name);
    this.buttons = {
      restore: button("Restore states",
        (event) => commands.post(event.currentTarget, `${path}/restore`, `The recorded states of ${name} were published.`)),
      restart: button("Restart",
        (event) => commands.post(event.currentTarget, `${path}/restart`, `${name} was restarted.`)),
      enable: button("Enable",
        (event) => commands.post(event.currentTarget, `${path}/enable`, `${name} is enabled.`)),
      disable: button("Disable …", (event) => commands.disable(event.currentTarget, device())),
      silence: button("Silence alerts …", (event) => commands.silence(event.currentTarget, name)),
      unsilence: button("Unsilence alerts", (event) => commands.unsilence(event.currentTarget, name)),
      test: button("Send a test alert", (event) => commands.test(event.currentTarget, name)),
    };
    this.bar = element("p", "", "buttons");
    this.bar.append(...Object.values(this.buttons));
    this.hint = element("p", HOW_TO_SET_A_TOKEN, "note");
    this.node.append(this.bar, this.hint, this.commands.said);
  }

  update(device) {
    const { possible } = this.commands;
    this.bar.hidden = !possible;
    this.hint.hidden = possible;
    const isDisabled = device.state === "disabled";
    const isSilenced = silencedWords(device) !== "";
    const isHere = device.state !== "elsewhere";
    const shown = { restart: device.kind === "agent" && !isDisabled && isHere, enable: isDisabled,
      disable: !isDisabled, silence: !isSilenced, unsilence: isSilenced };
    for (const [name, isShown] of Object.entries(shown)) this.swap(this.buttons[name], isShown);
    this.buttons.unsilence.title = silencedWords(device);
  }

  // A button that is no longer offered passes the focus on, so that the keyboard stays where it is.
  swap(it, isShown) {
    const hadFocus = document.activeElement === it && !isShown;
    it.hidden = !isShown;
    if (hadFocus) this.bar.querySelector("button:not([hidden])")?.focus();
  }
}
