// Edit: a photo, a face of the data set or a saved latent, changed by attributes and degree.

import { get, picture, post, runPath, sentence, upload } from "./api.js";
import { $, Painter, Slider, copyLink, degreeSlider, describeFace, element, notify, on, save, show } from "./dom.js";
import { numberOr, packNumbers, readLink, unpackNumbers, writeLink } from "./link.js";
import { pickFace, takePhoto } from "./picker.js";
import { faceFor, sampleOf } from "./samples.js";
import { attributeSlider } from "./sliders.js";

const MANY = 12; // So many attributes are searched.

export function makeEdit(page) {
  let run;
  let base = null; // A recipe: the face before edits.
  let strengths = {};
  let degree = null;
  let ownDegree = null;
  let attributes = [];
  let size = { width: 1, height: 1 };
  let framing = [];
  let guided = ""; // The run whose average is shown.

  const edited = () => ({ ...base, attributes: strengths, degree: run.condition ? (degree ?? base.degree ?? null) : null });
  const painter = new Painter(
    $("edit-face"),
    async (recipe) => ({ blob: await picture(runPath(run.name, "picture"), recipe, say), alt: `Edited ${describeFace(recipe.face)}` }),
    $("edit-ms"),
  );

  // The face of the link; else the current one if the run can use it; else a first one.
  function firstFace(encodes, linked) {
    if (linked.has("row")) return { kind: "data", split: linked.get("split"), row: numberOr(linked.get("row"), 0) };
    if (linked.has("seed")) return { kind: "sample", seed: numberOr(linked.get("seed"), 0), std: numberOr(linked.get("std"), 1), sampler: linked.get("sampler") };
    const there = base?.face;
    if (there && (there.kind === "sample" || (encodes && there.kind !== "latent"))) return faceFor(run, there);
    return encodes && page.studio.data ? { kind: "data", split: page.studio.data.held_out, row: 0 } : sampleOf(run, 0);
  }

  function say(text) {
    $("edit-caption").textContent = text;
  }

  const reconstruction = new Painter($("edit-reconstruction"), async (recipe) => ({
    blob: await picture(runPath(run.name, "picture"), recipe, say),
    alt: "Reconstruction",
  }));
  const original = new Painter($("edit-original"), async (face) => ({
    blob: await picture(runPath(run.name, "original"), face),
    alt: "Original",
  }));

  function paint(since) {
    if (!base) return undefined;
    write();
    return painter.paint(edited(), since);
  }

  function write() {
    const face = base?.face ?? {};
    writeLink("edit", {
      run: run?.name,
      seed: face.seed,
      std: face.std === 1 ? "" : face.std,
      sampler: face.sampler,
      split: face.split,
      row: face.row,
      axes: packNumbers(base?.axes ?? {}),
      attributes: packNumbers(strengths),
      degree,
    });
  }

  async function setBase(recipe) {
    base = recipe;
    degree = null;
    makeDegree();
    await showBase();
  }

  async function showBase() {
    const face = base.face;
    const isFace = face.kind === "data" || face.kind === "upload";
    $("edit-framing").hidden = face.kind !== "upload";
    $("edit-align-field").hidden = !run.aligns;
    const caption = `${describeFace(face)}${isFace ? "" : ": made by the model, so it has no original"}`;
    say(caption);
    if (!isFace) $("edit-original").removeAttribute("src");
    if (face.kind === "upload") showGuide().catch(failed);
    await Promise.all([paint(), reconstruction.paint(base), isFace && original.paint(face), showOwnDegree()]);
    // Nothing is being waited for any more.
    if (base.face === face) say(caption);
  }

  // Sets the slider to the face's own degree, unless it was moved; a photo's degree is unknown.
  async function showOwnDegree() {
    if (!run.condition || degree !== null) return;
    const asked = base;
    const { degree: own } = await post(runPath(run.name, "place?num=1"), asked);
    if (asked !== base || degree !== null) return;
    if (own === null) ownDegree.element.querySelector("small").textContent = "unknown for this face";
    else ownDegree.show(own);
  }

  async function open(file) {
    const { max_bytes: most } = page.studio.upload;
    if (file.size > most) throw new Error(`This file is larger than ${most / 1e6} MB; give a smaller copy.`);
    const answer = await upload(file);
    if (answer.width) {
      size = answer;
      makeFraming();
      $("edit-align").checked = run.aligns;
      const found = $("edit-align").checked && (await alignable(answer.face));
      $("edit-align").checked = Boolean(found);
      await setBase({ face: framed(answer.face), axes: {} });
    } else {
      await setBase({ face: answer.face, axes: {} });
    }
  }

  // Whether a photo's face is found; if not, the photo is framed by hand.
  async function alignable(face) {
    try {
      return await picture(runPath(run.name, "original"), { ...face, crop: null, align: true });
    } catch (error) {
      notify(error);
      return null;
    }
  }

  function framed(face) {
    const align = $("edit-align").checked;
    $("edit-by-hand").hidden = align;
    return { ...face, align, crop: align ? null : crop() };
  }

  // The square part of the photo that the framing sliders choose, as fractions.
  function crop() {
    const [zoom, right, down] = framing.map((slider) => slider.value);
    const side = Math.min(size.width, size.height) / zoom;
    const left = ((size.width - side) * (right + 1)) / 2 / size.width;
    const upper = ((size.height - side) * (down + 1)) / 2 / size.height;
    const bounded = (value) => Math.min(Math.max(value, 0), 1);
    return [left, upper, left + side / size.width, upper + side / size.height].map(bounded);
  }

  function makeFraming() {
    framing = [
      new Slider({ label: "Zoom", min: 1, max: 4, step: 0.02, value: 1 }),
      new Slider({ label: "Left to right", min: -1, max: 1, step: 0.02 }),
      new Slider({ label: "Up to down", min: -1, max: 1, step: 0.02 }),
    ];
    for (const slider of framing) {
      slider.onmove = () => {
        base = { ...base, face: framed(base.face) };
        showBase();
      };
    }
    $("edit-crop").replaceChildren(...framing.map((slider) => slider.element));
  }

  function failed(error) {
    guided = "";
    notify(error);
  }

  // The average that a photo is framed by, once for each run.
  async function showGuide() {
    if (guided === run.name) return;
    guided = run.name;
    $("edit-guide").removeAttribute("src");
    const { name } = run;
    const explain = (text) => guided === name && ($("edit-guide-about").textContent = text);
    const blob = await picture(runPath(name, "picture"), { face: { kind: "mean" } }, explain);
    if (guided !== name) return;
    await show($("edit-guide"), blob, "Average training face");
    explain("Eyes and mouth must be where they are in this average of the training faces.");
  }

  function makeDegree() {
    $("edit-degree").replaceChildren();
    if (!run.condition) return;
    const slider = degreeSlider(run.condition, degree);
    slider.onmove = (value, since) => {
      degree = value;
      slider.element.querySelector("small")?.remove();
      paint(since);
    };
    ownDegree = slider;
    $("edit-degree").append(slider.element);
  }

  async function loadAttributes() {
    const list = $("edit-attributes");
    attributes = [];
    list.setAttribute("aria-busy", "true");
    const asked = run.name;
    try {
      const { attributes: found, reason } = await get(runPath(run.name, "attributes"), (text) => list.replaceChildren(element("p", { className: "working", textContent: text })));
      if (asked !== run.name) return;
      attributes = found.map((attribute) => {
        const slider = attributeSlider(attribute, strengths[attribute.name]);
        slider.onmove = (value, since) => {
          if (value) strengths = { ...strengths, [attribute.name]: value };
          else delete strengths[attribute.name];
          paint(since);
        };
        return { name: attribute.name, slider };
      });
      list.replaceChildren(...attributes.map(({ slider }) => slider.element));
      if (reason) list.replaceChildren(element("p", { className: "working", textContent: sentence(reason) }));
      $("edit-attributes-about").textContent = reason ? "" : "1 is the distance from the mean without to the mean with";
      $("edit-search").parentElement.hidden = attributes.length < MANY;
      if (attributes.length < MANY) $("edit-search").value = "";
      search();
    } catch (error) {
      list.replaceChildren(element("p", { className: "working", textContent: error.message }));
    }
    list.setAttribute("aria-busy", "false");
  }

  function search() {
    const wanted = $("edit-search").value.trim().toLowerCase().replaceAll("_", " ");
    for (const { name, slider } of attributes) {
      slider.element.hidden = !name.toLowerCase().replaceAll("_", " ").includes(wanted);
    }
  }

  on($("edit-search"), "input", search);
  on($("edit-align"), "change", async () => {
    if ($("edit-align").checked && !(await alignable(base.face))) $("edit-align").checked = false;
    base = { ...base, face: framed(base.face) };
    await showBase();
  });
  on($("edit-file"), "change", async () => {
    const [file] = $("edit-file").files;
    $("edit-file").value = "";
    if (file) await open(file);
  });
  on($("edit-webcam"), "click", () => takePhoto(open));
  on($("edit-data"), "click", () => pickFace(page.studio.data, (face) => setBase({ face, axes: {} })));
  on($("edit-reset"), "click", () => {
    strengths = {};
    degree = null;
    makeDegree();
    for (const { slider } of attributes) slider.show(0);
    paint();
  });
  on($("edit-morph"), "click", () => base && page.addToMorph(edited(), $("edit-morph")));
  on($("edit-compare"), "click", () => base && page.compare(base.face));
  on($("edit-link"), "click", () => copyLink($("edit-link")));
  on($("edit-png"), "click", async () => base && save(await picture(runPath(run.name, "picture"), edited()), `${run.name}-edit.png`));
  on($("edit-latent"), "click", async () => base && save(await picture(runPath(run.name, "latent"), edited()), `${run.name}-edit.safetensors`));

  const drop = $("edit");
  for (const name of ["dragenter", "dragover"]) {
    drop.addEventListener(name, (event) => {
      event.preventDefault();
      $("edit-drop").classList.add("over");
    });
  }
  drop.addEventListener("dragleave", () => $("edit-drop").classList.remove("over"));
  on(drop, "drop", async (event) => {
    event.preventDefault();
    $("edit-drop").classList.remove("over");
    if (event.dataTransfer.files[0]) await open(event.dataTransfer.files[0]);
  });
  on(document, "paste", async (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file && page.tab() === "edit") await open(file);
  });

  return {
    setBase,
    async setRun(chosen) {
      run = chosen;
      const { tab, values } = readLink();
      strengths = tab === "edit" ? unpackNumbers(values.get("attributes")) : {};
      degree = null;
      const encodes = run.can.includes("encode");
      for (const id of ["edit-file", "edit-webcam"]) $(id).disabled = !encodes;
      $("edit-data").disabled = !encodes || !page.studio.data;
      base = { face: firstFace(encodes, tab === "edit" ? values : new URLSearchParams()), axes: tab === "edit" ? unpackNumbers(values.get("axes")) : {} };
      if (tab === "edit" && values.has("degree")) degree = numberOr(values.get("degree"), null);
      makeDegree();
      const attributesThere = loadAttributes();
      if (page.tab() === "edit") await showBase();
      await attributesThere;
    },
    async show() {
      write();
      if (base && !$("edit-face").hasAttribute("src")) await showBase();
    },
    stale: () => $("edit-face").removeAttribute("src"),
  };
}
