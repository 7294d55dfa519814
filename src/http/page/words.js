// The words that the monitor's interfaces use, as a person says them.

const REASONS = {
  "silent": "nothing was heard from it within its timeout",
  "lwt-offline": "it reported that it is offline",
  "agent-failed": "its process cannot be kept running",
  "agent-hung": "its process runs, but nothing is heard from it",
  "upstream": "a device that it depends on is down",
  "flapping": "it comes and goes too often",
};

// An incident's reason in few words.
const SHORT = {
  "silent": "silent", "lwt-offline": "reported offline", "agent-failed": "process failed",
  "agent-hung": "process hung", "upstream": "gateway down", "flapping": "comes and goes", "alarm": "alarm",
  "broker-lost": "broker not reached", "not-running": "iotmonitor not running", "disabled": "disabled",
};

const ENDINGS = {
  "contact": "it was heard again", "back": "it reported that it is back", "healthy": "its process kept running",
  "disabled": "it was disabled", "enabled": "it was enabled", "removed": "it left the configuration",
  "unseen": "while iotmonitor did not run",
};

export const reasonWords = (reason) => REASONS[reason] ?? reason;
export const shortReason = (incident) => SHORT[incident.reason ?? incident.kind] ?? incident.reason ?? incident.kind;
export const endingWords = (incident) => incident.end === null || incident.end === undefined ? "it lasts"
  : ENDINGS[incident.endedBy] ?? incident.endedBy ?? "–";

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

export function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < UNITS.length - 1) {
    count /= 1024;
    unit += 1;
  }
  return `${count >= 100 || unit === 0 ? Math.round(count) : Number(count.toFixed(1))} ${UNITS[unit]}`;
}

// A number without digits that say nothing.
export const figure = (value) => Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(4)));
