"use strict";

const LONG = { around: 320, chunk: 1500 }; // characters, from which a part is folded

const at = (id) => document.getElementById(id);
let token = ""; // in memory only
let about = null;
let asking = null; // what ends the request under way
let again = start; // what the token was needed for

class TokenNeeded extends Error {}

async function ask(path, body) {
  asking?.abort();
  asking = new AbortController();
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const post = body && { method: "POST", body: JSON.stringify(body) };
  const answer = await fetch(path, { headers, signal: asking.signal, ...post }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Does it still run?");
  });
  if (answer.status === 401) throw new TokenNeeded();
  const said = await answer.json().catch(() => null);
  if (!answer.ok || !said) throw new Error(said?.error ?? `The server failed (${answer.status}); its log says why.`);
  return said;
}

async function attempt(action) {
  const main = document.querySelector("main");
  main.ariaBusy = "true";
  at("error").hidden = true;
  try {
    await action();
    at("token-form").hidden = true;
  } catch (error) {
    if (error.name === "AbortError") return;
    at("status").textContent = "";
    if (error instanceof TokenNeeded) askForToken(action);
    else tell(error.message);
  }
  main.ariaBusy = "false";
}

function askForToken(action) {
  again = action;
  if (token) tell("The server refuses this token.");
  at("token-form").hidden = false;
  at("token").focus();
  at("token").select();
}

function tell(message) {
  at("error").textContent = message;
  at("error").hidden = false;
  at("results").hidden = true;
}

async function start() {
  about = await ask("about");
  at("about").textContent = about.index ? `index ${about.index} · ${about.model}` : about.model;
  at("paste").hidden = Boolean(about.index);
  at("search-form").hidden = false;
  if (!about.index) at("query").value = "How many people live in Bergen?";
  at("query").focus();
  at("query").select();
}

async function search() {
  at("status").textContent = "Searching …";
  const query = at("query").value;
  const began = performance.now();
  const answer = about.index
    ? await ask("search", { query })
    : await ask("compare", { query, text: at("text").value, max_tokens: at("max-tokens").valueAsNumber });
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  at("results").hidden = !answer.late.length && !answer.naive.length;
  at("status").textContent = at("results").hidden
    ? "Nothing was found: the index is empty."
    : `${answer.late.length} hits late and ${answer.naive.length} naive, in ${seconds} s`;
  if (!at("results").hidden) show(answer);
}

function show(answer) {
  const similarities = [...answer.late, ...answer.naive]
    .flatMap((hit) => hit.passage.map((piece) => piece.similarity))
    .filter((similarity) => similarity !== null);
  const low = Math.min(...similarities);
  const high = Math.max(...similarities);
  const share = (similarity) => (high > low ? (similarity - low) / (high - low) : 1);
  at("low").textContent = low.toFixed(2);
  at("high").textContent = high.toFixed(2);
  const late = answer.pooling === "late pooling";
  at("late-title").textContent = late ? "Late" : "The index’s own";
  at("late-told").textContent = about.index
    ? `The vectors of the index, by kNN: ${late ? "each chunk pooled from its whole document" : answer.pooling}. ` +
      "Sentences are pooled late from the passage that is shown."
    : "Each chunk and sentence pooled from the whole text.";
  at("naive-told").textContent = about.index
    ? `Each chunk and sentence embedded alone. Ranks ${answer.candidates} candidates, the index’s best by late ` +
      "vectors and by words, by exact cosine: what neither found cannot be here."
    : "Each chunk and sentence embedded alone.";
  for (const kind of ["late", "naive"]) {
    at(kind).replaceChildren(...answer[kind].map((hit) => card(hit, kind, answer, share)));
  }
}

function card(hit, kind, answer, share) {
  const passage = element("div", "passage");
  passage.dir = "auto";
  for (const [name, pieces] of parts(hit.passage)) passage.append(...part(name, pieces, share));
  const item = element("li", "hit", head(hit, kind, answer), passage);
  item.id = `${kind}-${hit[`${kind}_rank`]}`;
  item.dataset.chunk = hit.id;
  item.addEventListener("pointerenter", () => markTwins(hit.id, true));
  item.addEventListener("pointerleave", () => markTwins(hit.id, false));
  return item;
}

function markTwins(id, on) {
  for (const item of document.querySelectorAll(".hit")) item.classList.toggle("twin", on && item.dataset.chunk === id);
}

function head(hit, kind, answer) {
  const title = element("span", "title", about.index ? hit.title || hit.doc_id : "");
  const named = !about.index || !hit.title || hit.title === hit.doc_id;
  const place = element("span", "place", `${named ? "" : `${hit.doc_id}, `}chunk ${hit.ordinal + 1}`);
  const scores = element("span", "scores", `cosine ${hit[kind].toFixed(3)} · `, move(hit, kind, answer));
  return element("div", "head", element("span", "rank", String(hit[`${kind}_rank`])), element("span", "", title, place), scores);
}

// The rank on the other side, and how many places better or worse it is here.
function move(hit, kind, answer) {
  const other = kind === "late" ? "naive" : "late";
  const [here, there] = [hit[`${kind}_rank`], hit[`${other}_rank`]];
  if (there === null) return element("span", kind === "late" ? "" : "worse", `not in ${other}’s list`);
  const shown = answer[other].some((twin) => twin.id === hit.id);
  const link = element(shown ? "a" : "span", "", `${other} ${there}`);
  if (shown) link.href = `#${other}-${there}`;
  const by = there - here;
  const told = by === 0 ? " =" : ` ${by > 0 ? "▲" : "▼"}${Math.abs(by)}`;
  const change = element("span", by === 0 ? "" : by > 0 ? "better" : "worse", told);
  const moved = element("span", "move", link, change);
  const places = by === 0 ? "the same place" : `${Math.abs(by)} ${by > 0 ? "better" : "worse"}`;
  moved.title = `number ${there} by ${other} pooling; here ${places}`;
  return moved;
}

// The passage's pieces as what stands before the hit, the hit, and what stands after it.
function parts(pieces) {
  const first = pieces.findIndex((piece) => piece.hit);
  const last = pieces.findLastIndex((piece) => piece.hit);
  return [
    ["before", pieces.slice(0, first)],
    ["chunk", pieces.slice(first, last + 1)],
    ["after", pieces.slice(last + 1)],
  ];
}

function part(name, pieces, share) {
  const text = pieces.map((piece) => piece.text).join("").trim();
  if (!text) return [];
  const inner = element("div", "", ...trimmed(pieces).map((piece) => span(piece, share)));
  const outer = element("div", name === "chunk" ? "part chunk" : `part around ${name}`, inner);
  if (text.length <= LONG[name === "chunk" ? "chunk" : "around"]) return [outer];
  outer.classList.add("folded");
  const button = element("button", "unfold", "Show all of it");
  button.type = "button";
  button.addEventListener("click", () => {
    outer.classList.remove("folded");
    button.remove();
  });
  return name === "before" ? [button, outer] : [outer, button];
}

function trimmed(pieces) {
  const blank = (piece) => !piece.text.trim();
  const first = pieces.findIndex((piece) => !blank(piece));
  const last = pieces.findLastIndex((piece) => !blank(piece));
  return pieces.slice(first, last + 1);
}

function span(piece, share) {
  if (piece.similarity === null) return document.createTextNode(piece.text);
  const sentence = element("span", "sentence", piece.text);
  sentence.style.setProperty("--share", share(piece.similarity).toFixed(3));
  sentence.dataset.similarity = piece.similarity.toFixed(2);
  sentence.title = `similarity ${piece.similarity.toFixed(3)}`;
  return sentence;
}

// Strings become text nodes, so that no document can bring markup in.
function element(name, className, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  made.append(...children);
  return made;
}

at("search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(search);
});
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value;
  attempt(again);
});
at("numbers").addEventListener("change", (event) => at("results").classList.toggle("numbers", event.target.checked));
attempt(start);
