// Generate: the face of a seed, moved along components.

import { get, picture, post, runPath } from "./api.js";
import { $, Painter, Slider, copyLink, degreeSlider, element, on, option, randomSeed, save, show } from "./dom.js";
import { numberOr, packNumbers, readLink, unpackNumbers, writeLink } from "./link.js";
import { firstSampler, firstStd } from "./samples.js";
import { FIRST, KINDS, axisSlider } from "./sliders.js";

const MORE = 24;

export function makeGenerate(page) {
  let run;
  let state = { seed: 0, std: 1, sampler: null, mean: false, axes: {}, degree: null };
  let sliders = [];
  let total = 0;
  let stdSlider;
  let openedStd = 1;
  let degree;

  const painter = new Painter(
    $("generate-face"),
    async (recipe) => ({
      blob: await picture(runPath(run.name, "picture"), recipe, (text) => ($("generate-caption").textContent = text)),
      alt: `Face of ${describe()}`,
    }),
    $("generate-ms"),
  );

  const face = () => (state.mean ? { kind: "mean" } : { kind: "sample", seed: state.seed, std: state.std, sampler: state.sampler });
  const recipe = () => ({ face: face(), axes: state.axes, degree: run.condition ? state.degree : null });
  const moves = () => Object.keys(state.axes).length;
  const describe = () => (state.mean ? "the average" : `seed ${state.seed}`) + (moves() ? `, ${moves()} moved` : "");

  function paint(since) {
    painter.paint(recipe(), since).then(() => ($("generate-caption").textContent = describe()));
    write();
  }

  function write() {
    writeLink("generate", {
      run: run.name,
      seed: state.mean ? "mean" : state.seed,
      std: state.std === 1 ? "" : state.std,
      sampler: state.sampler,
      axes: packNumbers(state.axes),
      degree: state.degree,
      keep: sliders.filter((slider) => slider.locked).map((slider) => slider.axis).join(","),
    });
  }

  // Sets the sliders to the face's place; called when the face changes, not when a slider does.
  async function place() {
    if (!sliders.length) return;
    const asked = recipe();
    const { coordinates } = await post(runPath(run.name, `place?num=${sliders.length}`), asked);
    if (JSON.stringify(asked) === JSON.stringify(recipe())) sliders.forEach((slider, axis) => slider.show(coordinates[axis] ?? 0));
  }

  function newFace(seed, mean = false) {
    const kept = sliders.filter((slider) => slider.locked).map((slider) => [slider.axis, slider.value]);
    state = { ...state, seed, mean, axes: mean ? {} : Object.fromEntries(kept) };
    return refresh();
  }

  async function refresh() {
    $("generate-seed").value = state.seed;
    stdSlider.show(state.std);
    paint();
    await place();
    await neighbors();
  }

  async function addSliders(num) {
    const list = $("generate-axes");
    const { axes, kind, total: all } = await get(runPath(run.name, `axes?first=${sliders.length}&num=${num}`), (text) => {
      list.replaceChildren(element("p", { className: "working", textContent: text }));
    });
    total = all;
    if (!sliders.length) list.replaceChildren();
    const [title, about] = KINDS[kind];
    $("generate-axes-title").textContent = title;
    $("generate-axes-about").textContent = about;
    for (const axis of axes) {
      const slider = axisSlider(kind, axis, true);
      slider.axis = axis.number;
      slider.onmove = (value, since) => {
        state.axes[axis.number] = value;
        paint(since);
      };
      slider.onreset = () => {
        delete state.axes[axis.number];
        refresh();
      };
      slider.lock.addEventListener("click", write);
      sliders.push(slider);
      list.append(slider.element);
    }
    list.setAttribute("aria-busy", "false");
    const left = total - sliders.length;
    $("generate-more").hidden = left <= 0;
    $("generate-more").textContent = `Show ${Math.min(MORE, left)} more of ${total}`;
  }

  async function neighbors() {
    if (!$("generate-neighbors").open || !sliders.length) return;
    const rows = await post(runPath(run.name, "neighbors"), {
      recipe: recipe(),
      across: Number($("neighbors-across").value),
      down: Number($("neighbors-down").value),
      step: Number($("neighbors-step").value),
    });
    const middle = (rows.length - 1) / 2;
    const tiles = rows.flatMap((row, down) =>
      row.map((tile, across) => {
        const steps = `${across - middle} across, ${down - middle} down`;
        const button = element("button", { type: "button" }, element("img", { src: tile.image, alt: `Neighbor ${steps}` }));
        if (across === middle && down === middle) button.className = "center";
        on(button, "click", () => {
          state.axes = Object.fromEntries(Object.entries(tile.recipe.axes).map(([axis, value]) => [axis, Math.round(value * 1000) / 1000]));
          return refresh();
        });
        return button;
      }),
    );
    $("neighbors-grid").replaceChildren(...tiles);
  }

  function makeDegree() {
    $("generate-degree").replaceChildren();
    degree = null;
    if (!run.condition) return;
    degree = degreeSlider(run.condition, state.degree ?? (run.condition.low + run.condition.high) / 2);
    degree.onmove = (value, since) => {
      state.degree = value;
      paint(since);
    };
    $("generate-degree").append(degree.element);
  }

  function makeSampler() {
    const prior = run.sampler ? [] : [option("", run.can.includes("sample") ? "prior" : "components")];
    $("generate-sampler").replaceChildren(...prior, ...run.samplers.map((name) => option(name, name)));
    $("generate-sampler").value = state.sampler ?? run.sampler ?? "";
    $("generate-sampler-field").hidden = $("generate-sampler").options.length < 2;
  }

  stdSlider = new Slider({ label: "Standard deviation", min: 0, max: 2, limit: 4, value: 1, note: "of the noise behind the face: 1 is as trained, 0 the middle" });
  stdSlider.number.min = 0;
  stdSlider.onmove = (value, since) => {
    state.std = value;
    state.mean = false;
    paint(since);
  };
  on(stdSlider.range, "change", () => place());
  $("generate-std").append(stdSlider.element);

  on($("generate-random"), "click", () => newFace(randomSeed()));
  on($("generate-mean"), "click", () => newFace(state.seed, true));
  on($("generate-seed"), "change", () => newFace(numberOr($("generate-seed").value, 0)));
  on($("generate-sampler"), "change", () => {
    state.sampler = $("generate-sampler").value || null;
    state.std = openedStd = firstStd(state.sampler ?? run.sampler);
    return newFace(state.seed);
  });
  on($("generate-reset"), "click", () => {
    state = { ...state, axes: {}, std: openedStd, degree: null };
    makeDegree();
    return refresh();
  });
  on($("generate-more"), "click", async () => {
    await addSliders(MORE);
    await place();
  });
  on($("generate-link"), "click", () => copyLink($("generate-link")));
  on($("generate-edit"), "click", () => page.edit(recipe()));
  on($("generate-morph"), "click", () => page.addToMorph(recipe(), $("generate-morph")));
  on($("generate-png"), "click", async () => save(await picture(runPath(run.name, "picture"), recipe()), `${run.name}-seed-${state.seed}.png`));
  on($("generate-latent"), "click", async () => save(await picture(runPath(run.name, "latent"), recipe()), `${run.name}-seed-${state.seed}.safetensors`));
  on($("generate-neighbors"), "toggle", neighbors);
  for (const id of ["neighbors-across", "neighbors-down", "neighbors-step"]) on($(id), "change", neighbors);

  return {
    async setRun(chosen) {
      run = chosen;
      const { tab, values } = readLink();
      const linked = tab === "generate" || tab === "" ? values : new URLSearchParams();
      const isLinked = linked.has("seed");
      const sampler = isLinked ? linked.get("sampler") : firstSampler(run);
      openedStd = numberOr(linked.get("std"), isLinked ? 1 : firstStd(sampler));
      state = {
        seed: numberOr(linked.get("seed"), state.seed),
        mean: linked.get("seed") === "mean",
        std: openedStd,
        sampler,
        axes: unpackNumbers(linked.get("axes")),
        degree: linked.has("degree") ? numberOr(linked.get("degree"), null) : null,
      };
      sliders = [];
      $("generate-axes").setAttribute("aria-busy", "true");
      $("generate-seed").value = state.seed;
      stdSlider.show(state.std);
      makeSampler();
      makeDegree();
      const first = painter.paint(recipe()).then(() => ($("generate-caption").textContent = describe()));
      if (page.tab() === "generate") write();
      await first;
      await addSliders(Math.max(FIRST, ...Object.keys(state.axes).map((axis) => Math.min(Number(axis) + 1, 512))));
      const kept = (linked.get("keep") ?? "").split(",").filter(Boolean).map(Number);
      for (const slider of sliders) slider.locked = kept.includes(slider.axis);
      const names = sliders.map((slider) => option(slider.axis, slider.element.querySelector("label").firstChild.textContent));
      $("neighbors-across").replaceChildren(...names.map((name) => name.cloneNode(true)));
      $("neighbors-down").replaceChildren(...names);
      $("neighbors-down").value = total > 1 ? 1 : 0;
      await place();
      await neighbors();
    },
    show: write,
  };
}
