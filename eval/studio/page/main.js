// The page: tabs, the choice of a run, and actions of one tab in another.

import { get, sentence } from "./api.js";
import { $, element, notice, notify, on, option } from "./dom.js";
import { makeCompare } from "./compare.js";
import { makeEdit } from "./edit.js";
import { makeGenerate } from "./generate.js";
import { readLink, writeLink } from "./link.js";
import { makeMap } from "./map.js";
import { makeMorph } from "./morph.js";
import { makePicker } from "./picker.js";
import { makeTraining } from "./training.js";

const NEED_A_RUN = ["generate", "edit", "morph", "map", "compare"];
const tabs = [...document.querySelectorAll("[role=tab]")];
const names = tabs.map((tab) => tab.getAttribute("aria-controls"));
let open = "generate";

const page = {
  studio: null,
  tab: () => open,
  async edit(recipe) {
    openTab("edit");
    await tools.edit.setBase(recipe);
  },
  addToMorph(recipe, button) {
    const text = button.textContent;
    button.textContent = "Added";
    setTimeout(() => (button.textContent = text), 1200);
    return tools.morph.add(recipe);
  },
  compare(face) {
    tools.compare.setFace(face);
    openTab("compare");
  },
};

const tools = {
  generate: makeGenerate(page),
  edit: makeEdit(page),
  morph: makeMorph(page),
  map: makeMap(page),
  compare: makeCompare(page),
  training: makeTraining(page),
};

// Shows a tab's panel, and the tab itself where narrow screens cut the row of tabs.
function choose(name) {
  open = name;
  for (const tab of tabs) {
    const chosen = tab.getAttribute("aria-controls") === name;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
    $(tab.getAttribute("aria-controls")).hidden = !chosen;
    if (chosen) tab.scrollIntoView({ block: "nearest", inline: "nearest" });
  }
}

function openTab(name) {
  choose(name);
  if (!["generate", "edit"].includes(name)) writeLink(name, { run: $("run").value });
  Promise.resolve(tools[name].show()).catch(notify);
}

async function setRun(name) {
  const run = page.studio.runs.find((candidate) => candidate.name === name) ?? page.studio.runs[0];
  if (run) $("run").value = run.name;
  tools.edit.stale();
  const needed = run ? names : names.filter((tool) => !NEED_A_RUN.includes(tool));
  // The open tab first; the others load behind it.
  await Promise.all([open, ...needed.filter((tool) => tool !== open)].filter((tool) => needed.includes(tool)).map((tool) => tools[tool].setRun(run)));
}

for (const tab of tabs) on(tab, "click", () => openTab(tab.getAttribute("aria-controls")));
on($("tabs"), "keydown", (event) => {
  const steps = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return;
  const usable = tabs.filter((tab) => !tab.disabled);
  const place = usable.indexOf(document.activeElement) + steps[event.key];
  const wrapped = Number.isFinite(place) ? (place + usable.length) % usable.length : place < 0 ? 0 : usable.length - 1;
  usable[wrapped].focus();
  openTab(usable[wrapped].getAttribute("aria-controls"));
});
on($("run"), "change", () => {
  writeLink(open, { run: $("run").value });
  return setRun($("run").value);
});
on(window, "hashchange", start);

// Shows the tab and the run of the address.
async function start() {
  const { tab, values } = readLink();
  const { runs } = page.studio;
  for (const each of tabs) each.disabled = !runs.length && NEED_A_RUN.includes(each.getAttribute("aria-controls"));
  choose(!runs.length ? "training" : names.includes(tab) ? tab : "generate");
  await setRun(values.get("run"));
}

try {
  page.studio = await get("studio");
  makePicker();
  $("run").replaceChildren(...page.studio.runs.map((run) => option(run.name, `${run.name} (${run.family})`)));
  $("links").prepend(...Object.entries(page.studio.links).map(([title, href]) => element("a", { href, textContent: title, target: "_blank", rel: "noopener" })));
  $("notes").replaceChildren(...page.studio.notes.map((note) => notice(sentence(note))));
  await start();
} catch (error) {
  notify(error);
}
