"use strict";
// Everything a sender wrote is put here by textContent, after its controls are made visible.
const EVERY_MS = 2000;
const SLOTS = 10;
const COLOURS = { created: "good", finished: "good", expanded: "good", pending: "waits", unknown: "waits", rejected: "bad", failed: "bad" };
const ENDS = { unsure: "waits", badly: "bad" };
const $ = (id) => document.getElementById(id);
const visible = (text) => String(text ?? "").replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu,
  (c) => "\\u" + c.codePointAt(0).toString(16).padStart(4, "0"));

function make(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = visible(text);
  if (className) made.className = className;
  return made;
}

function seconds(s) {
  if (s < 60) return s + "s";
  if (s < 3600) return Math.floor(s / 60) + "m";
  if (s < 86400) return Math.floor(s / 3600) + "h " + Math.floor((s % 3600) / 60) + "m";
  return Math.floor(s / 86400) + "d";
}

function eventButton(id) {
  const button = make("button", id);
  button.type = "button";
  button.addEventListener("click", () => showEvent(id));
  return button;
}

function cell(content, className) {
  if (!(content instanceof Array)) return make("td", content, className);
  const made = make("td", undefined, className);
  made.append(...content);
  return made;
}

// A table is written only where it changed, so that focus and selection stay.
const written = {};
function fill(name, rows, cellsOf) {
  const key = JSON.stringify(rows);
  if (written[name] === key) return;
  written[name] = key;
  $(name + "-none").hidden = rows.length > 0;
  $(name).hidden = rows.length === 0;
  $(name).tBodies[0].replaceChildren(...rows.map((row) => {
    const made = make("tr");
    made.append(...cellsOf(row));
    return made;
  }));
}

function fillSlots(running) {
  const key = JSON.stringify(running);
  if (written.slots === key) return;
  written.slots = key;
  $("slots").replaceChildren(...Array.from({ length: Math.max(SLOTS, running.length) }, (_, index) => {
    const task = running[index];
    if (!task) return make("li", "free");
    const made = make("li", undefined, "used");
    made.append(make("strong", task.task_type), make("div", task.events + (task.events === 1 ? " event" : " events") +
      ", since " + task.since.slice(11, 19)), make("div", task.task_id, "id"));
    return made;
  }));
}

function show(found) {
  const ledger = found.ledger;
  $("deliveries-section").hidden = $("changes-section").hidden = !found.is_live;
  fill("deliveries", found.deliveries, (d) => [cell(d.at.slice(11, 19), "short"),
    cell(d.verdict, "short " + (/^[23]|^tick/.test(d.verdict) ? "good" : "bad")), cell(d.route, "short"), cell(d.reason),
    cell(d.ms, "short"),
    cell(d.event_ids.slice(0, 5).map(eventButton))]);
  fill("changes", found.changes, (c) => [cell(c.at.slice(11, 19), "short"),
    cell(c.status, "short " + (ENDS[c.end] ?? COLOURS[c.status] ?? "")), cell(c.route, "short"),
    cell(c.why), cell(c.event_id ? [eventButton(c.event_id)] : "")]);
  if (!ledger) return say(found.unavailable, true);
  fillSlots(ledger.running);
  fill("waits", ledger.by, (w) => [cell(w.route, "short"),
    cell(w.status, "short " + (COLOURS[w.status] ?? "")), cell(w.code ?? "waits for its turn"),
    cell(w.count), cell(seconds(w.oldest_s), "short")]);
  const damaged = ledger.damaged.length ? ", " + ledger.damaged.length + " damaged records" : "";
  say(found.trouble ?? ledger.slots.in_use + " of " + ledger.slots.of + " slots in use, " + ledger.waiting +
    " events wait" + damaged, Boolean(found.trouble));
}

function say(text, isBad) {
  if ($("status").textContent !== visible(text)) $("status").textContent = visible(text);
  $("status").className = isBad ? "bad" : "";
}

async function showEvent(id) {
  $("event-id").value = id;
  const answer = await fetch("/event.json?id=" + encodeURIComponent(id));
  const found = await answer.json();
  $("event-none").hidden = answer.ok;
  $("event").hidden = !answer.ok;
  if (!answer.ok) {
    $("event-none").textContent = visible(found.error);
    return;
  }
  $("event-shown").textContent = visible(found.result.event_id);
  $("timeline").replaceChildren(...found.timeline.map((t) => make("li",
    [t.at, t.what, t.code, t.task_id, t.by && "by " + t.by, t.reason].filter(Boolean).join("  "))));
  fill("hosts", found.hosts, (h) => [cell(h.uuid, "id"), cell(h.told.map((line) => make("div", line)))]);
  $("event-result").textContent = JSON.stringify(found.result, null, 2).split("\n").map(visible).join("\n");
  $("event").focus();
}

async function look() {
  try {
    show(await (await fetch("/page.json")).json());
  } catch (error) {
    say("oncetask does not answer: is it still running?", true);
  }
  setTimeout(look, EVERY_MS);
}

$("find").addEventListener("submit", (event) => {
  event.preventDefault();
  showEvent($("event-id").value);
});
look();
