// Morph: a path through two or more faces, and its animation.

import { picture, runPath } from "./api.js";
import { $, Painter, Slider, describeFace, element, on, randomSeed, save, show } from "./dom.js";
import { pickFace } from "./picker.js";
import { sampleOf } from "./samples.js";

const MOST = 8;
const SECONDS_PER_FACE = 2;

export function makeMorph(page) {
  let run;
  let recipes = [];
  let playing = 0;

  const painter = new Painter(
    $("morph-face"),
    async (body) => ({
      blob: await picture(runPath(run.name, "morph"), body, (text) => ($("morph-caption").textContent = text)),
      alt: `Morph at ${body.position.toFixed(2)}`,
    }),
    $("morph-ms"),
  );
  const position = new Slider({ label: "Place", small: "face to face", min: 0, max: 1, step: 0.01 });
  position.onmove = (value, since) => {
    stop();
    paint(since);
  };
  $("morph-position").append(position.element);

  const way = () => ({ recipes, path: document.querySelector("input[name=path]:checked").value });

  function paint(since) {
    if (recipes.length < 2) return;
    painter.paint({ ...way(), position: position.value }, since).then(() => {
      const part = Math.min(Math.floor(position.value), recipes.length - 2);
      const share = Math.round(100 * (position.value - part));
      $("morph-caption").textContent = `${describeFace(recipes[part].face)}, ${share} % towards ${describeFace(recipes[part + 1].face)}`;
    });
  }

  function add(recipe) {
    if (recipes.length >= MOST) throw new Error(`A morph goes through at most ${MOST} faces; remove one first.`);
    recipes.push(recipe);
    return draw();
  }

  async function draw() {
    const ready = recipes.length > 1;
    for (const id of ["morph-play", "morph-export"]) $(id).disabled = !ready;
    position.range.disabled = position.number.disabled = !ready;
    position.range.max = position.number.max = Math.max(recipes.length - 1, 1);
    position.show(Math.min(position.value, Math.max(recipes.length - 1, 1)));
    $("morph-caption").textContent = ready ? "" : "Add a second face.";
    $("morph-faces").replaceChildren(...recipes.map(item));
    paint();
    await Promise.all(
      recipes.map(async (recipe, place) => {
        const image = $("morph-faces").children[place].querySelector("img");
        await show(image, await picture(runPath(run.name, "picture"), recipe), describeFace(recipe.face));
      }),
    );
  }

  function item(recipe, place) {
    const button = (text, label, action, disabled = false) => {
      const made = element("button", { type: "button", textContent: text, disabled });
      made.setAttribute("aria-label", `${label} face ${place + 1}`);
      on(made, "click", action);
      return made;
    };
    const swap = (other) => {
      [recipes[place], recipes[other]] = [recipes[other], recipes[place]];
      return draw();
    };
    return element(
      "li",
      {},
      element("img", { alt: describeFace(recipe.face), width: 96, height: 96 }),
      element(
        "span",
        { className: "moves" },
        button("\u2190", "Move earlier:", () => swap(place - 1), place === 0),
        button("\u00d7", "Remove", () => {
          recipes.splice(place, 1);
          return draw();
        }),
        button("\u2192", "Move later:", () => swap(place + 1), place === recipes.length - 1),
      ),
    );
  }

  function stop() {
    playing = 0;
    $("morph-play").textContent = "Play";
  }

  function play() {
    const me = ++playing;
    $("morph-play").textContent = "Stop";
    const start = performance.now();
    const parts = recipes.length - 1;
    const step = (now) => {
      if (playing !== me || page.tab() !== "morph") return;
      const turned = ((now - start) / 1000 / SECONDS_PER_FACE) % (2 * parts);
      position.show(Math.round(100 * Math.min(turned, 2 * parts - turned)) / 100);
      paint(now);
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  on($("morph-play"), "click", () => (playing ? stop() : play()));
  on($("morph-random"), "click", () => add({ face: sampleOf(run, randomSeed()) }));
  on($("morph-data"), "click", () => pickFace(page.studio.data, (face) => add({ face })));
  on($("morph-clear"), "click", () => {
    recipes = [];
    stop();
    $("morph-face").removeAttribute("src");
    return draw();
  });
  for (const radio of document.querySelectorAll("input[name=path]")) on(radio, "change", () => paint());
  on($("morph-export"), "click", async () => {
    const format = $("morph-format").value;
    $("morph-export").disabled = true;
    try {
      const blob = await picture(runPath(run.name, "morph/animation"), { ...way(), steps: Number($("morph-steps").value), format });
      $("morph-exported").hidden = false;
      await show($("morph-animation"), blob, "The exported animation");
      save(blob, `${run.name}-morph.${format}`);
    } finally {
      $("morph-export").disabled = false;
    }
  });

  return {
    add,
    async setRun(chosen) {
      stop();
      if (run && run.name !== chosen.name) recipes = [];
      run = chosen;
      $("morph-data").disabled = !page.studio.data || !run.can.includes("encode");
      if (!recipes.length) recipes = [11, 23].map((seed) => ({ face: sampleOf(run, seed) }));
      if (page.tab() === "morph") await draw();
    },
    show: draw,
  };
}
