"use strict";

const LONG = { around: 320, chunk: 1500 }; // characters, from which a part is folded

const LONGEST_IN_ADDRESS = 2000; // characters of a query; servers refuse addresses that are much longer
const TITLE = document.title;
const NARROW = matchMedia("(width < 60rem)"); // as in page.css: there, the lists are tabs
const EXAMPLES = ["How many people live in Bergen?", "How often does it rain in Bergen?", "How hot does it get in Seville?"];
const COMPONENT = "bm25"; // of a hybrid search; its ranks are told, but it has no list

const at = (id) => document.getElementById(id);
let token = ""; // in memory only
let about = null;
let ofIndex = []; // example queries
let asked = null; // the source and the address of what is shown or under way
let chosen = null; // the tab
let asking = null; // what ends the request under way
let again = start; // what the token was needed for

class TokenNeeded extends Error {}

async function ask(path, body) {
  asking?.abort();
  asking = new AbortController();
  const post = body && { method: "POST", body: JSON.stringify(body) };
  const answer = await request(path, { signal: asking.signal, ...post }).catch((error) => {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Does it still run?");
  });
  if (answer.status === 401) throw new TokenNeeded();
  const said = await answer.json().catch(() => null);
  if (!answer.ok || !said) throw new Error(said?.error ?? `The server failed (${answer.status}); its log says why.`);
  return said;
}

function request(path, options) {
  return fetch(path, { headers: token ? { Authorization: `Bearer ${token}` } : {}, ...options });
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
  at("index-name").textContent = `the index ${about.index}`;
  at("source").hidden = !about.index;
  at("token-form").hidden = true;
  at("search-form").hidden = false;
  if (about.index) showExamplesOfIndex();
  const { query, source } = readAddress();
  fill(query ?? (source === "text" ? EXAMPLES[0] : ""), source);
  at("query").focus();
  at("query").select();
  if (query !== null) await search();
}

// They are an extra: a failure is told when a query meets it too.
async function showExamplesOfIndex() {
  const answer = await request("examples").catch(() => null);
  if (!answer?.ok) return;
  ofIndex = (await answer.json()).queries;
  showSource();
}

// What stands in the address: ?q=, and in=text beside an index if its query is for the pasted text.
function readAddress() {
  const parameters = new URLSearchParams(location.search);
  const inIndex = about.index && parameters.get("in") !== "text";
  return { query: parameters.get("q"), source: inIndex ? "index" : "text" };
}

function writeAddress(query, source) {
  const before = readAddress();
  if (query === before.query && source === before.source) return;
  const parameters = new URLSearchParams();
  if (query.length <= LONGEST_IN_ADDRESS) parameters.set("q", query);
  if (about.index && source === "text") parameters.set("in", "text");
  history.pushState(null, "", `?${parameters}`);
}

function fill(query, source) {
  at("query").value = query;
  document.querySelector(`[name="source"][value="${source}"]`).checked = true;
  showSource();
}

function currentSource() {
  return document.querySelector('[name="source"]:checked').value;
}

function showSource() {
  const inText = currentSource() === "text";
  const isExample = at("text").value === at("text").defaultValue;
  at("paste").hidden = !inText;
  at("hint").hidden = !isExample;
  const queries = inText ? (isExample ? EXAMPLES : []) : ofIndex;
  at("examples").hidden = !queries.length;
  for (const old of at("examples").querySelectorAll("button")) old.remove();
  at("examples").append(...queries.map(example));
}

function example(query) {
  const button = element("button", "example", query);
  button.type = "button";
  button.dir = "auto";
  button.addEventListener("click", () => {
    at("query").value = query;
    submit();
  });
  return button;
}

function submit() {
  if (at("query").value.trim()) writeAddress(at("query").value, currentSource());
  attempt(search);
}

// Back and forward: another query is asked again; another place on the page is shown.
function followAddress() {
  if (!about) return;
  if (asked?.address === location.search) return reveal();
  const { query, source } = readAddress();
  fill(query ?? "", source);
  if (query !== null) return attempt(search);
  forget();
}

function forget() {
  asking?.abort();
  asked = null;
  document.title = TITLE;
  document.querySelector("main").ariaBusy = "false";
  for (const id of ["results", "error"]) at(id).hidden = true;
  at("status").textContent = "";
}

async function search() {
  at("status").textContent = "Searching …";
  const query = at("query").value;
  asked = { source: currentSource(), address: location.search };
  document.title = query.trim() ? `${query} · ${TITLE}` : TITLE;
  const began = performance.now();
  const answer = asked.source === "index"
    ? await ask("search", { query })
    : await ask("compare", { query, text: at("text").value, max_tokens: at("max-tokens").valueAsNumber });
  const seconds = ((performance.now() - began) / 1000).toFixed(1);
  const counts = answer.lists.map((list) => `${list.hits.length} ${list.name}`);
  at("results").hidden = !answer.lists.some((list) => list.hits.length);
  at("status").textContent = at("results").hidden
    ? "Nothing was found: the index is empty."
    : `Hits: ${counts.join(", ")}, in ${seconds} s`;
  if (at("results").hidden) return;
  show(answer, asked.source === "index");
  reveal();
}

function show(answer, inIndex) {
  const { lists } = answer;
  const scales = new Map(lists.map((list) => [list.pooling, scaleOf(lists.filter((one) => one.pooling === list.pooling))]));
  at("missing").textContent = missing(lists, inIndex);
  at("columns").style.setProperty("--lists", lists.length);
  at("columns").replaceChildren(...lists.map((list) => column(list, answer, inIndex, scales.get(list.pooling))));
  at("tabs").replaceChildren(...lists.map((list) => tab(list.name)));
  choose(lists.some((list) => list.name === chosen) ? chosen : lists[0].name);
}

function missing(lists, inIndex) {
  if (lists.some((list) => list.name === "hybrid")) return "";
  return inIndex
    ? "There is no hybrid list: the text of this index is not indexed, so a search is by vectors alone."
    : "There is no hybrid list: Elasticsearch ranks words, and this text is in no index.";
}

// The lowest and the highest similarity of lists with the same pooling, as other poolings have other scales.
function scaleOf(lists) {
  const similarities = lists
    .flatMap((list) => list.hits.flatMap((hit) => hit.passage.map((piece) => piece.similarity)))
    .filter((similarity) => similarity !== null);
  const [low, high] = [Math.min(...similarities), Math.max(...similarities)];
  const share = (similarity) => (high > low ? (similarity - low) / (high - low) : 1);
  return { low, high, share };
}

function column(list, answer, inIndex, scale) {
  const title = element("h2", "", capital(list.name));
  title.id = `${list.name}-title`;
  const told = element("p", "quiet told", explain(list, answer, inIndex));
  told.id = `${list.name}-told`;
  const [low, high] = [scale.low, scale.high].map((end) => element("span", "", Number.isFinite(end) ? end.toFixed(2) : ""));
  const shades = element("div", "scale", element("span", "unseen", "Shades from"), low, element("span", "gradient"), high);
  const hits = element("ol", "", ...list.hits.map((hit) => card(hit, list, answer, inIndex, scale.share)));
  hits.id = list.name;
  const section = element("section", "", title, told, shades, hits);
  section.id = `${list.name}-list`;
  return section;
}

const capital = (name) => name[0].toUpperCase() + name.slice(1);

function explain(list, answer, inIndex) {
  if (!inIndex) return list.name === "late" ? "Each chunk is pooled from the whole text." : "Each chunk is embedded alone.";
  if (list.name === "hybrid") return "What es-latechunk search shows: the vectors of the index and the words (BM25), fused.";
  if (list === answer.lists[0]) {
    const whole = list.pooling === "late pooling" ? "each chunk is pooled from its whole document" : list.pooling;
    return `The vectors of the index, by kNN: ${whole}.`;
  }
  return (
    `Each chunk is embedded alone. Ranks ${answer.candidates} candidates, the best by vectors, by words and by both, ` +
    "by exact cosine: what none of these found cannot be here."
  );
}

function tab(name) {
  const button = element("button", "", capital(name));
  button.type = "button";
  button.role = "tab";
  button.id = `${name}-tab`;
  button.dataset.list = name;
  button.setAttribute("aria-controls", `${name}-list`);
  button.addEventListener("click", () => choose(name));
  return button;
}

// On a narrow screen the lists are tabs, of which one is shown; on a wide one they stand side by side.
function choose(name) {
  chosen = name;
  const tabs = [...at("tabs").children];
  at("tabs").hidden = !NARROW.matches || tabs.length < 2;
  for (const button of tabs) {
    const own = button.dataset.list;
    button.setAttribute("aria-selected", String(own === name));
    button.tabIndex = own === name ? 0 : -1;
    const section = at(`${own}-list`);
    section.hidden = !at("tabs").hidden && own !== name;
    if (at("tabs").hidden) section.removeAttribute("role");
    else section.role = "tabpanel";
    section.setAttribute("aria-labelledby", at("tabs").hidden ? `${own}-title` : `${own}-tab`);
  }
}

function moveToTab(event) {
  const tabs = [...at("tabs").children];
  const now = tabs.findIndex((button) => button.dataset.list === chosen);
  const last = tabs.length - 1;
  const to = { ArrowLeft: now > 0 ? now - 1 : last, ArrowRight: now < last ? now + 1 : 0, Home: 0, End: last }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  choose(tabs[to].dataset.list);
  tabs[to].focus();
}

// Shows the hit that the address names, whichever tab it is in.
function reveal() {
  const hit = at(location.hash.slice(1));
  const list = hit && hit.closest("section");
  if (!list) return;
  choose(list.id.replace(/-list$/, ""));
  hit.scrollIntoView();
}

function card(hit, list, answer, inIndex, share) {
  const passage = element("div", "passage");
  passage.dir = "auto";
  for (const [name, pieces] of parts(hit.passage)) passage.append(...part(name, pieces, share));
  const item = element("li", "hit", head(hit, list, answer, inIndex), passage);
  item.id = `${list.name}-${hit.scores[list.name].rank}`;
  item.dataset.chunk = hit.id;
  item.addEventListener("pointerenter", () => markTwins(hit.id, true));
  item.addEventListener("pointerleave", () => markTwins(hit.id, false));
  return item;
}

function markTwins(id, on) {
  for (const item of document.querySelectorAll(".hit")) item.classList.toggle("twin", on && item.dataset.chunk === id);
}

function head(hit, list, answer, inIndex) {
  const own = hit.scores[list.name];
  const title = element("span", "title", hit.title === hit.doc_id ? "" : hit.title);
  const name = element("span", "", title, element("span", "place", hit.id));
  const headings = hit.headings.filter((heading) => heading !== hit.title);
  if (headings.length) name.append(element("span", "path", headings.join(" › ")));
  const score = element("span", "score", `${list.name === "hybrid" ? "score" : "cosine"} ${own.score.toFixed(3)}`);
  const others = Object.keys(hit.scores).filter((other) => other !== list.name && (other !== COMPONENT || list.name === "hybrid"));
  const moves = element("span", "moves", ...others.map((other) => move(hit, own.rank, other, answer)));
  return element("div", "head", element("span", "rank", String(own.rank)), name, score, moves);
}

// The rank in another list, and how many places above or below it the chunk is here.
function move(hit, here, other, answer) {
  const label = other === COMPONENT ? "BM25" : other;
  const there = hit.scores[other]?.rank;
  if (!there) return told("move", `${label} –`, `not among the chunks that ${label} ranks`);
  const shown = answer.lists.some((list) => list.name === other && list.hits.some((twin) => twin.id === hit.id));
  const rank = element(shown ? "a" : "span", "", `${label} ${there}`);
  if (shown) {
    rank.href = `#${other}-${there}`;
    rank.addEventListener("click", () => choose(other)); // before the browser goes there
  }
  const by = Math.abs(there - here);
  const moved = element("span", "move", rank, " ");
  moved.append(
    there === here
      ? told("", "=", "the same place")
      : told("", `${there > here ? "▲" : "▼"}${by}`, `${by} ${by === 1 ? "place" : "places"} ${there > here ? "above" : "below"} it here`),
  );
  return moved;
}

// A sign, and its meaning for those who hear the page or point at it.
function told(className, sign, meaning) {
  const seen = element("span", "", sign);
  seen.ariaHidden = "true";
  const both = element("span", className, seen, element("span", "unseen", meaning));
  both.title = meaning;
  return both;
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
  submit();
});
at("source").addEventListener("change", () => {
  forget();
  showSource();
});
at("text").addEventListener("input", showSource);
at("tabs").addEventListener("keydown", moveToTab);
at("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token = at("token").value;
  attempt(again);
});
at("numbers").addEventListener("change", (event) => at("results").classList.toggle("numbers", event.target.checked));
NARROW.addEventListener("change", () => choose(chosen));
window.addEventListener("popstate", followAddress);
attempt(start);
