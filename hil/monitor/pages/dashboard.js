"use strict";
const at = id => document.getElementById(id);
function made(tag, text, name) {
  const element = document.createElement(tag);
  element.textContent = text;
  if (name) element.className = name;
  return element;
}
function fill(id, children) { at(id).replaceChildren(...(children.length ? children : [made("li", "none", "soft")])); }

function board(name, facts) {
  const parts = [facts.power && "power " + facts.power, facts.slot && "slot " + facts.slot, facts.os && "OS " + facts.os,
    facts.epoch != null && "epoch " + facts.epoch, facts.junction_c != null && facts.junction_c + " °C",
    facts.held_by && "held by " + facts.held_by, facts.step];
  const element = made("div", "", "board");
  element.append(made("b", name), document.createTextNode(" " + parts.filter(Boolean).join(", ")));
  return element;
}

function show(state) {
  at("title").textContent = state.run ? (state.verdict || state.state) + ": " + (state.plan_title || state.plan) : "No campaign yet";
  document.title = at("title").textContent;
  if (!state.run) return;
  at("about").textContent = ["run " + state.run, "lab " + state.lab, state.fidelity, "since " + state.started_utc].filter(Boolean).join(", ");
  fill("links", Object.entries(state.links).map(([name, link]) =>
    made("span", name + ": " + link.state + (link.between.length ? " (" + link.between.join(" – ") + ")" : ""), "link " + (link.state === "up" ? "" : "cut"))));
  const crafts = new Map();
  for (const [name, facts] of Object.entries(state.boards)) {
    const craft = facts.spacecraft || "boards";
    if (!crafts.has(craft)) crafts.set(craft, made("div", "", "craft")).get(craft).append(made("div", craft, "soft"));
    crafts.get(craft).append(board(name, facts));
  }
  fill("crafts", [...crafts.values()]);
  fill("steps", Object.values(state.steps).map(step => {
    const item = made("li", (step.verdict || "waits") + ": " + step.title, ["FAIL", "INCONCLUSIVE", "running"].includes(step.verdict) ? "bad" : "");
    if (step.why) item.append(made("div", step.why, "soft"));
    if (step.verdict === "running") item.setAttribute("aria-current", "step");
    return item;
  }));
  fill("faults", state.faults.slice(-8).reverse().map(fault =>
    made("li", [fault.what, fault.target, fault.proof, fault.healed ? "healed" : "now"].filter(Boolean).join(", "), fault.healed ? "soft" : "bad")));
  fill("log", state.log.slice(-15).reverse().map(line => made("li", line.t_s.toFixed(1) + " s  " + line.text)));
  at("commands").hidden = state.state !== "running";
}

const events = new EventSource("/events");
events.onopen = () => { at("connection").textContent = "live"; };
events.onerror = () => { at("connection").textContent = "connection lost; trying again"; };
events.onmessage = message => show(JSON.parse(message.data));

at("cancel").addEventListener("submit", async event => {
  event.preventDefault();
  const answer = await fetch("/cancel", { method: "POST", headers: { Authorization: "Bearer " + at("token").value } });
  at("answer").textContent = await answer.text();
});
