// Compare: the same face, or the same noise, through every run.

import { post, sentence } from "./api.js";
import { $, Slider, degreeSlider, describeFace, element, notify, on, randomSeed } from "./dom.js";
import { numberOr } from "./link.js";
import { pickFace } from "./picker.js";
import { faceFor, firstSampler, firstStd } from "./samples.js";

const WAIT_MS = 1000;

function figure() {
  const image = element("img", { alt: "" });
  const caption = element("figcaption");
  return { image, caption, element: element("figure", { className: "face" }, image, caption) };
}

// A run and its picture of the newest face; each run answers for itself, so a fast one does not wait for a slow one.
class Card {
  constructor(run) {
    this.run = run;
    this.next = null;
    this.busy = false;
    this.original = figure();
    this.picture = figure();
    this.reason = element("p", { className: "working", hidden: true });
    this.original.element.hidden = true;
    this.original.caption.textContent = "original";
    const facts = `${run.family}, ${run.latent_size.toLocaleString("en")} latents, ${run.images_seen.toLocaleString("en")} images`;
    this.element = element(
      "article",
      {},
      element("h2", { textContent: run.name }),
      element("p", { className: "soft", textContent: facts }),
      element("div", { className: "pair" }, this.original.element, this.picture.element, this.reason),
    );
  }

  // The newest request wins, as with single pictures.
  async ask(recipe) {
    this.next = recipe;
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.next) {
        const asked = this.next;
        this.next = null;
        const [answer] = await post("compare", { runs: [this.run.name], recipe: asked });
        this.show(answer, asked.face);
        if (!answer.working || this.next) continue;
        await new Promise((resolve) => setTimeout(resolve, WAIT_MS));
        this.next ??= asked;
      }
    } finally {
      this.busy = false;
    }
  }

  show({ image, original, mse, error, working }, face) {
    this.picture.element.hidden = !image;
    this.original.element.hidden = !original;
    this.reason.hidden = Boolean(image);
    if (!image) {
      this.reason.textContent = sentence(error ?? working);
      return;
    }
    this.picture.image.src = image;
    this.picture.caption.textContent = mse === null ? describeFace(face) : `MSE ${mse.toFixed(4)}`;
    this.picture.image.alt = `${this.picture.caption.textContent}, ${this.run.name}`;
    if (original) this.original.image.src = original;
    this.original.image.alt = `original, ${this.run.name}`;
  }
}

export function makeCompare(page) {
  let face = null; // A sample that names no sampler is drawn by each run's own.
  let degree = null;
  let cards = [];

  const std = new Slider({ label: "Standard deviation", min: 0, max: 2, limit: 4, value: 1 });
  std.number.min = 0;
  std.onmove = (value) => {
    if (face.kind === "sample") face = { ...face, std: value };
    ask();
  };

  function ask() {
    const noise = face.kind === "sample" ? ": the same noise where latents are of one size" : "";
    $("compare-about").textContent = `${describeFace(face)}${noise}`;
    for (const card of cards) card.ask({ face: faceFor(card.run, face), degree }).catch(notify);
  }

  function setFace(chosen) {
    face = chosen;
    std.element.hidden = face.kind !== "sample";
    if (face.kind === "sample") {
      $("compare-seed").value = face.seed;
      std.show(face.std);
    }
    ask();
  }

  const sample = (seed) => setFace({ kind: "sample", seed, std: std.value });
  $("compare-std").append(std.element);
  on($("compare-random"), "click", () => sample(randomSeed()));
  on($("compare-seed"), "change", () => sample(numberOr($("compare-seed").value, 0)));
  on($("compare-data"), "click", () => pickFace(page.studio.data, setFace));

  function begin() {
    const { runs } = page.studio;
    cards = runs.map((run) => new Card(run));
    $("compare-runs").replaceChildren(...cards.map((card) => card.element));
    $("compare-data").disabled = !page.studio.data;
    std.show(Math.min(...runs.map((run) => firstStd(firstSampler(run)))));
    face ??= { kind: "sample", seed: 0, std: std.value };
    const conditional = runs.find((run) => run.condition);
    if (!conditional) return;
    const slider = degreeSlider(conditional.condition, null);
    slider.onmove = (value) => {
      degree = value;
      ask();
    };
    $("compare-degree").append(slider.element);
  }

  return {
    setFace(chosen) {
      face = chosen;
    },
    async setRun() {
      if (!cards.length) begin();
      if (page.tab() === "compare") setFace(face);
    },
    show() {
      if (cards.length) setFace(face);
    },
  };
}
