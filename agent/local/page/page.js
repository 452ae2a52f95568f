// SPDX-FileCopyrightText: 2026 civigate contributors
// SPDX-License-Identifier: EUPL-1.2
"use strict";

// Lowest SNR at which a spreading factor is still decoded, dB [Semtech AN1200.22].
const FLOOR_DB = { 5: -2.5, 6: -5, 7: -7.5, 8: -10, 9: -12.5, 10: -15, 11: -17.5, 12: -20 };
const STRIP = 40, LATEST = 12, AIR_MS = 300000, KEPT = 600, SILENT_MS = 15000, OLD_MS = 25000;
const $ = (id) => document.getElementById(id);
const store = { get: (k) => { try { return sessionStorage.getItem(k); } catch { return null; } }, set: (k, v) => { try { sessionStorage.setItem(k, v); } catch { /* private mode */ } } };

let lang = store.get("lang") || document.documentElement.lang;
if (!WORDS[lang]) lang = "en";
let token = store.get("token");
const receptions = [];
let said = null, remarks = [], doctor = undefined, chosen = "", news = 0, shown = 0, renewed = Date.now();

const say = (key, values = {}) => (WORDS[lang][key] ?? WORDS.en[key] ?? key).replace(/\{(\w+)\}/g, (_, name) => values[name] ?? "");
const num = (value, digits = 0) => Number(value).toLocaleString(lang, { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace("-", "−");

function make(tag, attributes = {}, ...inside) {
  const node = tag.startsWith("svg:") ? document.createElementNS("http://www.w3.org/2000/svg", tag.slice(4)) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...inside);
  return node;
}

function duration(seconds) {
  const units = lang === "de" ? ["Tg", "Std", "min", "s"] : ["d", "h", "min", "s"];
  let rest = Math.floor(seconds), parts = [];
  [86400, 3600, 60, 1].forEach((length, at) => {
    const count = Math.floor(rest / length);
    rest %= length;
    if (count || parts.length) parts.push(`${count} ${units[at]}`);
  });
  return parts.slice(0, 2).join(" ") || "0 s";
}
const ago = (seconds) => (seconds < 2 ? say("now") : say("ago", { t: duration(seconds) }));

function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  while (bytes >= 1000 && at < 4) { bytes /= 1000; at += 1; }
  return `${num(bytes, at && bytes < 100 ? 1 : 0)} ${units[at]}`;
}
const bound = (us) => (us < 1000 ? `${num(us)} µs` : us < 1e6 ? `${num(us / 1000)} ms` : `${num(us / 1e6, 1)} s`);

// ---- the coverage walk

const margin = (seen) => (seen.snr_db === undefined || FLOOR_DB[seen.datarate] === undefined ? null : seen.snr_db - FLOOR_DB[seen.datarate]);
function grade(seen) {
  const left = margin(seen);
  return left === null ? "none" : left >= 15 ? "strong" : left >= 8 ? "good" : left >= 3 ? "weak" : "limit";
}
const rate = (seen) => (seen.modulation === "lora" ? `SF${seen.datarate}` : "FSK");
const own = () => receptions.filter((seen) => seen.device && (!chosen || seen.device === chosen));

function missed(frames) {
  // Frame counters of one device tell what was not heard; one that goes back began anew, or came a second time.
  let lost = 0;
  for (let at = 1; at < frames.length; at += 1) {
    const step = (frames[at].f_cnt - frames[at - 1].f_cnt) & 0xffff;
    if (step > 1 && step < 1000) lost += step - 1;
  }
  return lost;
}

function devices() {
  const select = $("device"), names = [...new Set(receptions.map((seen) => seen.device).filter(Boolean))].sort();
  const wanted = ["", ...names].join(), had = select.dataset.names;
  if (wanted + lang === had) return;
  select.dataset.names = wanted + lang;
  select.replaceChildren(...["", ...names].map((name) => make("option", { value: name }, name || say("any"))));
  select.value = chosen;
}

function big() {
  const frames = own(), seen = frames.at(-1);
  devices();
  $("rssi").textContent = seen ? num(seen.rssi_dbm) : "–";
  $("grade").dataset.grade = seen ? grade(seen) : "none";
  $("grade-text").textContent = seen && grade(seen) !== "none" ? say(grade(seen)) : "";
  $("snr").textContent = seen && seen.snr_db !== undefined ? `${num(seen.snr_db, 1)} dB` : "–";
  $("margin").textContent = seen && margin(seen) !== null ? `${num(margin(seen))} dB` : "–";
  $("rate").textContent = seen ? rate(seen) : "–";
  const counted = chosen ? frames.filter((one) => one.f_cnt !== undefined) : [];
  const lost = missed(counted);
  $("got").textContent = lost ? say("of", { a: num(counted.length), b: num(counted.length + lost) }) : num(frames.length);
  since();
  strip(frames.slice(-STRIP), lost);
  $("latest").replaceChildren(...frames.slice(-LATEST).reverse().map((one) => make("tr", {},
    make("th", { scope: "row" }, one.device), ...[num(one.rssi_dbm), one.snr_db === undefined ? "–" : num(one.snr_db, 1), rate(one), duration((Date.now() - one.at) / 1000), one.f_cnt ?? "–", num(one.frequency_hz / 1e6, 1)].map((text) => make("td", {}, String(text))))));
  air();
}

function since() {
  const seen = own().at(-1), seconds = seen ? (Date.now() - seen.at) / 1000 : 0;
  $("since").textContent = seen ? say("since", { device: seen.device, t: ago(seconds) }) : say("waiting");
  $("since").classList.toggle("fresh", Boolean(seen) && seconds < 10);
}

function strip(frames, lost) {
  const box = $("strip"), width = 360, height = 112, floor = -130, top = -50, left = 30;
  const y = (dbm) => 6 + (height - 18) * (1 - (Math.min(Math.max(dbm, floor), top) - floor) / (top - floor));
  box.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const parts = [];
  for (const dbm of [-60, -80, -100, -120]) {
    parts.push(make("svg:line", { class: "rule", x1: left, x2: width, y1: y(dbm), y2: y(dbm) }), make("svg:text", { x: left - 4, y: y(dbm) + 4, "text-anchor": "end" }, num(dbm)));
  }
  const step = (width - left) / STRIP;
  frames.forEach((seen, at) => {
    const x = left + (STRIP - frames.length + at) * step;
    parts.push(make("svg:rect", { class: `bar ${grade(seen)}`, x: x + 1, y: y(seen.rssi_dbm), width: step - 2, height: y(floor) - y(seen.rssi_dbm), rx: 1.5 }));
  });
  box.replaceChildren(...parts);
  box.setAttribute("aria-label", frames.length ? say("strip", { n: frames.length, rssi: num(frames.at(-1).rssi_dbm) }) : say("none_yet"));
  const levels = frames.map((seen) => seen.rssi_dbm).sort((a, b) => a - b);
  $("range").textContent = levels.length ? say("range", { min: num(levels[0]), mid: num(levels[levels.length >> 1]), max: num(levels.at(-1)) }) + (lost ? ` · ${say("missed", { n: num(lost) })}` : "") : say("none_yet");
}

function air() {
  const box = $("air"), width = 360, left = 44, now = Date.now();
  const lately = receptions.filter((seen) => now - seen.at < AIR_MS);
  const channels = [...new Set(receptions.map((seen) => seen.frequency_hz))].sort((a, b) => b - a);
  const height = Math.max(channels.length, 2) * 16 + 18;
  box.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const y = (hz) => 10 + channels.indexOf(hz) * 16;
  const parts = channels.flatMap((hz) => [make("svg:line", { class: "rule", x1: left, x2: width, y1: y(hz), y2: y(hz) }), make("svg:text", { x: left - 5, y: y(hz) + 4, "text-anchor": "end" }, num(hz / 1e6, 1))]);
  for (const minute of [5, 4, 3, 2, 1, 0]) parts.push(make("svg:text", { x: width - (width - left) * minute / 5, y: height - 2, "text-anchor": minute === 5 ? "start" : minute ? "middle" : "end" }, minute ? `−${minute}` : "0 min"));
  for (const seen of lately) {
    const kind = seen.fate === "kept" ? "own" : seen.fate === "filtered" ? "other" : "bad";
    parts.push(make("svg:circle", { class: kind, cx: width - 5 - (width - left - 8) * (now - seen.at) / AIR_MS, cy: y(seen.frequency_hz), r: Math.min(Math.max(2 + (seen.rssi_dbm + 125) / 14, 2), 6) }));
  }
  box.replaceChildren(...parts);
  const count = (fate) => num(lately.filter((seen) => seen.fate === fate).length);
  box.setAttribute("aria-label", say("air_text", { own: count("kept"), others: count("filtered"), bad: count("bad_crc") }));
}

// ---- status

function status() {
  $("name").textContent = said?.gateway?.name ?? "civigate";
  document.title = `${said?.gateway?.name ?? "civigate"} · civigate`;
  $("eui").textContent = said?.gateway?.eui ?? "";
  const faults = remarks.filter((remark) => remark.level === "fault").length;
  const verdict = $("verdict");
  verdict.dataset.state = !said ? "none" : faults ? "fault" : "ok";
  const words = !said ? say("connecting") : faults > 1 ? say("many_wrong", { n: faults }) : faults ? say("one_wrong") : say("well");
  if ($("verdict-text").textContent !== words) $("verdict-text").textContent = words;
  $("remarks").replaceChildren(...remarks.map((remark) => make("li", { class: remark.level },
    make("strong", {}, WORDS[lang][`remark_${remark.key}`] ? say(`remark_${remark.key}`, remark.values) : remark.text), ...(remark.detail ? [make("p", { lang: "en" }, remark.detail)] : []))));
  if (!said) return;
  const cards = [];
  for (const build of [radioCard, destinationCards, spoolCard, timeCard, cardCard, agentCard]) {
    try { cards.push(...build(said)); } catch { /* a report of another release: what it lacks is not shown */ }
  }
  $("cards").replaceChildren(...cards);
  try { heat(said.heard); } catch { /* the same */ }
}

function part(title, state, level, pairs) {
  const list = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return make("div", { class: "card" }, make("h2", {}, make("span", {}, title), ...(state ? [make("strong", { class: `tag ${level}` }, state)] : [])),
    make("dl", { class: "pairs" }, ...list.map(([name, value]) => make("div", {}, make("dt", {}, say(name)), make("dd", {}, value)))));
}

function radioCard({ radio, boottime_us }) {
  const last = radio.last_heard_us === null ? say("none_yet") : ago((boottime_us - radio.last_heard_us) / 1e6);
  const repairs = Object.values(radio.repairs).reduce((sum, count) => sum + count, 0);
  const level = radio.state === "receiving" ? "ok" : radio.state === "fault" ? "fault" : "note";
  return [part(say("radio"), say(radio.state), level, [["frames", num(radio.heard)], ["last", last], ["repairs", repairs ? num(repairs) : null]])];
}

function destinationCards({ destinations, accounts = [] }) {
  return destinations.map((one) => {
    const account = accounts.find((found) => found.destination === one.destination);
    const level = one.problem ? "fault" : ["online", "draining"].includes(one.phase) ? "ok" : "note";
    return part(one.destination, say(one.phase === "connecting" ? "connecting_phase" : one.phase), level, [
      ["batches", say("of", { a: num(one.through), b: num(one.newest) })],
      ["not_delivered", account ? say("frames_wait", { n: num(account.waiting) }) : null],
      ["answers", one.answer_s == null ? null : bound(one.answer_s * 1e6)],
      ["traffic", size(one.traffic.up_bytes + one.traffic.down_bytes)]]);
  });
}

function spoolCard({ spool, outlook }) {
  return [part(say("spool"), spool.state === "ok" ? say("ok") : spool.state, spool.state === "ok" ? "ok" : "fault", [
    ["used", spool.used_bytes === null ? null : size(spool.used_bytes)],
    ["room", outlook.buffer_days !== null ? say("days", { n: num(outlook.buffer_days, 0) }) : spool.room_bytes === null ? null : size(spool.room_bytes)]])];
}

function timeCard({ clock, gnss }) {
  const told = clock.utc_us === null ? say("unknown") : `${new Date(clock.utc_us / 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;
  const receiver = gnss && gnss.receiver;
  return [part(say("time"), null, "", [["time", told], ["bound", clock.error_us === null ? null : bound(clock.error_us)], ["source", clock.source === null ? null : say(clock.source)],
    ["gnss", receiver ? say(receiver.state) : null], ["satellites", receiver ? num(receiver.sight.satellites) : null]])];
}

function cardCard({ outlook }) {
  if (outlook.device === null) return [];
  return [part(say("card"), outlook.device, "", [["daily", outlook.daily_bytes === null ? say("unknown") : size(outlook.daily_bytes)], ["life", outlook.card_years === null ? null : say("years", { n: num(outlook.card_years, 1) })]])];
}

function agentCard({ host, uptime_s }) {
  return [part(say("agent"), null, "", [["up", duration(uptime_s)], ["memory", host.resident_bytes === null ? null : size(host.resident_bytes)], ["warm", host.temperature_celsius === null ? null : `${num(host.temperature_celsius)} °C`]])];
}

function heat({ hour, day }) {
  const rates = [...new Set(hour.map((one) => `${one.modulation} ${one.datarate}`))].sort((a, b) => b.split(" ")[0].localeCompare(a.split(" ")[0]) || a.split(" ")[1] - b.split(" ")[1]);
  const chains = [...new Map(hour.map((one) => [`${one.frequency_hz} ${one.if_chain}`, one])).values()].sort((a, b) => a.frequency_hz - b.frequency_hz || a.if_chain - b.if_chain);
  const all = (list) => list.reduce((sum, one) => sum + one.kept + one.filtered + one.bad_crc, 0);
  const kept = (list) => list.reduce((sum, one) => sum + one.kept, 0);
  const cell = (count) => make("td", { class: count ? "some" : "none" }, count ? num(count) : "·");
  $("heat-head").replaceChildren(...(hour.length ? [make("tr", {}, make("th", { scope: "col" }, "MHz"), ...rates.map((one) => make("th", { scope: "col" }, one.startsWith("lora") ? `SF${one.slice(5)}` : "FSK")), make("th", { scope: "col" }, say("sum")), make("th", { scope: "col" }, say("own")))] : []));
  $("heat").replaceChildren(...chains.map((chain) => {
    const mine = hour.filter((one) => one.frequency_hz === chain.frequency_hz && one.if_chain === chain.if_chain);
    return make("tr", {}, make("th", { scope: "row" }, chain.frequency_hz ? num(chain.frequency_hz / 1e6, 1) : say("sum")),
      ...rates.map((one) => cell(all(mine.filter((count) => `${count.modulation} ${count.datarate}` === one)))), cell(all(mine)), cell(kept(mine)));
  }));
  $("day").textContent = (hour.length ? "" : `${say("silence")} `) + say("day", { n: num(all(day)), own: num(kept(day)) });
}

// ---- the doctor's sheet; whatever it has

function sheet() {
  const box = $("sheet"), list = $("findings");
  list.replaceChildren();
  if (!doctor || typeof doctor !== "object") {
    box.replaceChildren(make("p", {}, say("never")));
    return;
  }
  const findings = Array.isArray(doctor.findings) ? doctor.findings.filter((one) => one && typeof one === "object") : [];
  const level = (verdict) => ({ ok: "ok", warn: "note", fail: "fault", skipped: "skipped" })[verdict] ?? "note";
  const verdict = String(doctor.verdict ?? "");
  // By the clock that does not jump: a gateway may not know what day it is.
  const aged = said && doctor.boot_id === said.boot_id ? ago(Math.max(said.boottime_us - doctor.boottime_us, 0) / 1e6) : null;
  const counts = ["fail", "warn", "ok", "skipped"].map((one) => [one, findings.filter((found) => found.verdict === one).length]).filter(([, count]) => count);
  const head = part(say("checked"), verdict ? (WORDS.en[`verdict_${verdict}`] ? say(`verdict_${verdict}`) : verdict) : null, level(verdict), [["age", aged], ...counts.map(([one, count]) => [`verdict_${one}`, num(count)])]);
  box.replaceChildren(...head.childNodes);
  const order = { fault: 0, note: 1, ok: 2, skipped: 3 };
  const sorted = [...findings].sort((a, b) => order[level(a.verdict)] - order[level(b.verdict)]);
  list.replaceChildren(...sorted.map((one) => make("li", { class: level(one.verdict) }, make("strong", {}, String(one.check ?? "")), make("p", {}, String(one.evidence ?? "")),
    ...(one.cause ? [make("p", {}, String(one.cause))] : []), ...(one.next ? [make("p", { class: "next" }, say("next", { text: String(one.next) }))] : []))));
}

async function examine() {
  try {
    const answer = await ask("/v1/doctor");
    if (answer.ok) { doctor = await answer.json(); sheet(); }
  } catch { /* the stream says that the gateway is gone */ }
}

// ---- news from the gateway

const ask = (path, more = {}) => fetch(path, { cache: "no-store", headers: token ? { Authorization: `Bearer ${token}` } : {}, ...more });
const banner = (key) => { $("banner").hidden = !key; if (key) $("banner").textContent = say(key); };

function take(kind, data) {
  news = Date.now();
  if (kind === "reception") {
    if (receptions.some((seen) => seen.number === data.number && seen.boottime_us === data.boottime_us)) return;
    receptions.push({ ...data, at: Date.now() - data.age_s * 1000 });
    if (receptions.length > KEPT) receptions.splice(0, receptions.length - KEPT);
    dirty.walk = true;
  } else if (kind === "status") {
    if (said && data.report && data.report.pid !== said.pid) { receptions.length = 0; dirty.walk = true; }
    if (data.report && data.report.boottime_us !== said?.boottime_us) renewed = Date.now();
    said = data.report; remarks = data.remarks;
    dirty.status = true;
  }
}

const dirty = { walk: true, status: true };
function draw() {
  if (dirty.walk) {
    dirty.walk = false;
    big();
    const seen = own().at(-1);
    if (seen && seen.number !== shown) {
      shown = seen.number;
      if (Date.now() - seen.at < 3000) {
        $("big").classList.remove("new"); void $("big").offsetWidth; $("big").classList.add("new");
        $("spoken").textContent = say("spoken", { rssi: num(seen.rssi_dbm), grade: grade(seen) === "none" ? "" : say(grade(seen)) });
      }
    }
  }
  if (dirty.status) { dirty.status = false; status(); }
}

async function listen() {
  for (let pause = 1000; ; pause = Math.min(pause * 2, 10000)) {
    const control = new AbortController();
    const watch = setInterval(() => { if (Date.now() - news > SILENT_MS) control.abort(); }, 1000);
    news = Date.now();
    try {
      const answer = await ask("/v1/live", { signal: control.signal });
      if (answer.status === 401) { clearInterval(watch); if (token) banner("wrong_token"); await login(); pause = 500; continue; }
      if (!answer.ok) { banner(answer.status === 503 ? "busy" : "lost"); throw new Error(String(answer.status)); }
      banner("");
      pause = 500;
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const event of events) {
          const [, kind, data] = /^event: (\w+)\ndata: (.*)$/.exec(event) ?? [];
          if (kind) take(kind, JSON.parse(data));
        }
        draw();
      }
    } catch { banner("lost"); }
    clearInterval(watch);
    await new Promise((done) => setTimeout(done, pause));
  }
}

const login = () => new Promise((done) => {
  $("login").hidden = false;
  $("token").value = "";
  $("token").focus();
  $("login").onsubmit = (event) => {
    event.preventDefault();
    token = $("token").value.trim();
    store.set("token", token);
    $("login").hidden = true;
    banner("");
    done();
  };
});

// ---- the page itself

function speak(next) {
  lang = next;
  store.set("lang", lang);
  document.documentElement.lang = lang;
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = say(node.dataset.word);
  for (const node of document.querySelectorAll("[data-label]")) node.setAttribute("aria-label", say(node.dataset.label));
  for (const node of document.querySelectorAll("[data-lang]")) node.setAttribute("aria-pressed", String(node.dataset.lang === lang));
  dirty.walk = dirty.status = true;
  draw();
  sheet();
}

const tabs = [...document.querySelectorAll("[role=tab]")];
function open(tab, focus) {
  for (const one of tabs) {
    const on = one === tab;
    one.setAttribute("aria-selected", String(on));
    one.tabIndex = on ? 0 : -1;
    $(one.getAttribute("aria-controls")).hidden = !on;
  }
  if (focus) tab.focus();
  history.replaceState(null, "", `#${tab.getAttribute("aria-controls")}`);
  if (tab.id === "tab-check") examine();
}
tabs.forEach((tab, at) => {
  tab.onclick = () => open(tab);
  tab.onkeydown = (event) => {
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: tabs.length - 1 }[event.key];
    if (to !== undefined) { event.preventDefault(); open(tabs[(to + tabs.length) % tabs.length], true); }
  };
});
for (const node of document.querySelectorAll("[data-lang]")) node.onclick = () => speak(node.dataset.lang);
$("device").onchange = () => { chosen = $("device").value; dirty.walk = true; draw(); };
$("sun").onclick = () => {
  const on = document.documentElement.classList.toggle("sun");
  $("sun").setAttribute("aria-pressed", String(on));
  store.set("sun", on ? "1" : "");
};
if (store.get("sun")) $("sun").click();
speak(lang);
const first = tabs.find((tab) => `#${tab.getAttribute("aria-controls")}` === location.hash);
if (first) open(first);
setInterval(() => { since(); if ($("banner").hidden && $("login").hidden && Date.now() - renewed > OLD_MS) banner("old"); }, 1000);
setInterval(() => { if (!document.hidden) { dirty.walk = true; draw(); } }, 5000);
listen();
