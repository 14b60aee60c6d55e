// Compare: the same face, or the same noise, through every run.

import { post, sentence } from "./api.js";
import { $, Slider, degreeSlider, describeFace, element, notify, on, randomSeed } from "./dom.js";
import { numberOr } from "./link.js";
import { pickFace } from "./picker.js";

const WAIT_MS = 1000;

export function makeCompare(page) {
  let face = { kind: "sample", seed: 0, std: 1 };
  let degree = null;
  let next = null;
  let busy = false;
  let later = 0;

  const std = new Slider({ label: "Standard deviation", min: 0, max: 2, limit: 4, value: 1 });
  std.number.min = 0;
  std.onmove = (value) => {
    if (face.kind === "sample") face = { ...face, std: value };
    ask();
  };

  // The newest request wins, as with single pictures.
  async function ask() {
    next = { runs: page.studio.runs.map((run) => run.name), recipe: { face, degree } };
    if (busy) return;
    busy = true;
    try {
      while (next) {
        const body = next;
        next = null;
        const about = (text) => ($("compare-about").textContent = text);
        const answers = await post("compare", body, about);
        about(`${describeFace(body.recipe.face)}${body.recipe.face.kind === "sample" ? ": the same noise where latents are of one size" : ""}`);
        $("compare-runs").replaceChildren(...answers.map(card));
        clearTimeout(later);
        if (answers.some(({ working }) => working)) later = setTimeout(ask, WAIT_MS);
      }
    } catch (error) {
      notify(error);
    } finally {
      busy = false;
    }
  }

  function card({ run, image, original, mse, error, working }) {
    const about = page.studio.runs.find(({ name }) => name === run);
    const figure = (src, caption) =>
      element("figure", { className: "face" }, element("img", { src, alt: `${caption}, ${run}` }), element("figcaption", { textContent: caption }));
    const pair = element("div", { className: "pair" });
    if (original) pair.append(figure(original, "original"));
    if (image) pair.append(figure(image, mse === null ? describeFace(face) : `MSE ${mse.toFixed(4)}`));
    const facts = `${about.family}, ${about.latent_size.toLocaleString("en")} latents, ${about.images_seen.toLocaleString("en")} images`;
    return element(
      "article",
      {},
      element("h2", { textContent: run }),
      element("p", { className: "soft", textContent: facts }),
      image ? pair : element("p", { className: "working", textContent: sentence(error ?? working) }),
    );
  }

  function setFace(chosen) {
    face = chosen;
    std.element.hidden = face.kind !== "sample";
    if (face.kind === "sample") $("compare-seed").value = face.seed;
    return ask();
  }

  const sample = (seed) => setFace({ kind: "sample", seed, std: std.value });
  $("compare-std").append(std.element);
  on($("compare-random"), "click", () => sample(randomSeed()));
  on($("compare-seed"), "change", () => sample(numberOr($("compare-seed").value, 0)));
  on($("compare-data"), "click", () => pickFace(page.studio.data, setFace));

  return {
    setFace(chosen) {
      face = chosen;
    },
    async setRun() {
      if ($("compare-degree").childElementCount) return;
      $("compare-data").disabled = !page.studio.data;
      $("compare-seed").value = 0;
      const conditional = page.studio.runs.find((run) => run.condition);
      if (!conditional) return;
      const slider = degreeSlider(conditional.condition, null);
      slider.onmove = (value) => {
        degree = value;
        ask();
      };
      $("compare-degree").append(slider.element);
    },
    show: () => setFace(face),
  };
}
