// Training: what a run has written so far, read again while the tab is open.

import { get } from "./api.js";
import { $, Slider, element, notify, on, option } from "./dom.js";

const EVERY_MS = 4000;
const TITLES = { reconstructions: "Held-out faces above their reconstructions", samples: "Samples of the same latents" };

export function makeTraining(page) {
  let timer = 0;
  let pictures = {};

  const path = (rest = "") => `trainings/${encodeURIComponent($("training-run").value)}${rest}`;

  async function load() {
    clearTimeout(timer);
    if (page.tab() !== "training" || !$("training-run").value) return;
    try {
      draw(await get(path()));
    } catch (error) {
      notify(error);
    }
    timer = setTimeout(load, EVERY_MS);
  }

  function draw(found) {
    const goal = found.goal ? `, trains to ${found.goal}` : "";
    $("training-about").textContent = `${found.images_seen.toLocaleString("en")} images seen${goal}`;
    $("training-numbers").replaceChildren(
      ...Object.entries(found.latest).map(([key, value]) =>
        element("div", {}, element("dt", { textContent: key.replaceAll("_", " ") }), element("dd", { textContent: Number(value.toPrecision(4)).toLocaleString("en", { maximumFractionDigits: 6 }) })),
      ),
    );
    $("training-warnings").replaceChildren(...found.warnings.map((text) => element("p", { className: "notice", textContent: text })));
    for (const [kind, numbers] of Object.entries(found.pictures)) drawPictures(kind, numbers);
    const curves = Object.entries(found.curves).map(([key, title]) => {
      const known = $("training-curves").querySelector(`[data-key=${key}]`);
      const figure = known ?? element("figure", { className: "curve" }, element("figcaption", { textContent: title }), element("img", { alt: title }));
      figure.dataset.key = key;
      figure.querySelector("img").src = `/api/${path(`/curves/${key}`)}?images_seen=${found.images_seen}`;
      return figure;
    });
    $("training-curves").replaceChildren(...curves);
  }

  // A slider through the pictures of one kind; at the newest picture, it follows new ones.
  function drawPictures(kind, numbers) {
    const known = pictures[kind];
    if (!numbers.length || (known && known.numbers.length === numbers.length)) return;
    const last = numbers.length - 1;
    const wasNewest = !known || known.slider.value === known.numbers.length - 1;
    const slider = new Slider({ label: TITLES[kind] ?? kind, min: 0, max: Math.max(last, 1), step: 1, value: wasNewest ? last : known.slider.value });
    slider.number.hidden = true;
    slider.range.disabled = last === 0;
    const image = known?.image ?? element("img", {});
    const place = () => {
      const images = numbers[Math.min(slider.value, last)];
      image.src = `/api/${path(`/pictures/${kind}/${images}`)}`;
      image.alt = `${kind} after ${images.toLocaleString("en")} images`;
      caption.textContent = `after ${images.toLocaleString("en")} images`;
    };
    const caption = element("p", { className: "soft" });
    slider.onmove = place;
    const section = element("div", {}, slider.element, caption, image);
    if (known) known.section.replaceWith(section);
    else $("training-pictures").append(section);
    pictures[kind] = { numbers, slider, image, section };
    place();
  }

  function reset() {
    pictures = {};
    $("training-pictures").replaceChildren();
    $("training-curves").replaceChildren();
    return load();
  }

  on($("training-run"), "change", reset);

  return {
    async setRun(chosen) {
      if (!$("training-run").options.length) $("training-run").replaceChildren(...page.studio.trainings.map((name) => option(name, name)));
      if (chosen && page.studio.trainings.includes(chosen.name)) $("training-run").value = chosen.name;
      if (!page.studio.trainings.length) $("training-about").textContent = "These snapshots are not in a run directory, so there is no training to show.";
      await reset();
    },
    show: load,
  };
}
